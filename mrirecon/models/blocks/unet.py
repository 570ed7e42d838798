"""The U-Net of fastMRI (arXiv 1811.08839; Ronneberger et al. 2015), and its normalised form for images of any size."""

from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mrirecon.models.blocks.normalisation import SLOPE, NormLeakyReLU


class ConvBlock(nn.Sequential):
    """Twice: convolution 3×3 without bias, instance norm, LeakyReLU 0.2."""

    def __init__(self, inputs: int, outputs: int):
        # The numbers name the weights in checkpoints, where norm and LeakyReLU once had one each.
        layers = {
            "0": nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
            "1": NormLeakyReLU(),
            "3": nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
            "4": NormLeakyReLU(),
        }
        super().__init__(OrderedDict(layers))


class UpBlock(nn.Sequential):
    """Transposed convolution 2×2 that doubles the size, instance norm, LeakyReLU 0.2."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__(nn.ConvTranspose2d(inputs, outputs, 2, stride=2, bias=False), NormLeakyReLU())


class UNetBlock(nn.Module):
    """Real (batch, inputs, y, x) → (batch, outputs, y, x); `channels` double at each of `pools` halvings of the size.

    Odd sizes are reflected at the end on the way up, as in fastMRI's.
    """

    def __init__(self, inputs: int, outputs: int, channels: int = 32, pools: int = 4):
        super().__init__()
        widths = [channels * 2**level for level in range(pools + 1)]
        self.down = nn.ModuleList(ConvBlock(i, o) for i, o in zip([inputs, *widths], widths[:-1], strict=False))
        self.bottom = ConvBlock(widths[-2], widths[-1])
        self.up = nn.ModuleList(UpBlock(2 * w, w) for w in reversed(widths[:-1]))
        self.merge = nn.ModuleList(ConvBlock(2 * w, w) for w in reversed(widths[:-1]))
        self.last = nn.Conv2d(channels, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        skips = []
        for down in self.down:
            skips.append(down(x))
            x = F.avg_pool2d(skips[-1], 2)
        x = self.bottom(x)
        for up, merge, skip in zip(self.up, self.merge, reversed(skips), strict=True):
            x = up(x)
            missing_y, missing_x = skip.shape[-2] - x.shape[-2], skip.shape[-1] - x.shape[-1]
            if missing_y or missing_x:
                x = F.pad(x, (0, missing_x, 0, missing_y), mode="reflect")
            x = merge(torch.cat([x, skip], dim=1))
        return self.last(x)


class NormUNet(nn.Module):
    """U-Net between a normalisation of each channel to zero mean and unit deviation and its undoing.

    Real (batch, inputs, y, x) → (batch, outputs, y, x). The outputs are in the units of as many first inputs: their
    mean and deviation are undone. Sizes are zero-padded to the next multiple of 16 on the way. A constant channel, such
    as an empty slice's, stays finite: its deviation counts as 1.
    """

    def __init__(self, channels: int, pools: int, inputs: int = 2, outputs: int = 2):
        super().__init__()
        self.outputs = outputs
        self.unet = UNetBlock(inputs, outputs, channels, pools)

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean(dim=(-2, -1), keepdim=True)
        std = x.std(dim=(-2, -1), keepdim=True)
        std = torch.where(std > 0, std, 1)
        height, width = x.shape[-2:]
        missing_y, missing_x = -height % 16, -width % 16
        top, left = missing_y // 2, missing_x // 2
        padding = (left, missing_x - left, top, missing_y - top)
        out = self.unet(F.pad((x - mean) / std, padding))[..., top : top + height, left : left + width]
        return out * std[:, : self.outputs] + mean[:, : self.outputs]

    def start_as_identity(self) -> None:
        """Let the untrained network hand its first inputs on: features ±x carry each of them over the topmost skip.

        Without a shortcut around it, a network would spend its first thousand steps on learning what it is given.
        """
        top = self.unet
        split = torch.eye(self.outputs).repeat_interleave(2, dim=0)  # x → ±x
        split[1::2] *= -1
        join = split.T / (1 + SLOPE)  # LeakyReLU(x) − LeakyReLU(−x) = (1 + slope) x
        features = top.last.in_channels
        if features < len(split):
            return  # too narrow to carry anything: it starts at random
        (first, second), (third, fourth) = (
            [layer for layer in block.children() if isinstance(layer, nn.Conv2d)]
            for block in (top.down[0], top.merge[-1])
        )
        _carry(first.weight, split)
        _carry(second.weight, split @ join)
        _carry(third.weight, split @ join, first=features)  # the skip comes second
        _carry(fourth.weight, split @ join)
        _carry(top.last.weight, join)
        nn.init.zeros_(top.last.bias)  # type: ignore[arg-type]


def _carry(weight: Tensor, matrix: Tensor, first: int = 0) -> None:
    """Make the first outputs of a convolution `matrix` times its inputs from `first` on."""
    outputs, inputs = matrix.shape
    centre = weight.shape[-1] // 2
    with torch.no_grad():
        weight[:outputs] = 0
        weight[:outputs, first : first + inputs, centre, centre] = matrix
