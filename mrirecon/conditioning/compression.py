"""Coil compression: as few virtual coils as hold the signal, so that maps and methods cost less."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mrirecon.acquisition.scan import Scan, Step
from mrirecon.conditioning.oversampling import to_image, to_kspace
from mrirecon.errors import UsageError
from mrirecon.physics.calibration import calibration_width

Read = Callable[[int], NDArray[np.complex64]]
Matrices = NDArray[np.complex64]
#: Slices, spread over the stack, from which one matrix for all of them is found.
SLICES = 8
#: A wider calibration block holds little more of the coils.
BLOCK = 32
#: Neighbouring positions, on either side, whose calibration is joined in the geometric method.
NEIGHBOURS = 2


def compress_coils(scan: Scan, coils: float, kind: Literal["svd", "geometric"]) -> Scan:
    """The scan with virtual coils: orthonormal combinations of its coils that hold the most energy of the calibration.

    coils: how many (whole number), or the share of the energy below 1 that they must hold. kind: "svd", one matrix for
    the scan (Buehrer et al., MRM 57:1131, 2007; Huang et al., MRI 26:133, 2008), or "geometric", one for each position
    along the readout, aligned between neighbours (Zhang et al., MRM 69:571, 2013).
    Reads calibration data now. White noise stays white, at its level. The same scan, with a step that says so, if there
    are no more coils than asked for. Raises UsageError for "geometric" where the readout is unknown.
    """
    if coils >= scan.coils:
        return replace(scan, steps=(*scan.steps, Step("compression", f"left out: {scan.coils} coils, {coils:g} asked")))
    axis = scan.header.readout_axis
    if kind == "geometric" and scan.stack == "slices" and axis is None:
        raise UsageError(
            f"{scan.path}: geometric coil compression needs the readout, which is unknown; name it (--axes), or "
            "compress with svd."
        )
    positions = "yx".index(axis) - 2 if kind == "geometric" and axis else None
    covariances = _covariances(scan, kind, positions)
    values, vectors = np.linalg.eigh(covariances)
    energy = values[:, ::-1].clip(0).sum(axis=0).cumsum()
    share = energy / energy[-1] if energy[-1] > 0 else np.ones(scan.coils)
    count = int(coils) if coils >= 1 else int(np.searchsorted(share, coils)) + 1
    matrices = vectors[:, :, ::-1][:, :, :count].conj().swapaxes(1, 2)
    matrices = _aligned(matrices).astype(np.complex64)
    what = "one matrix" if kind == "svd" else f"{len(matrices)} matrices along the readout"
    done = f"{scan.coils} coils compressed to {count} ({kind}, {what}), {share[count - 1]:.2%} of the energy kept"
    header = scan.header
    if positions is not None:
        # Matrices that vary along the readout spread samples into its unmeasured part; it stays known as such.
        header = replace(header, acquired=scan.acquired)
    calibration = scan.read_calibration
    return replace(
        scan,
        shape=(scan.slices, count, *scan.shape[2:]),
        read_slice=CompressedReader(scan.read_slice, matrices, positions),
        read_calibration=calibration and CompressedReader(calibration, matrices, positions),
        header=header,
        steps=(*scan.steps, Step("compression", done)),
    )


@dataclass(frozen=True, eq=False)
class CompressedReader:
    """Slice index → complex64 (virtual coils, y, x).

    matrices: complex64 (1, slices or readout positions; virtual coils; coils). readout: axis of the positions (−2, −1);
    None where the matrices, if several, are those of the slices.
    """

    read: Read
    matrices: Matrices
    readout: int | None

    def __call__(self, index: int) -> NDArray[np.complex64]:
        kspace = self.read(index)
        if self.readout is None:
            return np.tensordot(self.matrices[index % len(self.matrices)], kspace, axes=1)
        image = np.moveaxis(to_image(kspace, self.readout), self.readout, 0)  # (position, coils, phase encode)
        return to_kspace(np.ascontiguousarray(np.moveaxis(self.matrices @ image, 0, self.readout)), self.readout)


def _covariances(scan: Scan, kind: str, readout: int | None) -> NDArray[np.complex128]:
    """Coil covariances of the calibration, complex128 (1, slices or readout positions; coils; coils)."""
    read = scan.read_calibration or scan.read_slice
    per_slice = kind == "geometric" and readout is None
    count = scan.slices if per_slice else min(scan.slices, SLICES)
    chosen = np.linspace(0, scan.slices - 1, count).round().astype(int).tolist()
    found = [_covariance(_calibration(read(index), readout), readout) for index in chosen]
    if kind == "svd":
        return np.sum(found, axis=0)
    positions = np.concatenate(found) if per_slice else np.sum(found, axis=0)
    # Each position with its neighbours: the matrices vary smoothly, and a position without signal follows those with.
    padded = np.pad(positions, ((NEIGHBOURS, NEIGHBOURS), (0, 0), (0, 0)))
    return np.sum([padded[i : i + len(positions)] for i in range(2 * NEIGHBOURS + 1)], axis=0)


def _covariance(block: NDArray[np.complex64], readout: int | None) -> NDArray[np.complex128]:
    if readout is None:
        samples = block.astype(np.complex128).reshape(1, len(block), -1)
    else:
        samples = np.moveaxis(to_image(block, readout), readout, 0).astype(np.complex128)
    return samples @ samples.conj().swapaxes(1, 2)


def _calibration(kspace: NDArray[np.complex64], readout: int | None) -> NDArray[np.complex64]:
    """The fully sampled centre, at most BLOCK wide, of k-space (coils, y, x); where there is none, its centre.

    Along the readout, if one is given, all samples.
    """
    sizes = list(calibration_width((kspace != 0).any(axis=0)))
    for axis in (-2, -1):
        length = kspace.shape[axis]
        size = length if axis == readout else min(sizes[axis] if min(sizes) > 1 else BLOCK, BLOCK, length)
        start = length // 2 - size // 2
        kspace = kspace.take(range(start, start + size), axis=axis)
    return kspace


def _aligned(matrices: NDArray[np.complex128]) -> NDArray[np.complex128]:
    """The matrices turned so that neighbours differ least (orthogonal Procrustes), from the middle outwards."""
    result = matrices.copy()
    middle = len(matrices) // 2
    for index in (*range(middle + 1, len(matrices)), *range(middle - 1, -1, -1)):
        neighbour = result[index - 1 if index > middle else index + 1]
        left, _, right = np.linalg.svd(result[index] @ neighbour.conj().T)
        result[index] = (left @ right).conj().T @ result[index]
    return result
