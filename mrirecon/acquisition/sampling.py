"""Which samples of a scan count as measured: as acquired, as a mask file says, or undersampled by us."""

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mrirecon.acquisition.array_files import container_of
from mrirecon.acquisition.axes import times
from mrirecon.acquisition.containers import StoredArray, listing, reading
from mrirecon.acquisition.scan import ZERO_SHARE_OF_PROSPECTIVE, Axis, Box, Scan
from mrirecon.errors import InputError, UsageError
from mrirecon.physics.sampling import SamplingMask, achieved_acceleration, seed_of

log = logging.getLogger("mrirecon")


@dataclass(frozen=True)
class Sampling:
    """The measured samples of a scan.

    mask: bool (1 or slices, y, x); False outside the acquired range. source: where it comes from, a sentence fragment.
    acceleration: achieved: positions in the acquired range per sample, over the slices that hold data.
    retrospective: the full k-space is known and the mask was applied by us.
    """

    mask: NDArray[np.bool_]
    source: str
    acceleration: float
    retrospective: bool


def sampling_of(scan: Scan) -> Sampling:
    """The sampling with which the scan was acquired: from its stored mask, else from its zeros.

    Zeros count as not measured if they are over 2 % of the acquired range; a stray zero is a measured value.
    """
    if not scan.prospective:
        full = np.ones((1, *scan.shape[2:]), dtype=bool)
        return _sampling(scan, full, "fully sampled", retrospective=False)
    if scan.stored_mask is not None:
        if not _invented(scan.stored_mask, scan):
            return _sampling(scan, scan.stored_mask[None], "stored mask", retrospective=False)
        log.warning("%s: its mask claims samples that are zero, so the zeros tell what was measured.", scan.path.name)
    return _sampling(scan, scan.survey.sampled, "zeros in the k-space", retrospective=False)


def sampling_from_file(scan: Scan, path: Path) -> Sampling:
    """The sampling that a mask file gives: `.npy`, `.npz`, `.mat` or HDF5, one mask (y, x) or of the phase encodes.

    A fully sampled scan is undersampled by it; of an undersampled scan it says what was measured.
    Raises InputError if it is no mask, does not fit the scan, or claims samples that the scan does not hold.
    """
    mask = _read_mask(path, scan)[None]
    if not scan.prospective:
        return _sampling(scan, mask, f"mask file {path.name}", retrospective=True)
    if invented := _invented(mask[0], scan):
        raise InputError(
            f"{path}: {invented} of its {mask.sum()} samples are zero in {scan.path}, which was undersampled "
            "when it was acquired; the mask belongs to another scan. Leave it out to use the scan's own sampling."
        )
    return _sampling(scan, mask & scan.survey.sampled, f"mask file {path.name}", retrospective=False)


def undersample(scan: Scan, mask: SamplingMask, seed: int | None) -> Sampling:
    """Drop samples of a fully sampled scan. seed: None = from the scan's file name, the same for every method.

    Line masks vary along the phase encodes; where the readout is unknown it is taken as y, and the source says so.
    """
    if scan.prospective:
        raise UsageError(
            f"{scan.path}: was undersampled when it was acquired, so it cannot be undersampled and scored; "
            "reconstruct it as it is."
        )
    readout_axis: Axis = scan.header.readout_axis or "y"
    shape = scan.shape[2:]
    drawn = mask.mask(shape, seed_of(scan.path.name) if seed is None else seed, readout_axis)
    source = f"{mask.name}, asked {mask.acceleration:g}×, seed {'of the file name' if seed is None else seed}"
    if scan.header.readout_axis is None and (drawn == drawn[:1]).all():
        source += ", readout taken as y"
    (y0, y1), (x0, x1) = mask.acquired(shape, readout_axis)
    (sy0, sy1), (sx0, sx1) = scan.acquired
    acquired = (max(y0, sy0), min(y1, sy1)), (max(x0, sx0), min(x1, sx1))
    return _sampling(scan, drawn.numpy()[None], source, retrospective=True, acquired=acquired)


def _sampling(
    scan: Scan, mask: NDArray[np.bool_], source: str, *, retrospective: bool, acquired: Box | None = None
) -> Sampling:
    (y0, y1), (x0, x1) = acquired = acquired or scan.acquired
    inside = np.zeros_like(mask)
    inside[:, y0:y1, x0:x1] = mask[:, y0:y1, x0:x1]
    measured = inside[inside.any(axis=(1, 2))]
    if not len(measured):
        raise InputError(
            f"{scan.path}: the sampling ({source}) leaves no sample inside the acquired range; "
            "ask for less acceleration, for more central lines (--acs), or give another mask."
        )
    return Sampling(inside, source, achieved_acceleration(measured, acquired), retrospective)


def _invented(mask: NDArray[np.bool_], scan: Scan) -> int:
    """How many samples in the acquired range the mask (y, x) claims that are zero in the scan; 0 for stray ones."""
    (y0, y1), (x0, x1) = scan.acquired
    zero = ~scan.survey.sampled.any(axis=0)
    invented = int((mask & zero)[y0:y1, x0:x1].sum())
    return invented if invented > ZERO_SHARE_OF_PROSPECTIVE * mask.sum() else 0


def _read_mask(path: Path, scan: Scan) -> NDArray[np.bool_]:
    """The file's mask as bool (y, x)."""
    container = container_of(path)
    with reading(path):
        arrays = container.arrays(path)
    masks = {name: array for name, array in arrays.items() if _could_be_mask(array)}
    if len(masks) > 1:
        masks = {name: array for name, array in masks.items() if name == "mask"}
    if not masks:
        raise InputError(
            f"{path}: a mask is one array of 0 and 1, (y, x) or one value per phase encode, named 'mask' if there are "
            f"several; the file holds {listing(arrays)}."
        )
    name, array = next(iter(masks.items()))
    with reading(path):
        array.check_size()
        values = np.squeeze(container.read(path, name, (slice(None),) * len(array.shape)))
    if not np.isin(values, (0, 1)).all():
        raise InputError(f"{path}: holds values other than 0 and 1, so it is not a sampling mask; save it as booleans.")
    return _fit(values != 0, scan, path)


def _could_be_mask(array: StoredArray) -> bool:
    return array.dtype.kind in "biuf" and sum(size > 1 for size in array.shape) in (1, 2)


def _fit(mask: NDArray[np.bool_], scan: Scan, path: Path) -> NDArray[np.bool_]:
    """The mask broadcast to (y, x). One dimension is the phase encode: x, unless only y fits or x is the readout."""
    shape = height, width = scan.shape[2:]
    if mask.shape == shape:
        return mask
    if mask.shape == (height,) and (height != width or scan.header.readout_axis == "x"):
        mask = mask[:, None]
    elif mask.shape != (width,):
        raise InputError(
            f"{path}: the mask is {times(mask.shape)}, but the k-space of {scan.path} is {height} × {width} (y × x)."
        )
    return np.broadcast_to(mask, shape)
