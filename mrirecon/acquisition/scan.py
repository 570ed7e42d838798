"""`Scan`: the measured k-space of one acquisition, read lazily slice by slice, with the facts known about it."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mrirecon.acquisition.geometry import Geometry
from mrirecon.errors import InputError

Axis = Literal["y", "x"]
Stack = Literal["slices", "partitions", "readouts"]
#: Rows and columns of k-space, half-open: ((y0, y1), (x0, x1)).
Box = tuple[tuple[int, int], tuple[int, int]]

#: A scan is prospectively undersampled if more than this share of the samples inside its acquired range is zero in all
#: coils and slices. One stray zero is not undersampling.
ZERO_SHARE_OF_PROSPECTIVE = 0.02
#: Width of the central k-space block whose root-sum-of-squares image gives the scan's scale.
SCALE_BLOCK = 24
#: Real k-space has over 80 % of its energy in the central quarter of rows and columns, an image less than 20 %.
LEAST_CENTRAL_ENERGY = 0.4


@dataclass(frozen=True)
class Header:
    """Facts from the file's header. None means that the file does not say, never a guess.

    acquired: the rows and columns of k-space that were measured at all, as ((y0, y1), (x0, x1)) half-open; the rest is
        padding. None when the header does not tell.
    recon_size: (y, x) central pixels of the image that are delivered, where the k-space is oversampled.
    recon_partitions: the same for the partitions of a 3D scan.
    readout_kept: samples of the image along the readout, where the readout is oversampled and still to be cropped.
    fov_mm: (y, x) field of view of that image. field_strength_t: main field. frequency_hz: of the resonance.
    """

    readout_axis: Axis | None = None
    acquired: Box | None = None
    recon_size: tuple[int, int] | None = None
    recon_partitions: int | None = None
    readout_kept: int | None = None
    fov_mm: tuple[float, float] | None = None
    slice_thickness_mm: float | None = None
    field_strength_t: float | None = None
    contrast: str | None = None
    tr_ms: float | None = None
    te_ms: float | None = None
    ti_ms: float | None = None
    flip_angle_deg: float | None = None
    vendor: str | None = None
    model: str | None = None
    frequency_hz: float | None = None


@dataclass(frozen=True)
class Step:
    """One step of conditioning that was done, or left out: its name (see `mrirecon.conditioning`) and what it did."""

    name: str
    done: str


@dataclass(frozen=True)
class Noise:
    """Samples of noise alone, from a noise scan.

    samples: complex64 (coils, samples). sample_time_us: dwell time, 0 = unknown. source: where they are from.
    """

    samples: NDArray[np.complex64]
    sample_time_us: float
    source: str


@dataclass(frozen=True)
class Survey:
    """What one pass over all slices found out.

    scale: 99th percentile, over all slices, of the root-sum-of-squares image of the central 24 × 24 of k-space. Methods
        see k-space divided by it; images are multiplied by it again.
    sampled: bool (slices or 1, y, x), samples that are not zero in all coils; one mask for all slices where they agree.
    acquired: bounding box ((y0, y1), (x0, x1)) of the measured samples, half-open.
    zero_share: share of positions inside that box that are not sampled, over the slices that hold data.
    dead_coils, empty_slices: indices of all-zero coils and slices.
    """

    scale: float
    sampled: NDArray[np.bool_]
    acquired: Box
    zero_share: float
    dead_coils: list[int]
    empty_slices: list[int]

    @property
    def prospective(self) -> bool:
        return self.zero_share > ZERO_SHARE_OF_PROSPECTIVE


@dataclass(frozen=True)
class Scan:
    """One acquisition. Made by a reader or by the simulator.

    path: file it came from. format: name of the reader's format, as `mrirecon info` prints it.
    shape: (slices, coils, y, x) of k-space. Single-coil data has one coil.
    read_slice: slice index → complex64 array (coils, y, x), centred k-space as stored; opens the file at each call, so
        that a Scan can cross process borders.
    stored_mask: bool (y, x) sampling mask that the file itself carries, or None.
    read_target: slice index → float32 (y, x) magnitude reference stored in the file, or None. target_name: its key.
    stored_dtype: type of the samples in the file, for `mrirecon info`.
    notes: sentences about what is unknown or was assumed, for `mrirecon info`.
    volume: which of its file's volumes it is, such as "contrast-2"; None if the file has one.
    stack: what the leading axis counts: slices; 3D partitions that are still encoded (kz), which no method takes; or
        positions along the readout of a 3D scan, whose y and x are then the two phase encodes.
    geometry: of the delivered images, for a 3D scan (partition, phase encode 1, readout); None = unknown.
    read_calibration: slice index → complex64 (coils, y, x), separately acquired calibration lines on the same grid,
        zero elsewhere; None = the ACS, if any, is part of the k-space.
    noise: noise scan in the same file. sample_time_us, noise_bandwidth: dwell time and relative receiver noise
        bandwidth of the imaging readouts, needed to relate noise to them. averages: readouts averaged per sample, as
        they lower the noise: where lines differ, the harmonic mean.
    noise_covariance: complex (coils, coils) of the noise that was whitened. noise_std: standard deviation of the
        complex noise in k-space, where conditioning has made it known.
    scaled: False leaves the scale at 1, whatever the data. steps: what conditioning did, in order.
    """

    path: Path
    format: str
    shape: tuple[int, int, int, int]
    read_slice: Callable[[int], NDArray[np.complex64]]
    header: Header = field(default_factory=Header)
    stored_mask: NDArray[np.bool_] | None = None
    read_target: Callable[[int], NDArray[np.float32]] | None = None
    target_name: str | None = None
    stored_dtype: str = "complex64"
    notes: tuple[str, ...] = ()
    volume: str | None = None
    stack: Stack = "slices"
    geometry: Geometry | None = None
    read_calibration: Callable[[int], NDArray[np.complex64]] | None = None
    noise: Noise | None = None
    sample_time_us: float | None = None
    noise_bandwidth: float | None = None
    averages: float = 1.0
    noise_covariance: NDArray[np.complex128] | None = None
    noise_std: float | None = None
    scaled: bool = True
    steps: tuple[Step, ...] = ()

    def __post_init__(self) -> None:
        if min(self.shape) < 1:
            slices, coils, y, x = self.shape
            raise InputError(
                f"{self.path}: holds no k-space: {slices} slices, {coils} coils, {y} × {x} samples. "
                "Check the key and the axes (--key, --axes)."
            )

    @property
    def name(self) -> str:
        """The file's name, and which of its volumes this is."""
        return f"{self.path.name} {self.volume}" if self.volume else self.path.name

    @property
    def slices(self) -> int:
        return self.shape[0]

    @property
    def coils(self) -> int:
        return self.shape[1]

    def kspace(self, index: int) -> NDArray[np.complex64]:
        """K-space of one slice (coils, y, x); InputError if it holds NaN or infinity."""
        with np.errstate(invalid="ignore", over="ignore"):
            kspace = self.read_slice(index)
        if not np.isfinite(kspace).all():
            raise InputError(f"{self.path}: slice {index} holds NaN or infinite samples; export the file again.")
        return kspace

    def __iter__(self) -> Iterator[NDArray[np.complex64]]:
        return (self.kspace(index) for index in range(self.slices))

    @cached_property
    def sha256(self) -> str:
        """Hash of the file's content, for provenance."""
        return sha256_of(self.path)

    @cached_property
    def survey(self) -> Survey:
        """One pass over the scan: scale, sampling, dead coils, empty slices. Memory holds one slice at a time."""
        return survey_scan(self)

    @property
    def acquired(self) -> Box:
        """The range that was measured: as the header tells, and where it limits nothing, as the survey finds."""
        if self.header.acquired is None:
            return self.survey.acquired
        (y, x), (height, width), (found_y, found_x) = self.header.acquired, self.shape[2:], self.survey.acquired
        return (found_y if y == (0, height) else y), (found_x if x == (0, width) else x)

    @property
    def prospective(self) -> bool:
        """Undersampled when it was acquired: so says the stored mask, or the zeros."""
        if self.stored_mask is not None:
            (y0, y1), (x0, x1) = self.acquired
            if not self.stored_mask[y0:y1, x0:x1].all():
                return True
        return self.survey.prospective

    @property
    def middle_slice(self) -> int:
        """The middle one of the slices that hold data."""
        measured = [index for index in range(self.slices) if index not in self.survey.empty_slices]
        return measured[len(measured) // 2]

    @cached_property
    def doubt(self) -> str | None:
        """Why this may be no k-space, judged by the middle slice: a sentence, or None."""
        share = central_energy(self.kspace(self.middle_slice))
        if share >= LEAST_CENTRAL_ENERGY:
            return None
        return (
            f"Only {share:.0%} of the energy lies in the centre of the array, k-space has over 80 % there: is this an "
            "image, or k-space with its zero frequency in the corner?"
        )


def sha256_of(path: Path) -> str:
    """Hash of a file's content, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def survey_scan(scan: Scan) -> Survey:
    """Read every slice once and see what was measured. Raises InputError if nothing was."""
    _, coils, height, width = scan.shape
    union = np.zeros((height, width), dtype=bool)
    patterns: list[NDArray[np.uint8]] = []
    live_coils = np.zeros(coils, dtype=bool)
    empty_slices = []
    block_images = []
    for index, kspace in enumerate(scan):
        nonzero = kspace != 0
        pattern = nonzero.any(axis=0)
        patterns.append(np.packbits(pattern))
        union |= pattern
        live_coils |= nonzero.any(axis=(1, 2))
        if not pattern.any():
            empty_slices.append(index)
        block_images.append(block_image(kspace))
    if not union.any():
        raise InputError(f"{scan.path}: all samples are zero; there is nothing to reconstruct.")
    acquired = _bounding_box(union)
    (y0, y1), (x0, x1) = acquired
    sampled = _per_slice_masks(patterns, union, empty_slices)
    measured = sampled if len(sampled) == 1 else np.delete(sampled, empty_slices, axis=0)
    return Survey(
        scale=(scan.scaled and float(np.percentile(np.stack(block_images), 99))) or 1.0,
        sampled=sampled,
        acquired=acquired,
        zero_share=float(1 - measured[:, y0:y1, x0:x1].mean()),
        dead_coils=np.flatnonzero(~live_coils).tolist(),
        empty_slices=empty_slices,
    )


def central_energy(kspace: NDArray[np.complex64]) -> float:
    """Share of the energy of k-space (coils, y, x) in the central quarter of rows and columns."""
    energy = np.square(np.abs(kspace), dtype=np.float64).sum(axis=0)
    (height, width), (rows, columns) = energy.shape, (-(-n // 4) for n in energy.shape)
    top, left = height // 2 - rows // 2, width // 2 - columns // 2
    return float(energy[top : top + rows, left : left + columns].sum() / energy.sum())


def block_image(kspace: NDArray[np.complex64]) -> NDArray[np.float32]:
    """Root-sum-of-squares image of the central block, on the block's own small grid, at the full image's intensity."""
    height, width = kspace.shape[-2:]
    rows = slice(max(height // 2 - SCALE_BLOCK // 2, 0), height // 2 + SCALE_BLOCK // 2)
    columns = slice(max(width // 2 - SCALE_BLOCK // 2, 0), width // 2 + SCALE_BLOCK // 2)
    # Magnitudes need no shift of the image, and NumPy's transform spares `mrirecon info` the import of torch.
    # In double precision, because squares of very small or large numbers do not fit into single.
    centre = kspace[:, rows, columns].astype(np.complex128)
    block = np.fft.ifft2(np.fft.ifftshift(centre, axes=(1, 2)), norm="ortho")
    image = np.linalg.norm(block, axis=0)
    # Orthonormal transforms of different sizes: the small grid's pixels are brighter by sqrt(pixel count ratio).
    return (image * (image.size / (height * width)) ** 0.5).astype(np.float32)


def _bounding_box(mask: NDArray[np.bool_]) -> Box:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return (int(rows[0]), int(rows[-1]) + 1), (int(columns[0]), int(columns[-1]) + 1)


def _per_slice_masks(
    patterns: list[NDArray[np.uint8]], union: NDArray[np.bool_], empty_slices: list[int]
) -> NDArray[np.bool_]:
    """One mask if the slices agree (but for stray zeros), else each slice's own."""
    masks = [np.unpackbits(p, count=union.size).astype(bool).reshape(union.shape) for p in patterns]
    measured = [m for i, m in enumerate(masks) if i not in empty_slices]
    if all((union & ~m).sum() <= ZERO_SHARE_OF_PROSPECTIVE * union.sum() for m in measured):
        return union[None]
    return np.stack(masks)
