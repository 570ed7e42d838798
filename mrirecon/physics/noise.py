"""The noise level of a measurement, from its own samples."""

import math

import torch
from torch import Tensor

#: The outermost share of the sampled frequencies, where there is the least signal.
OUTER_SHARE = 0.1


def estimate_noise_std(kspace: Tensor, mask: Tensor) -> Tensor:
    """Standard deviation of the complex noise in k-space: real (batch,), 0 for an empty slice.

    kspace: complex (batch, coils, y, x), centred. mask: bool (batch, 1, y, x), axes of size 1 broadcast.
    The median of |y|² over the outermost tenth of the samples, over ln 2 (|noise|² is exponentially distributed): the
    few frequencies that hold signal there do not move it. Samples that are zero in all coils count as not measured.
    Root mean square over the coils that have signal. On small matrices some image detail is counted as noise.
    """
    batch, _, height, width = kspace.shape
    y = torch.linspace(-1, 1, height, device=kspace.device)[:, None]
    x = torch.linspace(-1, 1, width, device=kspace.device)
    # Distance in units of the matrix, square contours: the edge of a rectangle is all outermost.
    radius = torch.maximum(y.abs(), x.abs())
    levels = []
    for power, sampled in zip(kspace.abs().square(), mask.expand(batch, 1, height, width)[:, 0], strict=True):
        measured = sampled & (power > 0).any(dim=0)
        alive = power.flatten(1).amax(dim=1) > 0
        if not measured.any():
            levels.append(power.new_zeros(()))
            continue
        limit = torch.quantile(radius[measured], 1 - OUTER_SHARE)
        outer = power[alive][:, measured & (radius >= limit)]
        levels.append((outer.median(dim=1).values / math.log(2)).mean().sqrt())
    return torch.stack(levels)
