"""A whole scan as a stream: a few slices are read, undersampled, given coil maps, reconstructed and let go again."""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mrirecon.acquisition.array_files import container_of
from mrirecon.acquisition.axes import guessed_axes, times
from mrirecon.acquisition.containers import listing, reading
from mrirecon.acquisition.sampling import Sampling
from mrirecon.acquisition.scan import Scan
from mrirecon.errors import InputError, MrireconError, RejectedError, UsageError
from mrirecon.physics.coils import espirit
from mrirecon.physics.fourier import ifftc
from mrirecon.physics.measurement import Measurement, Reconstructor
from mrirecon.reconstruction.precision import Precision

log = logging.getLogger("mrirecon")

#: Axes of an array of coil maps, by their number.
MAP_AXES = {3: "coil,y,x", 4: "slice,coil,y,x"}


@dataclass(frozen=True)
class SliceData:
    """One slice, ready for a method, in units of the scan's scale (k-space divided by `scan.survey.scale`).

    measurement: batch of 1 on the device, with sensitivities; k-space is zero where not sampled.
    reference: complex (y, x), Σ conj(S) F^-1 y of the full k-space with the same maps, where we undersampled, or None.
    support: bool (y, x), where the maps are not zero.
    """

    index: int
    measurement: Measurement
    reference: Tensor | None
    support: Tensor


@dataclass(frozen=True)
class Block:
    """Consecutive slices from `first` on, as in `SliceData`; all tensors have a leading axis of the slices."""

    first: int
    measurement: Measurement
    reference: Tensor | None
    support: Tensor

    def slices(self) -> Iterator[SliceData]:
        """Views of the block's slices."""
        for n in range(len(self.support)):
            reference = None if self.reference is None else self.reference[n]
            yield SliceData(self.first + n, _entries(self.measurement, slice(n, n + 1)), reference, self.support[n])


def measure(scan: Scan, sampling: Sampling, *, maps: Path | None = None, device: torch.device) -> Iterator[SliceData]:
    """The scan's slices in order, one in memory at a time; see `measure_blocks`."""
    for block in measure_blocks(scan, sampling, maps=maps, device=device):
        yield from block.slices()


def measure_blocks(
    scan: Scan, sampling: Sampling, *, maps: Path | None = None, device: torch.device, size: int = 1
) -> Iterator[Block]:
    """The scan's slices in order, in blocks of `size`, one block in memory at a time if the caller keeps none.

    Coil maps are estimated from each slice's own data alone: from its separate calibration lines if it has any, else
    from its samples; or read from the file `maps`: complex (coils, y, x) or (slices, coils, y, x), made Σ|S|² = 1.
    Dead coils and empty slices are warned about once.
    Raises InputError for k-space that cannot be read or calibrated from and for maps that do not fit, UsageError for a
    sampling of ours that leaves too little to calibrate from.
    """
    survey = scan.survey
    if scan.doubt:
        log.warning("%s: %s", scan.path.name, scan.doubt)
    if survey.dead_coils:
        numbers = ", ".join(map(str, survey.dead_coils))
        log.warning("%s: coils without signal (%s of %d) are left out.", scan.path.name, numbers, scan.coils)
    if survey.empty_slices:
        numbers = ", ".join(map(str, survey.empty_slices))
        log.warning("%s: slices without samples (%s) give empty images.", scan.path.name, numbers)
    read_maps = _maps_reader(maps, scan) if maps else None
    some_support = False
    for first in range(0, scan.slices, size):
        indices = range(first, min(first + size, scan.slices))
        block = _measure(scan, sampling, indices, read_maps, device)
        some_support |= bool(block.support.any())
        yield block
        del block  # before the next one is made
    if not some_support:
        raise InputError(
            f"{scan.path}: the coil maps are zero in all slices, so there is no image; is this k-space of an object? "
            "If so, give maps (--maps FILE) or other ones."
        )


def _measure(
    scan: Scan, sampling: Sampling, indices: range, read_maps: Callable[[int], Tensor] | None, device: torch.device
) -> Block:
    scale = scan.survey.scale

    def read(slice_kspace: Callable[[int], NDArray[np.complex64]]) -> Tensor:
        slices = [torch.from_numpy(slice_kspace(index)).to(device) / scale for index in indices]
        return slices[0][None] if len(slices) == 1 else torch.stack(slices)

    mask = torch.from_numpy(sampling.mask[[index % len(sampling.mask) for index in indices]]).to(device)[:, None]
    full = read(scan.kspace)
    sampled = full * mask if sampling.retrospective else full.mul_(mask)
    if read_maps:
        maps = torch.stack([read_maps(index) for index in indices]).to(device)
        maps[~sampled.flatten(1).any(dim=1)] = 0
    elif scan.read_calibration:
        lines = read(scan.read_calibration)
        maps = _estimate_maps(lines, (lines != 0).any(dim=1, keepdim=True), sampled, scan.path, indices, sampling)
        del lines
    else:
        maps = _estimate_maps(sampled, mask, sampled, scan.path, indices, sampling)
    noise_std = None if scan.noise_std is None else full.real.new_full((len(indices),), scan.noise_std / scale)
    return Block(
        first=indices[0],
        measurement=Measurement(kspace=sampled, mask=mask, sensitivities=maps, noise_std=noise_std),
        reference=_combined(full, maps) if sampling.retrospective else None,
        support=(maps != 0).any(dim=1),
    )


def _combined(kspace: Tensor, maps: Tensor) -> Tensor:
    """Σ conj(S) F^-1 k: complex (batch, y, x), a coil at a time."""
    image = torch.zeros_like(kspace[:, 0])
    for coil in range(kspace.shape[1]):
        image.addcmul_(maps[:, coil].conj(), ifftc(kspace[:, coil]))
    return image


def _estimate_maps(
    kspace: Tensor, mask: Tensor, sampled: Tensor, path: Path, indices: range, sampling: Sampling
) -> Tensor:
    """Maps (batch, coils, y, x); zeros for slices in which nothing was sampled."""
    filled = sampled.flatten(1).any(dim=1)
    if filled.all():
        return _espirit(kspace, mask, path, indices, sampling)
    maps = torch.zeros_like(sampled)
    if filled.any():
        some = [index for index, there in zip(indices, filled.tolist(), strict=True) if there]
        maps[filled] = _espirit(kspace[filled], mask[filled], path, some, sampling)
    return maps


def _espirit(kspace: Tensor, mask: Tensor, path: Path, indices: Sequence[int], sampling: Sampling) -> Tensor:
    try:
        return espirit(kspace, mask)
    except (InputError, torch.linalg.LinAlgError) as error:
        if len(indices) > 1:  # which of them is it?
            each = [_espirit(kspace[n : n + 1], mask[n : n + 1], path, [i], sampling) for n, i in enumerate(indices)]
            return torch.cat(each)
        raise _explained(error, path, indices[0], sampling) from error


def _explained(error: Exception, path: Path, index: int, sampling: Sampling) -> MrireconError:
    if not isinstance(error, InputError):
        return InputError(
            f"{path}, slice {index}: coil maps cannot be computed, as some samples are larger than others beyond all "
            "measure; the file seems damaged. Export it again, or give maps (--maps FILE)."
        )
    if sampling.retrospective:
        return UsageError(
            f"{path}, slice {index}: with this sampling ({sampling.source}) {error} Or keep more of the centre "
            "(--acs, or another mask)."
        )
    return InputError(f"{path}, slice {index}: {error}")


def _entries(measurement: Measurement, which: slice | Tensor) -> Measurement:
    """Some of the slices of what `_measure` made."""
    noise_std, maps = measurement.noise_std, measurement.sensitivities
    return Measurement(
        kspace=measurement.kspace[which],
        mask=measurement.mask[which],
        sensitivities=None if maps is None else maps[which],
        noise_std=None if noise_std is None else noise_std[which],
    )


def _maps_reader(path: Path, scan: Scan) -> Callable[[int], Tensor]:
    """Slice index → maps (coils, y, x) from a file, Σ|S|² = 1 where they are not zero."""
    container = container_of(path)
    with reading(path):
        arrays = container.arrays(path)
    fitting = [name for name, array in arrays.items() if array.complex and len(array.shape) in MAP_AXES]
    if len(fitting) != 1:
        raise InputError(
            f"{path}: coil maps are one complex array (coils, y, x) or (slices, coils, y, x); "
            f"the file holds {listing(arrays)}."
        )
    # Only BART says by itself which axis is what.
    axes = MAP_AXES[len(arrays[fitting[0]].shape)] if container.layout is guessed_axes else None
    maps = container.scans(path, fitting[0], axes)[0]
    if maps.shape[1:] != scan.shape[1:] or maps.slices not in (1, scan.slices):
        raise InputError(
            f"{path}: coil maps of {times(maps.shape)} do not fit k-space of {times(scan.shape)} "
            "(slices × coils × y × x each); maps for one slice serve all."
        )

    def read(index: int) -> Tensor:
        # In double precision, because squares of very small or large numbers do not fit into single.
        raw = torch.from_numpy(maps.kspace(index % maps.slices)).to(torch.complex128)
        norm = raw.abs().square().sum(dim=0).sqrt()
        return torch.where(norm > 0, raw / norm, 0).to(torch.complex64)

    return read


def reconstruct_slice(method: Reconstructor, data: SliceData, precision: Precision = "fp32") -> Tensor:
    """Complex image (y, x) of one slice; see `reconstruct_block`."""
    block = Block(data.index, data.measurement, data.reference, data.support[None])
    return reconstruct_block(method, block, precision)[0]


@torch.inference_mode()
def reconstruct_block(method: Reconstructor, block: Block, precision: Precision = "fp32") -> Tensor:
    """Complex64 images (batch, y, x) in units of the scan's scale; zero outside the support and in empty slices.

    precision: "bf16" computes a network's real-valued layers in bfloat16; complex tensors stay as they are.
    Raises RejectedError if the method diverges.
    """
    filled = block.support.flatten(1).any(dim=1)
    image = torch.zeros_like(block.measurement.kspace[:, 0])
    if not filled.any():
        return image
    measurement = block.measurement if filled.all() else _entries(block.measurement, filled)
    with torch.autocast(image.device.type, torch.bfloat16, enabled=precision == "bf16"):
        image[filled] = method.eval()(measurement)[-1].to(image.dtype)
    image *= block.support
    for index, slice_image in enumerate(image, start=block.first):
        if not torch.isfinite(torch.view_as_real(slice_image)).all():
            raise RejectedError(f"slice {index}: the method gave NaN or infinite values; try another (--method).")
    return image


def centre_crop(image: Tensor, size: tuple[int, int] | None) -> Tensor:
    """The central (y, x) pixels of image (..., y, x): voxel n // 2 becomes voxel m // 2. Smaller axes stay."""
    if size is None:
        return image
    for axis, target in zip((-2, -1), size, strict=True):
        length = image.shape[axis]
        target = min(target, length)
        image = image.narrow(axis, length // 2 - target // 2, target)
    return image
