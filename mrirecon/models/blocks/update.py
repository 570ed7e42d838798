"""Networks whose output is added to an image, x ← x + U(x): how they begin, before training."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mrirecon.models.blocks.recurrent import identity_
from mrirecon.models.blocks.unet import NormUNet

#: x ← x − g of a network that is given the channels [Re x, Im x, Re g, Im g].
GRADIENT_DESCENT = {(0, 2): -1.0, (1, 3): -1.0}


class UpdateUNet(NormUNet):
    """NormUNet for differences: the deviation of the first inputs is given back to the outputs, their mean is not.

    With the mean, every update would begin by doubling it. The last convolution starts near zero, as in `ConvStack`.
    """

    def __init__(self, channels: int, pools: int, inputs: int = 2, outputs: int = 2):
        super().__init__(channels, pools, inputs, outputs)
        nn.init.normal_(self.unet.last.weight, std=1e-3)
        nn.init.zeros_(self.unet.last.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) - x[:, : self.outputs].mean(dim=(-2, -1), keepdim=True)


def start_as_linear(stack: nn.Module, weights: Mapping[tuple[int, int], float]) -> None:
    """Let a `ConvStack`'s untrained output o be Σ weights[o, i] input i, nearly.

    Two features carry each input, with either sign, through all layers; without them a plain stack that has to find the
    gradient's use learns next to nothing in its first hundred steps. A stack with too few features, or of one layer,
    stays as it is.
    """
    first, *others = (layer for layer in stack.children() if isinstance(layer, nn.Conv2d))
    carried = sorted({i for _, i in weights})
    features = 2 * len(carried)
    if not others or first.out_channels < features:
        return
    *middle, last = others
    with torch.no_grad():
        first.weight[:features] = 0
        last.weight[:, :features] = 0
        for feature, (i, sign) in enumerate((i, sign) for i in carried for sign in (1, -1)):
            first.weight[feature, i, 1, 1] = sign
            for o in range(last.out_channels):
                last.weight[o, feature, 1, 1] = sign * weights.get((o, i), 0.0)
    for convolution in middle:
        identity_(convolution.weight, convolution.bias, features)
