"""The sub-networks of ATOMMIC and mridc that differ from those in `models.blocks`."""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mrirecon.models.blocks.unet import UNetBlock


class PaddedNormUNet(nn.Module):
    """Normalised U-Net: real (batch, inputs, y, x) → (batch, outputs, y, x).

    groups: mean and (unbiased) deviation are taken over this many equal groups of neighbouring channels, and undone for
    as many equal groups of outputs; 0 = no normalisation. A constant group's deviation counts as 1. padding: a side of
    n pixels is zero-padded to ((n − 1) | padding) + 1; unlike fastMRI's 15, the usual 11 gives no multiples of 16.
    """

    def __init__(
        self, channels: int, pools: int, inputs: int = 2, outputs: int = 2, padding: int = 11, groups: int = 2
    ):
        super().__init__()
        self.padding = padding
        self.groups = groups
        self.unet = UNetBlock(inputs, outputs, channels, pools)

    def forward(self, x: Tensor) -> Tensor:
        if not self.groups:
            return self._padded(x)
        grouped = x.reshape(x.shape[0], self.groups, -1)
        mean, std = grouped.mean(dim=2, keepdim=True), grouped.std(dim=2, keepdim=True)
        std = torch.where(std > 0, std, 1)
        out = self._padded(((grouped - mean) / std).reshape(x.shape))
        return (out.reshape(x.shape[0], self.groups, -1) * std + mean).reshape(out.shape)

    def _padded(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        missing_y, missing_x = (((n - 1) | self.padding) + 1 - n for n in (height, width))
        top, left = missing_y // 2, missing_x // 2
        padded = F.pad(x, (left, missing_x - left, top, missing_y - top))
        out: Tensor = self.unet(padded)[..., top : top + height, left : left + width]
        return out


class ConvPReLU(nn.Module):
    """Convolutions 3×3 with one PReLU between them: real (batch, inputs, y, x) → (batch, outputs, y, x)."""

    def __init__(self, channels: int, layers: int, inputs: int = 2, outputs: int = 2):
        super().__init__()
        self.convolutions = convolutions(channels, layers, inputs, outputs)
        self.slope = nn.Parameter(torch.tensor([0.25]))

    def forward(self, x: Tensor) -> Tensor:
        return convolve(x, self.convolutions, self.slope)


def convolutions(channels: int, layers: int, inputs: int = 2, outputs: int = 2) -> nn.ModuleList:
    """`layers` convolutions 3×3, with `channels` features between them."""
    widths = [inputs, *[channels] * (layers - 1), outputs]
    return nn.ModuleList(nn.Conv2d(i, o, 3, padding=1) for i, o in pairwise(widths))


def convolve(x: Tensor, layers: nn.ModuleList, slope: Tensor) -> Tensor:
    """`layers` one after the other on real (batch, inputs, y, x), with a PReLU of that slope, real (1,), between."""
    for layer in layers[:-1]:
        x = F.prelu(layer(x), slope)
    out: Tensor = layers[-1](x)
    return out
