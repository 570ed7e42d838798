"""Losses. Those of complex images see scale and phase; SSIM sees magnitudes."""

import torch
import torch.nn.functional as F
from torch import Tensor

from mrirecon.physics.measurement import Reconstructor

#: Smaller errors (50 dB) are good enough not to be improved at the cost of others.
NEGLIGIBLE_NMSE = 1e-5


def l1(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean magnitude of the complex difference of (batch, y, x) images."""
    return (prediction - target).abs().mean()


def mse(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean squared magnitude of the complex difference of (batch, y, x) images."""
    return (prediction - target).abs().square().mean()


def log_nmse(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean over the batch of ln(‖error‖² / ‖target‖²) of complex images (batch, y, x): a PSNR, but for its scale.

    Every example counts alike, whether its error is large, as at high accelerations and low SNR, or small.
    """
    error, energy = ((x.real.square() + x.imag.square()).mean(dim=(-2, -1)) for x in (prediction - target, target))
    return (error / energy.clamp_min(1e-6) + NEGLIGIBLE_NMSE).log().mean()


def ssim_loss(prediction: Tensor, target: Tensor, data_range: Tensor) -> Tensor:
    """1 − SSIM of real images (batch, y, x), such as magnitudes, with fastMRI's definition (arXiv 1811.08839).

    7×7 uniform window over valid positions, k1 = 0.01, k2 = 0.03, unbiased covariances. data_range: real (batch,), the
    maximum of the volume's target.
    """
    window, samples = 7, 49
    unbiased = samples / (samples - 1)
    x, y = prediction[:, None], target[:, None]
    c1 = (0.01 * data_range[:, None, None, None]).square()
    c2 = (0.03 * data_range[:, None, None, None]).square()
    mean_x, mean_y, mean_xx, mean_yy, mean_xy = (F.avg_pool2d(t, window, 1) for t in (x, y, x * x, y * y, x * y))
    var_x = unbiased * (mean_xx - mean_x.square())
    var_y = unbiased * (mean_yy - mean_y.square())
    cov = unbiased * (mean_xy - mean_x * mean_y)
    luminance = (2 * mean_x * mean_y + c1) / (mean_x.square() + mean_y.square() + c1)
    structure = (2 * cov + c2) / (var_x + var_y + c2)
    return 1 - (luminance * structure).mean()


def step_weights(model: Reconstructor, estimates: int) -> Tensor:
    """Weights 10^(−1 + t/(T−1)) of the time steps t of every cascade, flat (estimates,); 1 where T = 1."""
    steps = model.steps_per_cascade
    weights = torch.logspace(-1, 0, steps) if steps > 1 else torch.ones(1)
    return weights.repeat(estimates // steps)
