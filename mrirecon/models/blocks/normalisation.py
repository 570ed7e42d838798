"""Instance norm and LeakyReLU as one operation, on channels-last memory, which its convolutions prefer."""

import math
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from mrirecon.physics.compiled import in_parts

Array = np.ndarray[Any, Any]

SLOPE = 0.2
EPSILON = 1e-5
PART_BYTES = 2**21
#: Numbers from which on threads share an image.
SHARED = 2**20


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
        if x.device.type == "cpu" and x.dtype in (torch.float32, torch.bfloat16):
            y, scale = _compiled(_rows(x), x.shape[1])
            ctx.save_for_backward(_image(y, x), scale)
            return _image(y, x)
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


def _compiled(rows: Tensor, channels: int) -> tuple[Tensor, Tensor]:
    """y and the scale of each channel, on a CPU in compiled loops; rows as of `_rows`."""
    from mrirecon.models.blocks import normalisation_kernel as kernel

    batch, count, width = rows.shape
    y, scales = torch.empty_like(rows), torch.empty(batch, 1, width)
    slope, epsilon = np.float32(SLOPE), np.float32(EPSILON)
    for image, out, scale in zip(_numpy(rows), _numpy(y), scales[:, 0].numpy(), strict=True):
        if count * width < SHARED or torch.get_num_threads() == 1:
            kernel.whole(image, channels, epsilon, slope, out, scale)
            continue
        totals = np.zeros((torch.get_num_threads(), width), np.float32)
        mean = _shared(partial(kernel.sums, image), totals, count, channels)
        variance = _shared(partial(kernel.squares, image, mean), totals, count, channels)
        scale[:] = 1 / np.sqrt(variance + epsilon)
        apply = partial(kernel.normalised, image, mean, scale, slope, out)
        in_parts(_unnumbered(apply), count)
    return y, scales


def _shared(work: Callable[[Array, int, int], None], totals: Array, count: int, channels: int) -> Array:
    """Mean of each channel, once per pixel of a row; work(total, first, last) adds up rows, several threads at once."""
    in_parts(lambda first, last, number: work(totals[number], first, last), count)
    total = totals.sum(axis=0).reshape(-1, channels).sum(axis=0)
    pixels = totals.shape[1] // channels
    return np.tile(total / np.float32(count * pixels), pixels)


def _unnumbered(work: Callable[[int, int], None]) -> Callable[[int, int, int], None]:
    return lambda first, last, number: work(first, last)


def _numpy(rows: Tensor) -> Array:
    """The same memory as an array; bfloat16, which NumPy does not have, as uint16."""
    rows = rows.detach()
    return rows.view(torch.uint16).numpy() if rows.dtype == torch.bfloat16 else rows.numpy()


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
