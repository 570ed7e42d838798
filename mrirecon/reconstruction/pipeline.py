"""A whole scan as a stream: each slice is read, undersampled, given coil maps, reconstructed and let go again."""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from mrirecon.acquisition.array_files import container_of
from mrirecon.acquisition.axes import guessed_axes, times
from mrirecon.acquisition.containers import listing, reading
from mrirecon.acquisition.sampling import Sampling
from mrirecon.acquisition.scan import Scan
from mrirecon.errors import InputError, RejectedError, UsageError
from mrirecon.physics.coils import espirit
from mrirecon.physics.fourier import ifftc
from mrirecon.physics.measurement import Measurement, Reconstructor

log = logging.getLogger("mrirecon")

#: Axes of an array of coil maps, by their number.
MAP_AXES = {3: "coil,y,x", 4: "slice,coil,y,x"}


@dataclass(frozen=True)
class SliceData:
    """One slice, ready for a method, in units of the scan's scale (k-space divided by `scan.survey.scale`).

    measurement: batch of 1 on the device, with sensitivities; k-space is zero where not sampled.
    reference: complex (y, x), Σ conj(S) F^-1 y of the full k-space with the same maps; None where it is not known.
    support: bool (y, x), where the maps are not zero.
    """

    index: int
    measurement: Measurement
    reference: Tensor | None
    support: Tensor


def measure(scan: Scan, sampling: Sampling, *, maps: Path | None = None, device: torch.device) -> Iterator[SliceData]:
    """The scan's slices in order, one in memory at a time.

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
    for index in range(scan.slices):
        data = _measure_slice(scan, sampling, index, read_maps, device)
        some_support |= bool(data.support.any())
        yield data
    if not some_support:
        raise InputError(
            f"{scan.path}: the coil maps are zero in all slices, so there is no image; is this k-space of an object? "
            "If so, give maps (--maps FILE) or other ones."
        )


def _measure_slice(
    scan: Scan, sampling: Sampling, index: int, read_maps: Callable[[int], Tensor] | None, device: torch.device
) -> SliceData:
    mask = sampling.mask[index % len(sampling.mask)].to(device)[None, None]
    full = torch.from_numpy(scan.kspace(index)).to(device)[None] / scan.survey.scale
    sampled = full * mask
    if not sampled.any():
        maps = torch.zeros_like(sampled)
    elif read_maps:
        maps = read_maps(index).to(device)[None]
    elif scan.read_calibration:
        lines = torch.from_numpy(scan.read_calibration(index)).to(device)[None] / scan.survey.scale
        maps = _estimate_maps(lines, (lines != 0).any(dim=1, keepdim=True), scan.path, index, sampling)
    else:
        maps = _estimate_maps(sampled, mask, scan.path, index, sampling)
    known = sampling.retrospective or not scan.prospective
    noise_std = None if scan.noise_std is None else full.real.new_tensor([scan.noise_std / scan.survey.scale])
    return SliceData(
        index=index,
        measurement=Measurement(kspace=sampled, mask=mask, sensitivities=maps, noise_std=noise_std),
        reference=(maps.conj() * ifftc(full)).sum(dim=1)[0] if known else None,
        support=(maps != 0).any(dim=1)[0],
    )


def _estimate_maps(kspace: Tensor, mask: Tensor, path: Path, index: int, sampling: Sampling) -> Tensor:
    try:
        return espirit(kspace, mask)
    except torch.linalg.LinAlgError as error:
        raise InputError(
            f"{path}, slice {index}: coil maps cannot be computed, as some samples are larger than others beyond all "
            "measure; the file seems damaged. Export it again, or give maps (--maps FILE)."
        ) from error
    except InputError as error:
        if sampling.retrospective:
            raise UsageError(
                f"{path}, slice {index}: with this sampling ({sampling.source}) {error} Or keep more of the centre "
                "(--acs, or another mask)."
            ) from error
        raise InputError(f"{path}, slice {index}: {error}") from error


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


@torch.inference_mode()
def reconstruct_slice(method: Reconstructor, data: SliceData) -> Tensor:
    """Complex image (y, x) of one slice, in units of the scan's scale; zero outside the support and in empty slices.

    Raises RejectedError if the method diverges.
    """
    if not data.support.any():
        return torch.zeros_like(data.measurement.kspace[0, 0])
    image = method.eval()(data.measurement)[-1][0] * data.support
    if not torch.isfinite(torch.view_as_real(image)).all():
        raise RejectedError(f"slice {data.index}: the method gave NaN or infinite values; try another (--method).")
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
