"""Convolutions whose borders repeat the edge, as the RIMs use, and the plain stack of them of earlier networks."""

from itertools import pairwise, product
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: Up to so many outputs a CPU is faster with a matrix product over channels and a sum of shifted images.
FEW_OUTPUTS = 4


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
        if len(self.weight) <= FEW_OUTPUTS and x.device.type == "cpu":
            return self._by_taps(x)
        return F.conv2d(self._pad(x), self.weight, self.bias, dilation=self.dilation)

    def rows(self, x: Tensor, start: int, stop: int) -> Tensor:
        """The rows from `start` to `stop` of `forward(x)`."""
        halo = self.padding[-1]
        first, last = max(0, start - halo), min(x.shape[-2], stop + halo)
        left, right, _, _ = self.padding
        padding = [left, right, first - (start - halo), stop + halo - last]
        return F.conv2d(self._pad(x[:, :, first:last], padding), self.weight, self.bias, dilation=self.dilation)

    def _pad(self, x: Tensor, padding: list[int] | None = None) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return F.pad(x, padding or self.padding, mode="replicate")

    def _by_taps(self, x: Tensor) -> Tensor:
        """Each tap of the kernel is applied to the whole image, then the products are shifted and summed, in float32.

        Two outputs would leave most of a convolution's vector registers empty.
        """
        outputs, inputs, kernel, _ = self.weight.shape
        batch, _, height, width = x.shape
        matrix = self.weight.permute(2, 3, 0, 1).reshape(-1, inputs)
        products = matrix @ x.movedim(1, -1).reshape(-1, inputs).T
        taps = self._pad(products.view(-1, batch, height, width))
        total = _ShiftedSum.apply(taps.unflatten(0, (kernel, kernel, outputs)), self.dilation, height, width)
        total = total.transpose(0, 1)
        return total if self.bias is None else total + self.bias[:, None, None]


class _ShiftedSum(torch.autograd.Function):
    """Taps (k, k, outputs, batch, …) → their sum (outputs, batch, y, x), each moved by its place in the kernel."""

    @staticmethod
    def forward(ctx: Any, taps: Tensor, dilation: int, height: int, width: int) -> Tensor:
        ctx.shape, ctx.dtype, ctx.shifts = taps.shape, taps.dtype, _shifts(len(taps), dilation, height, width)
        if taps.dtype == torch.bfloat16:
            # Each tap with its shift is a view, and one sum of all rounds once; in float32 it is slower than the loop.
            down, right, *strides = taps.stride()
            shifted = taps.as_strided(
                (*taps.shape[:4], height, width), (down + dilation * strides[-2], right + dilation, *strides)
            )
            return shifted.sum(dim=(0, 1), dtype=torch.float32)
        total = taps.new_zeros(*taps.shape[2:4], height, width)
        for place in ctx.shifts:
            total += taps[place]
        return total

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        taps = grad.new_zeros(ctx.shape, dtype=ctx.dtype)
        for place in ctx.shifts:
            taps[place] = grad
        return taps, None, None, None


def _shifts(kernel: int, dilation: int, height: int, width: int) -> list[Any]:
    """Where the output lies in each tap of the kernel."""
    return [
        (
            down,
            right,
            ...,
            slice(dilation * down, dilation * down + height),
            slice(dilation * right, dilation * right + width),
        )
        for down, right in product(range(kernel), repeat=2)
    ]


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
