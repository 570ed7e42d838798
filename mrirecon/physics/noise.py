"""The noise level of a measurement, from its own samples."""

import math

import torch
from torch import Tensor

#: The outermost share of the sampled frequencies, where there is the least signal; and at least so many for each coil,
#: so that the coils' covariance is known well enough.
OUTER_SHARE, SAMPLES_PER_COIL = 0.03, 8


def estimate_noise_std(kspace: Tensor, mask: Tensor) -> Tensor:
    """Standard deviation of the complex noise in k-space: real (batch,), 0 for an empty slice.

    kspace: complex (batch, coils, y, x), centred. mask: bool (batch, 1, y, x), axes of size 1 broadcast.
    Of the outermost samples, the corners where those are measured. They still hold some of the image, but in few
    combinations of the coils, as an edge is seen by its neighbours alone: from the middle one on, the principal
    components of these samples hold noise alone. The level is that of the middle component, the median of |y|² over
    ln 2 (|noise|² is exponentially distributed), which single strong samples do not move. With 1 to 3 coils, and with
    an SNR over about 100, some of the image's detail is counted as noise. Samples that are zero in all coils count as
    not measured, coils without signal do not count.
    """
    batch, _, height, width = kspace.shape
    y = torch.linspace(-1, 1, height, device=kspace.device)[:, None]
    x = torch.linspace(-1, 1, width, device=kspace.device)
    radius = torch.hypot(y, x)
    levels = []
    for samples, sampled in zip(kspace, mask.expand(batch, 1, height, width)[:, 0], strict=True):
        measured = sampled & (samples != 0).any(dim=0)
        alive = samples[samples.flatten(1).any(dim=1)]
        if not measured.any():
            levels.append(samples.real.new_zeros(()))
            continue
        count = max(OUTER_SHARE * int(measured.sum()), SAMPLES_PER_COIL * len(alive))
        share = min(1.0, count / int(measured.sum()))
        outer = alive[:, measured & (radius >= torch.quantile(radius[measured], 1 - share))]
        _, components = torch.linalg.eigh(outer @ outer.mH)
        power = (components.mH @ outer).abs().square().median(dim=1).values / math.log(2)
        levels.append(power.median().sqrt())
    return torch.stack(levels)
