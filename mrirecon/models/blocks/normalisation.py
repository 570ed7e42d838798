"""Instance norm and LeakyReLU as one operation, on channels-last memory, which its convolutions prefer."""

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

SLOPE = 0.2
EPSILON = 1e-5
PART_BYTES = 2**21


class NormLeakyReLU(nn.Module):
    """LeakyReLU(x̂) with slope 0.2, x̂ = (x − mean) / √(variance + 1e-5) of each channel of each image.

    Real (batch, channels, y, x) → the same shape. Equal to InstanceNorm2d and LeakyReLU, but several times faster on
    the CPU, and for the gradient nothing but the output is kept, from which x̂ can be told. Once differentiable.
    """

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = _NormLeakyReLU.apply(x)
        return y


class _NormLeakyReLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        rows = _rows(x)
        y = torch.empty_like(rows)
        # In parts that stay in a core's cache, in at least single precision.
        parts = rows.split(max(1, PART_BYTES // rows[:, 0].nbytes), dim=1)
        mean = _mean((part.to(_precise(x)) for part in parts), x)
        scale = (_mean(((part - mean).square_() for part in parts), x) + EPSILON).rsqrt()
        for part, out in zip(parts, y.split(parts[0].shape[1], dim=1), strict=True):
            out.copy_(nn.functional.leaky_relu_((part - mean).mul_(scale), SLOPE))
        y = _image(y, x)
        ctx.save_for_backward(y, scale)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        y, scale = ctx.saved_tensors
        rows, grad_rows = (_rows(t).to(_precise(y)) for t in (y, grad))
        negative = rows < 0
        normalised = torch.where(negative, rows / SLOPE, rows)
        slopes = torch.where(negative, SLOPE * grad_rows, grad_rows)
        mean, along = _mean([slopes], y), _mean([slopes * normalised], y)
        change = slopes.sub_(mean).sub_(normalised.mul_(along)).mul_(scale)
        return _image(change.to(y.dtype), y)


def _precise(x: Tensor) -> torch.dtype:
    return torch.promote_types(x.dtype, torch.float32)


def _rows(x: Tensor) -> Tensor:
    """(batch, channels, y, x) as (batch, rows, channels of several pixels): torch is slow with rows of one pixel."""
    batch, channels, height, width = x.shape
    return x.movedim(1, -1).reshape(batch, -1, math.gcd(height * width, 32) * channels)


def _image(rows: Tensor, like: Tensor) -> Tensor:
    """What `_rows` has made of an image, as an image of the size of `like`."""
    batch, channels, height, width = like.shape
    return rows.view(batch, height, width, channels).movedim(-1, 1)


def _mean(parts: Iterable[Tensor], like: Tensor) -> Tensor:
    """Mean of each channel over the rows of all parts, once per pixel of a row: (batch, 1, channels of a row)."""
    _, channels, height, width = like.shape
    total = torch.stack([part.sum(1, keepdim=True) for part in parts]).sum(0)
    pixels = total.shape[-1] // channels
    return (total.unflatten(-1, (pixels, channels)).sum(-2) / (height * width)).repeat(1, 1, pixels)
