"""One method on one volume in one setting: its scores, as a row of the table."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from mrirecon import __version__, metrics
from mrirecon.atomic import atomic_path

Volume = NDArray[np.float32]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Row:
    """One line of the table: one method on one volume in one setting. Its fields are the columns of the CSV.

    acceleration is the achieved one, acs the width in lines of the fully sampled centre (its narrower side).
    nmse, psnr (dB), ssim: fastMRI's definitions over the whole volume, of magnitudes, inside the support of the maps,
    against the fully sampled coil combination with the same maps, in the field of view that the header reconstructs.
    hfen: error of the Laplacian of Gaussian (σ 1.5). complex_nmse: of the complex images. *_rss: against the file's
    own `reconstruction_rss`, without a support; None where the file has none. seconds: whole volume, method alone
    (reading and maps excluded). simulated: what the file says of its origin: yes, no, or unknown.
    *_foreground: where the reference is bright (`metrics.foreground`). *_slices: mean over slices, each with its own
    maximum. hfen_direct: with DIRECT's σ of 2.5. lesions: how many the file's `lesion_mask` has in slices;
    lesion_contrast_error: mean over them of |contrast − that of the reference|; lesion_cnr: median contrast-to-noise,
    lesion_cnr_reference: that of the reference. residual: ‖samples − measured‖² / ‖measured‖² where measured,
    which no reference enters. unevenness: noise in a flat region of the middle slice over its mean.
    Of a scan that was undersampled when it was acquired, only what needs no reference is known; the rest is None.
    """

    volume: str
    method: str
    mask: str
    acceleration_asked: float
    acceleration: float
    acs: int
    seed: int | None
    slices: int
    nmse: float | None
    psnr: float | None
    ssim: float | None
    hfen: float | None
    complex_nmse: float | None
    nmse_rss: float | None
    psnr_rss: float | None
    ssim_rss: float | None
    seconds: float
    seconds_per_slice_median: float
    device: str
    simulated: str
    version: str = __version__
    nmse_foreground: float | None = None
    psnr_foreground: float | None = None
    ssim_foreground: float | None = None
    psnr_slices: float | None = None
    ssim_slices: float | None = None
    hfen_direct: float | None = None
    lesions: int | None = None
    lesion_contrast_error: float | None = None
    lesion_cnr: float | None = None
    lesion_cnr_reference: float | None = None
    residual: float | None = None
    unevenness: float | None = None


def scores(
    reference: Volume | None, estimate: Volume, support: Mask, lesions: Mask | None, guide: Volume
) -> dict[str, Any]:
    """The fields of a Row that compare two magnitude volumes (slices, y, x) inside a support; lesions: their mask.

    guide: the volume that says where it is even, for all methods. reference: None leaves what needs it None.
    """
    middle = (len(estimate) - 1) // 2
    flat = metrics.flat_region(guide[middle], support[middle])
    own = {
        "unevenness": metrics.unevenness(estimate[middle], flat),
        **({} if lesions is None else lesion_scores(reference, estimate, support, lesions)),
    }
    if reference is None:
        return own | dict.fromkeys(("nmse", "psnr", "ssim", "hfen"))
    bright = metrics.foreground(reference)
    return own | {
        "nmse": metrics.nmse(reference, estimate),
        "psnr": metrics.psnr(reference, estimate, support),
        "ssim": metrics.ssim(reference, estimate, support),
        "hfen": metrics.hfen(reference, estimate, support),
        "hfen_direct": metrics.hfen(reference, estimate, support, metrics.HFEN_SIGMA_DIRECT),
        "nmse_foreground": metrics.nmse(reference, estimate, bright),
        "psnr_foreground": metrics.psnr(reference, estimate, bright),
        "ssim_foreground": metrics.ssim(reference, estimate, bright),
        "psnr_slices": metrics.psnr_slices(reference, estimate, support),
        "ssim_slices": metrics.ssim_slices(reference, estimate, support),
    }


def lesion_scores(reference: Volume | None, estimate: Volume, support: Mask, lesions: Mask) -> dict[str, float | int]:
    """The fields of a Row that tell of lesions; of all volumes (slices, y, x)."""
    regions = metrics.lesion_regions(lesions, support)
    if not regions:
        return {"lesions": 0}
    if reference is None:
        return {
            "lesions": len(regions),
            "lesion_cnr": float(np.median([metrics.contrast_to_noise(estimate, region) for region in regions])),
        }
    contrasts = np.array([[metrics.lesion_contrast(image, r) for image in (reference, estimate)] for r in regions])
    noise = np.array([[metrics.contrast_to_noise(image, r) for image in (reference, estimate)] for r in regions])
    return {
        "lesions": len(regions),
        "lesion_contrast_error": float(np.abs(contrasts[:, 1] - contrasts[:, 0]).mean()),
        "lesion_cnr": float(np.median(noise[:, 1])),
        "lesion_cnr_reference": float(np.median(noise[:, 0])),
    }


def stored_lesions(path: Path, shape: tuple[int, ...]) -> Mask | None:
    """The file's `lesion_mask`, bool of `shape` (slices, y, x); None if it has none, or one that does not fit."""
    if not h5py.is_hdf5(path):
        return None
    with h5py.File(path) as file:
        mask = file.get("lesion_mask")
        fits = isinstance(mask, h5py.Dataset) and mask.shape == shape and mask.dtype.kind in "biu"
        return mask[()] != 0 if fits else None


def write_csv(path: Path, rows: Sequence[Row]) -> None:
    """The rows as one tidy table; the file appears whole or not at all."""
    write_table(path, [asdict(row) for row in rows], [column.name for column in fields(Row)])


def write_table(path: Path, lines: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """Lines with those columns as CSV; the file appears whole or not at all."""
    with atomic_path(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(lines)
