"""Convolutions whose borders repeat the edge, as the RIMs use, and the plain stack of them of earlier networks."""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ReplicateConv2d(nn.Module):
    """Same-size 2D convolution with replication padding: real (batch, in, y, x) → (batch, out, y, x).

    Weights are Kaiming-normal, biases zero. Autocast would pad in float32; here the input keeps its precision, which
    makes a training step a quarter faster.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, dilation: int = 1, bias: bool = True):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None
        self.dilation = dilation
        self.padding = 4 * [dilation * (kernel // 2)]
        nn.init.kaiming_normal_(self.weight, nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            padded = F.pad(x, self.padding, mode="replicate")
        return F.conv2d(padded, self.weight, self.bias, dilation=self.dilation)


class ConvStack(nn.Sequential):
    """Convolutions 3×3 with ReLU between them: real (batch, inputs, y, x) → (batch, outputs, y, x), borders zero.

    `layers` convolutions, `channels` features between them. The last starts near zero, so that a network which adds its
    output to the image starts near the identity.
    """

    def __init__(self, inputs: int, outputs: int, channels: int, layers: int):
        widths = [inputs, *[channels] * (layers - 1), outputs]
        convolutions = [nn.Conv2d(i, o, 3, padding=1) for i, o in pairwise(widths)]
        for convolution in convolutions[:-1]:
            nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
        nn.init.normal_(convolutions[-1].weight, std=1e-3)
        modules: list[nn.Module] = []
        for convolution in convolutions:
            nn.init.zeros_(convolution.bias)  # type: ignore[arg-type]
            modules += [convolution, nn.ReLU(inplace=True)]
        super().__init__(*modules[:-1])
