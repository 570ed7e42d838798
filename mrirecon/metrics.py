"""Image quality against a reference, with fastMRI's definitions (fastmri.evaluate).

Targets and predictions are volumes (slices, y, x) in the same arbitrary units, magnitudes unless stated; nothing is
rescaled. `support`, bool (slices, y, x) or (y, x), restricts a metric to the pixels inside the object, because air
flatters. Each metric is one float for the volume, computed in double precision; it is NaN where the target is zero
everywhere (or the support empty), since nothing can be measured against it. ValueError if shapes do not fit.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import convolve, uniform_filter

SSIM_WINDOW = 7
SSIM_K1, SSIM_K2 = 0.01, 0.03
HFEN_WINDOW = 15
HFEN_SIGMA = 1.5


def nmse(target: NDArray, prediction: NDArray, support: NDArray[np.bool_] | None = None) -> float:
    """‖prediction − target‖² / ‖target‖² over the volume. Complex volumes give the complex NMSE."""
    target, prediction, inside = _volumes(target, prediction, support)
    energy = (np.abs(target[inside]) ** 2).sum()
    return float((np.abs(prediction - target)[inside] ** 2).sum() / energy) if energy > 0 else float("nan")


def psnr(target: NDArray, prediction: NDArray, support: NDArray[np.bool_] | None = None) -> float:
    """20 log10(max target / RMSE) in dB, maximum and RMSE over the volume's support; infinite for equal volumes."""
    target, prediction, inside = _volumes(target, prediction, support)
    peak = target[inside].max(initial=0)
    if peak == 0:
        return float("nan")
    rmse = np.sqrt(((prediction - target)[inside] ** 2).mean())
    return float(20 * np.log10(peak / rmse)) if rmse > 0 else float("inf")


def ssim(target: NDArray, prediction: NDArray, support: NDArray[np.bool_] | None = None) -> float:
    """Structural similarity: mean of the map over each slice (its support), then over slices.

    The data range is the maximum of the target volume. Slices without support do not count.
    """
    target, prediction, inside = _volumes(target, prediction, support)
    data_range = target.max()
    if data_range == 0:
        return float("nan")
    inner = _inner(inside)
    slices = [
        ssim_map(t, p, data_range)[i].mean() for t, p, i in zip(target, prediction, inner, strict=True) if i.any()
    ]
    return float(np.mean(slices)) if slices else float("nan")


def ssim_map(target: NDArray, prediction: NDArray, data_range: float) -> NDArray[np.float64]:
    """SSIM of each 7 × 7 window that lies wholly inside the slice: (y, x) → (y − 6, x − 6).

    Wang et al. 2004 with a uniform window and unbiased (co)variances, as in scikit-image's defaults.
    """
    c1, c2 = (SSIM_K1 * data_range) ** 2, (SSIM_K2 * data_range) ** 2
    unbiased = SSIM_WINDOW**2 / (SSIM_WINDOW**2 - 1)
    mean_t, mean_p = uniform_filter(target, SSIM_WINDOW), uniform_filter(prediction, SSIM_WINDOW)
    var_t = unbiased * (uniform_filter(target * target, SSIM_WINDOW) - mean_t**2)
    var_p = unbiased * (uniform_filter(prediction * prediction, SSIM_WINDOW) - mean_p**2)
    cov = unbiased * (uniform_filter(target * prediction, SSIM_WINDOW) - mean_t * mean_p)
    similarity = (2 * mean_t * mean_p + c1) * (2 * cov + c2) / ((mean_t**2 + mean_p**2 + c1) * (var_t + var_p + c2))
    return _inner(similarity)


def hfen(
    target: NDArray, prediction: NDArray, support: NDArray[np.bool_] | None = None, sigma: float = HFEN_SIGMA
) -> float:
    """High-frequency error norm: ‖LoG(prediction) − LoG(target)‖ / ‖LoG(target)‖ (Ravishankar and Bresler 2011).

    LoG is the 15 × 15 Laplacian of Gaussian with standard deviation `sigma` in pixels (DIRECT uses 2.5), per slice.
    """
    target, prediction, inside = _volumes(target, prediction, support)
    kernel = log_kernel(sigma)[None]
    edges = convolve(target, kernel, mode="constant")[inside]
    error = convolve(prediction - target, kernel, mode="constant")[inside]
    norm = np.linalg.norm(edges)
    return float(np.linalg.norm(error) / norm) if norm > 0 else float("nan")


def log_kernel(sigma: float) -> NDArray[np.float64]:
    """Laplacian of Gaussian (15, 15) that sums to zero, as MATLAB's fspecial('log', 15, sigma)."""
    axis = np.arange(HFEN_WINDOW) - HFEN_WINDOW // 2
    radius_squared = axis[:, None] ** 2 + axis**2
    gaussian = np.exp(-radius_squared / (2 * sigma**2))
    laplacian = gaussian / gaussian.sum() * (radius_squared - 2 * sigma**2) / sigma**4
    return laplacian - laplacian.mean()


def _volumes(
    target: NDArray, prediction: NDArray, support: NDArray[np.bool_] | None
) -> tuple[NDArray, NDArray, NDArray[np.bool_]]:
    """Both volumes in double precision and the support as a full-size mask, after checking their shapes."""
    if target.ndim != 3 or target.shape != prediction.shape:
        raise ValueError(f"metrics need two volumes (slices, y, x); got {target.shape} and {prediction.shape}")
    inside = np.broadcast_to(True if support is None else support, target.shape)
    double = np.result_type(target, prediction, np.float64)
    return target.astype(double), prediction.astype(double), inside


def _inner(volume: NDArray) -> NDArray:
    """Without the border where the SSIM window would leave the image."""
    border = SSIM_WINDOW // 2
    return volume[..., border:-border, border:-border]
