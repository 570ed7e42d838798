"""Image quality against a reference, with fastMRI's definitions (fastmri.evaluate).

Targets and predictions are volumes (slices, y, x) in the same arbitrary units, magnitudes unless stated; nothing is
rescaled. `support`, bool (slices, y, x) or (y, x), restricts a metric to the pixels inside the object, because air
flatters. Each metric is one float for the volume, computed in double precision; it is NaN where the target is zero
everywhere (or the support empty), since nothing can be measured against it. ValueError if shapes do not fit.
Lesion and noise measures need no reference: contrast and unevenness are of one image.
Volumes are looked at slice by slice, so they may be in files (`mrirecon.scratch`).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

SSIM_WINDOW = 7
SSIM_K1, SSIM_K2 = 0.01, 0.03
HFEN_WINDOW = 15
HFEN_SIGMA = 1.5
#: What DIRECT takes instead.
HFEN_SIGMA_DIRECT = 2.5
#: An object is brighter than this share of the 99th percentile.
FOREGROUND_LEVEL = 0.1
#: Distances in pixels from a lesion, from and to, of what counts as its surroundings; pixels that a lesion must have.
RING = (2, 4)
LEAST_LESION = 4
#: Side in pixels of the region in which noise is measured.
FLAT_SIDE = 7


class Volume(Protocol):
    """What is needed of a volume (slices, y, x)."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __getitem__(self, index: int, /) -> NDArray[Any]: ...


Metric = Callable[[Volume, Volume, Volume | None], float]


def nmse(target: Volume, prediction: Volume, support: Volume | None = None) -> float:
    """‖prediction − target‖² / ‖target‖² over the volume. Complex volumes give the complex NMSE."""
    error = energy = 0.0
    for t, p, inside in _slices(target, prediction, support):
        error += (np.abs(p - t)[inside] ** 2).sum()
        energy += (np.abs(t[inside]) ** 2).sum()
    return float(error / energy) if energy > 0 else float("nan")


def psnr(target: Volume, prediction: Volume, support: Volume | None = None) -> float:
    """20 log10(max target / RMSE) in dB, maximum and RMSE over the volume's support; infinite for equal volumes."""
    peak = error = 0.0
    count = 0
    for t, p, inside in _slices(target, prediction, support):
        peak = max(peak, t[inside].max(initial=0))
        error += ((p - t)[inside] ** 2).sum()
        count += inside.sum()
    if peak == 0:
        return float("nan")
    return float(20 * np.log10(peak / np.sqrt(error / count))) if error > 0 else float("inf")


def ssim(target: Volume, prediction: Volume, support: Volume | None = None) -> float:
    """Structural similarity: mean of the map over each slice (its support), then over slices.

    The data range is the maximum of the target volume. Slices without support do not count.
    """
    data_range = max(t.max() for t, _, _ in _slices(target, prediction, support))
    if data_range == 0:
        return float("nan")
    slices = [
        ssim_map(t, p, data_range)[_inner(inside)].mean()
        for t, p, inside in _slices(target, prediction, support)
        if _inner(inside).any()
    ]
    return float(np.mean(slices)) if slices else float("nan")


def ssim_map(target: NDArray, prediction: NDArray, data_range: float) -> NDArray[np.float64]:
    """SSIM of each 7 × 7 window that lies wholly inside the slice: (y, x) → (y − 6, x − 6).

    Wang et al. 2004 with a uniform window and unbiased (co)variances, as in scikit-image's defaults.
    """
    from scipy.ndimage import uniform_filter

    c1, c2 = (SSIM_K1 * data_range) ** 2, (SSIM_K2 * data_range) ** 2
    unbiased = SSIM_WINDOW**2 / (SSIM_WINDOW**2 - 1)
    mean_t, mean_p = uniform_filter(target, SSIM_WINDOW), uniform_filter(prediction, SSIM_WINDOW)
    var_t = unbiased * (uniform_filter(target * target, SSIM_WINDOW) - mean_t**2)
    var_p = unbiased * (uniform_filter(prediction * prediction, SSIM_WINDOW) - mean_p**2)
    cov = unbiased * (uniform_filter(target * prediction, SSIM_WINDOW) - mean_t * mean_p)
    similarity = (2 * mean_t * mean_p + c1) * (2 * cov + c2) / ((mean_t**2 + mean_p**2 + c1) * (var_t + var_p + c2))
    return _inner(similarity)


def hfen(target: Volume, prediction: Volume, support: Volume | None = None, sigma: float = HFEN_SIGMA) -> float:
    """High-frequency error norm: ‖LoG(prediction) − LoG(target)‖ / ‖LoG(target)‖ (Ravishankar and Bresler 2011).

    LoG is the 15 × 15 Laplacian of Gaussian with standard deviation `sigma` in pixels (DIRECT uses 2.5), per slice.
    """
    from scipy.ndimage import convolve

    kernel = log_kernel(sigma)
    error = energy = 0.0
    for t, p, inside in _slices(target, prediction, support):
        energy += np.square(convolve(t, kernel, mode="constant")[inside]).sum()
        error += np.square(convolve(p - t, kernel, mode="constant")[inside]).sum()
    return float(np.sqrt(error / energy)) if energy > 0 else float("nan")


def log_kernel(sigma: float) -> NDArray[np.float64]:
    """Laplacian of Gaussian (15, 15) that sums to zero, as MATLAB's fspecial('log', 15, sigma)."""
    axis = np.arange(HFEN_WINDOW) - HFEN_WINDOW // 2
    radius_squared = axis[:, None] ** 2 + axis**2
    gaussian = np.exp(-radius_squared / (2 * sigma**2))
    laplacian = gaussian / gaussian.sum() * (radius_squared - 2 * sigma**2) / sigma**4
    return laplacian - laplacian.mean()


def ssim_slices(target: Volume, prediction: Volume, support: Volume | None = None) -> float:
    """Mean over slices of the SSIM of each slice alone: its data range is its own maximum, not the volume's."""
    return _mean_of_slices(ssim, target, prediction, support)


def psnr_slices(target: Volume, prediction: Volume, support: Volume | None = None) -> float:
    """Mean over slices of the PSNR in dB of each slice alone: its peak is its own maximum, not the volume's."""
    return _mean_of_slices(psnr, target, prediction, support)


def _mean_of_slices(metric: Metric, target: Volume, prediction: Volume, support: Volume | None) -> float:
    values = [metric(t[None], p[None], inside[None]) for t, p, inside in _slices(target, prediction, support)]
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else float("nan")


def foreground(target: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Where a magnitude volume (slices, y, x) shows the object: over a tenth of its 99th percentile, holes filled."""
    from scipy.ndimage import binary_fill_holes

    bright = target > FOREGROUND_LEVEL * np.percentile(target, 99)
    return np.stack([binary_fill_holes(mask) for mask in bright])


@dataclass(frozen=True)
class LesionRegion:
    """One lesion in one slice: bool (y, x) masks of its pixels and of the ring around it."""

    index: int
    inside: NDArray[np.bool_]
    ring: NDArray[np.bool_]


def lesion_regions(lesions: NDArray[np.bool_], support: NDArray[np.bool_]) -> list[LesionRegion]:
    """The lesions of a mask (slices, y, x), slice by slice, each with its surroundings.

    Surroundings are pixels inside `support` (slices, y, x), 2 to 4 pixels away from the lesion, without other lesions.
    Lesions of fewer than LEAST_LESION pixels in a slice, and those without surroundings, are left out.
    """
    from scipy.ndimage import distance_transform_edt, label

    regions = []
    for index, mask in enumerate(lesions):
        labels, count = label(mask, structure=np.ones((3, 3)))
        for number in range(1, count + 1):
            inside = labels == number
            distance = distance_transform_edt(~inside)
            ring = (distance >= RING[0]) & (distance <= RING[1]) & ~mask & support[index]
            if inside.sum() >= LEAST_LESION and ring.any():
                regions.append(LesionRegion(index, inside, ring))
    return regions


def lesion_contrast(image: Volume, region: LesionRegion) -> float:
    """(mean inside − mean of the ring) / mean of the ring, of a magnitude volume."""
    plane = np.asarray(image[region.index], np.float64)
    around = plane[region.ring].mean()
    return float((plane[region.inside].mean() - around) / around) if around > 0 else float("nan")


def contrast_to_noise(image: Volume, region: LesionRegion) -> float:
    """(mean inside − mean of the ring) / standard deviation in the ring, of a magnitude volume."""
    plane = np.asarray(image[region.index], np.float64)
    spread = plane[region.ring].std()
    return float((plane[region.inside].mean() - plane[region.ring].mean()) / spread) if spread > 0 else float("nan")


def flat_region(image: NDArray[np.floating], support: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The most even square of FLAT_SIDE pixels inside the support of a magnitude slice (y, x), as bool (y, x).

    Even: the smallest standard deviation relative to the mean, of squares at least half as bright as the object's
    mean. All False if no square fits. Choose it in one image and use it for all that are compared.
    """
    from scipy.ndimage import binary_erosion, uniform_filter

    values = image.astype(np.float64)
    chosen = np.zeros(values.shape, dtype=bool)
    whole = binary_erosion(support, np.ones((FLAT_SIDE, FLAT_SIDE)))
    mean = uniform_filter(values, FLAT_SIDE)
    if support.any():
        whole &= mean > 0.5 * values[support].mean()
    if whole.any():
        spread = np.sqrt(np.maximum(uniform_filter(values**2, FLAT_SIDE) - mean**2, 0))
        relative = np.where(whole, spread / np.where(whole, mean, 1), np.inf)
        y, x = np.unravel_index(relative.argmin(), relative.shape)
        half = FLAT_SIDE // 2
        chosen[y - half : y + half + 1, x - half : x + half + 1] = True
    return chosen


def unevenness(image: NDArray[np.floating], region: NDArray[np.bool_]) -> float:
    """Standard deviation / mean of a magnitude slice (y, x) in a flat region: its noise, without any reference."""
    values = image[region].astype(np.float64)
    return float(values.std() / values.mean()) if values.size and values.mean() > 0 else float("nan")


def _slices(
    target: Volume, prediction: Volume, support: Volume | None
) -> Iterator[tuple[NDArray, NDArray, NDArray[np.bool_]]]:
    """Each slice of both volumes in double precision and of the support, after checking their shapes."""
    if len(target.shape) != 3 or target.shape != prediction.shape:
        raise ValueError(f"metrics need two volumes (slices, y, x); got {target.shape} and {prediction.shape}")
    stack = support is not None and len(support.shape) == 3
    for index in range(target.shape[0]):
        inside: Any = True if support is None else support[index] if stack else support
        t, p = target[index], prediction[index]
        double = np.result_type(t, p, np.float64)
        yield t.astype(double), p.astype(double), np.broadcast_to(inside, t.shape)


def _inner(volume: NDArray) -> NDArray:
    """Without the border where the SSIM window would leave the image."""
    border = SSIM_WINDOW // 2
    return volume[..., border:-border, border:-border]
