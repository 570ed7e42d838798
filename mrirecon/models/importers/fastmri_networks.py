"""What fastMRI (MIT licence) computes with its weights, where that is not what the networks here compute."""

from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from mrirecon.models.blocks.unet import NormUNet, UNetBlock
from mrirecon.models.e2evn import E2EVN
from mrirecon.models.sensitivity import SensitivityNetwork
from mrirecon.physics.coils import root_sum_of_squares
from mrirecon.physics.fourier import ifftc
from mrirecon.physics.measurement import Measurement, Reconstructor
from mrirecon.physics.sense import SenseOperator

#: fastMRI's U-Net pipeline clamps the normalised image to this many standard deviations, and adds this to them.
CLAMP = 6.0
EPSILON = 1e-11


class FastMRIVarNet(E2EVN):
    """`fastmri.models.VarNet`: maps and recursion of the paper; the answer is the root sum of squares over the coils.

    The estimates are not negative, in a complex type. Maps that the measurement brings are not used.
    sensitivity_channels, sensitivity_pools: of the map network. mask_center: it sees the calibration lines only,
    otherwise all measured k-space. Unless the measurement says which lines those are, see `central_lines`.
    """

    unet = NormUNet

    def __init__(
        self,
        cascades: int = 12,
        channels: int = 18,
        pools: int = 4,
        sensitivity_channels: int = 8,
        sensitivity_pools: int = 4,
        mask_center: bool = True,
    ):
        super().__init__(cascades, channels, pools)
        self.mask_center = mask_center
        self.sensitivity = SensitivityNetwork(sensitivity_channels, sensitivity_pools)
        # The layout that training uses here; rounding, on which gradients at the kinks depend, is then as in fastMRI's.
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def sensitivities(self, measurement: Measurement) -> Tensor:
        """The maps, complex (batch, coils, y, x)."""
        mask = measurement.mask
        if not self.mask_center:
            measurement = replace(measurement, calibration=mask)
        elif measurement.calibration is None and (mask == mask[:, :, :1]).all():
            width = measurement.kspace.shape[-1]
            measurement = replace(measurement, calibration=central_lines(mask.expand(-1, -1, -1, width)))
        maps: Tensor = self.sensitivity(measurement)
        return maps

    def forward(self, measurement: Measurement) -> list[Tensor]:
        measurement = measurement.with_sensitivities(self.sensitivities(measurement))
        estimates: list[Tensor] = []
        for kspace in self.kspaces(measurement, SenseOperator(measurement)):
            if self.training:
                estimates.append(_magnitude(kspace))
        return estimates if self.training else [_magnitude(kspace)]


def _magnitude(kspace: Tensor) -> Tensor:
    """Root sum of squares over the coils, (batch, y, x), in the complex type of `kspace`."""
    # vector_norm, because the gradient of its zero is zero and not NaN.
    return torch.linalg.vector_norm(ifftc(kspace), dim=1).to(kspace.dtype)


class FastMRIUnet(Reconstructor):
    """`fastmri.models.Unet` in fastMRI's pipeline: the root sum of squares of the coils, normalised, refined.

    channels, pools: of the U-Net. crop: (rows, columns) of the central part of the image that it sees, there the
    header's reconstruction matrix; the answer is 0 around it. None: the whole image.
    The answer is real in a complex type, and may have small negative values, as there. No phase and no maps are used.
    """

    def __init__(self, channels: int = 32, pools: int = 4, crop: Sequence[int] | None = None):
        super().__init__()
        if crop is not None and (len(crop) != 2 or min(crop) < 1):
            raise ValueError(f"crop is the rows and the columns of an image, not {crop}")
        self.crop = crop
        self.unet = UNetBlock(1, 1, channels, pools)

    def forward(self, measurement: Measurement) -> list[Tensor]:
        whole = root_sum_of_squares(measurement.kspace)
        rows, columns = whole.shape[-2:] if self.crop is None else self._size(*whole.shape[-2:])
        top, left = (whole.shape[-2] - rows) // 2, (whole.shape[-1] - columns) // 2
        image = whole[:, top : top + rows, left : left + columns]
        mean = image.mean(dim=(-2, -1), keepdim=True)
        std = image.std(dim=(-2, -1), keepdim=True) + EPSILON
        normalised = ((image - mean) / std).clamp(-CLAMP, CLAMP)
        refined = self.unet(normalised[:, None])[:, 0].float() * std + mean
        bottom, right = whole.shape[-2] - rows - top, whole.shape[-1] - columns - left
        return [F.pad(refined, (left, right, top, bottom)).to(measurement.kspace.dtype)]

    def _size(self, height: int, width: int) -> tuple[int, int]:
        """The crop; images narrower than it become squares of their width, as in fastMRI's pipeline."""
        assert self.crop is not None
        rows, columns = self.crop
        return (min(rows, height), columns) if columns <= width else (min(width, height), width)


def central_lines(mask: Tensor) -> Tensor:
    """fastMRI's calibration lines of line masks: bool (batch, 1, 1, x) → the same, True in the central lines.

    As many lines on either side of the centre x // 2 are taken as are sampled without a gap on the shorter side, at
    least one in all; n lines begin at (x − n + 1) // 2. There, a side without any gap counts as empty, so that a fully
    sampled mask has a centre of one line: a fault that is not repeated here, where all its lines are taken.
    """
    lines = mask[:, 0, 0].int()
    width = lines.shape[1]
    centre = width // 2
    before = lines[:, :centre].flip(1).cumprod(dim=1).sum(dim=1)
    after = lines[:, centre:].cumprod(dim=1).sum(dim=1)
    number = torch.where(lines.all(dim=1), width, (2 * torch.minimum(before, after)).clamp_min(1))[:, None]
    first = (width - number + 1) // 2
    index = torch.arange(width, device=mask.device)
    return ((index >= first) & (index < first + number))[:, None, None]
