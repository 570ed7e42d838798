"""Convolutional recurrent cells: h' = cell(i, h) with input i and state h, both real (batch, channels, y, x).

`*` is a convolution (zero-padded when wider than 1 × 1), `.` the element-wise product. W carry the biases, U have none.
`hand_on(n)` sets the weights of the first n channels so that h' = i there (nearly so where a tanh lies between).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Literal

import torch
from torch import Tensor, nn

from mrirecon.models.blocks.convolution import ReplicateConv2d

Unit = Literal["gru", "mgu", "indrnn"]

#: Bias of a gate that is to stay shut: σ(−5) = 0.007.
SHUT = -5.0
#: The most that one strip of rows takes in `recurrent_layer`: 64 features of 256 × 256 in single precision.
STRIP_BYTES = 2**24
_STRIP_BYTES = ContextVar("strip_bytes", default=STRIP_BYTES)


@contextmanager
def strips_of(size: int) -> Iterator[None]:
    """Within this context, strips of rows take at most `size` bytes, so that little images stand for large ones."""
    token = _STRIP_BYTES.set(size)
    try:
        yield
    finally:
        _STRIP_BYTES.reset(token)


class ConvGRU(nn.Module):
    """r = σ(W_r*i + U_r*h), z = σ(W_z*i + U_z*h), n = tanh(W_n*i + r.(U_n*h)), h' = (1−z).n + z.h (Cho et al. 2014)."""

    def __init__(self, channels: int, kernel: int = 1):
        super().__init__()
        self.w = nn.Conv2d(channels, 3 * channels, kernel, padding=kernel // 2)
        self.u = nn.Conv2d(channels, 3 * channels, kernel, padding=kernel // 2, bias=False)

    def forward(self, i: Tensor, h: Tensor) -> Tensor:
        w_r, w_z, w_n = self.w(i).chunk(3, dim=1)
        u_r, u_z, u_n = self.u(h).chunk(3, dim=1)
        r = torch.sigmoid(w_r + u_r)
        z = torch.sigmoid(w_z + u_z)
        n = torch.tanh(torch.addcmul(w_n, r, u_n))
        return torch.lerp(n, h.to(n.dtype), z)

    def hand_on(self, n: int) -> None:
        _, w_z, w_n = self.w.weight.detach().chunk(3)
        _, b_z, b_n = self.w.bias.detach().chunk(3)  # type: ignore[union-attr]
        nn.init.zeros_(w_z[:n])
        nn.init.constant_(b_z[:n], SHUT)
        nn.init.zeros_(self.u.weight.detach().chunk(3)[2][:n])
        identity_(w_n, b_n, n)


class ConvMGU(nn.Module):
    """f = σ(W_f*i + U_f*h), c = tanh(W_c*i + f.(U_c*h)), h' = (1−f).c + f.h (Zhou et al. 2016, f for 1−f)."""

    def __init__(self, channels: int, kernel: int = 1):
        super().__init__()
        self.w = nn.Conv2d(channels, 2 * channels, kernel, padding=kernel // 2)
        self.u = nn.Conv2d(channels, 2 * channels, kernel, padding=kernel // 2, bias=False)

    def forward(self, i: Tensor, h: Tensor) -> Tensor:
        w_f, w_c = self.w(i).chunk(2, dim=1)
        u_f, u_c = self.u(h).chunk(2, dim=1)
        f = torch.sigmoid(w_f + u_f)
        c = torch.tanh(torch.addcmul(w_c, f, u_c))
        return torch.lerp(c, h.to(c.dtype), f)

    def hand_on(self, n: int) -> None:
        w_f, w_c = self.w.weight.detach().chunk(2)
        b_f, b_c = self.w.bias.detach().chunk(2)  # type: ignore[union-attr]
        nn.init.zeros_(w_f[:n])
        nn.init.constant_(b_f[:n], SHUT)
        nn.init.zeros_(self.u.weight.detach().chunk(2)[1][:n])
        identity_(w_c, b_c, n)


class ConvIndRNN(nn.Module):
    """h' = ReLU(W*i + b + u.h) with one scalar u per channel (Li et al., arXiv 1803.04831)."""

    def __init__(self, channels: int, kernel: int = 1):
        super().__init__()
        self.w = nn.Conv2d(channels, channels, kernel, padding=kernel // 2)
        # Memories of every length, but small states: with states of order 1, one optimiser step at a usual learning
        # rate moves the image, over all time steps, by more than its own size, and training starts by killing units.
        self.u = nn.Parameter(torch.rand(channels))
        nn.init.normal_(self.w.weight, std=1 / channels)
        nn.init.zeros_(self.w.bias)  # type: ignore[arg-type]

    def forward(self, i: Tensor, h: Tensor) -> Tensor:
        w: Tensor = self.w(i)
        return relu_(w.addcmul_(self.u.to(w.dtype)[:, None, None], h.to(w.dtype)))

    def hand_on(self, n: int) -> None:
        nn.init.zeros_(self.u.detach()[:n])
        identity_(self.w.weight, self.w.bias, n)


Cell = ConvGRU | ConvMGU | ConvIndRNN

CELLS: dict[str, type[Cell]] = {
    "gru": ConvGRU,
    "mgu": ConvMGU,
    "indrnn": ConvIndRNN,
}


def recurrent_layer(convolution: ReplicateConv2d, cell: Cell, x: Tensor, h: Tensor) -> Tensor:
    """The new state h' = cell(ReLU(convolution(x)), h), real (batch, channels, y, x).

    Without gradients, large images are done in strips of rows, with the rows that the convolution needs around them:
    the result is the same, but only one strip of what lies between x and h' is in memory, and `h` is overwritten.
    """
    height = x.shape[-2]
    rows = max(1, _STRIP_BYTES.get() * height // h.nbytes)
    if rows >= height or torch.is_grad_enabled() or cell.w.kernel_size != (1, 1):
        state: Tensor = cell(relu_(convolution(x)), h)
        return state
    for start in range(0, height, rows):
        strip = h[..., start : start + rows, :]
        strip.copy_(cell(relu_(convolution.rows(x, start, min(start + rows, height))), strip))
    return h


def relu_(x: Tensor) -> Tensor:
    """ReLU in place."""
    if x.dtype == torch.bfloat16 and x.device.type == "cpu" and not torch.is_grad_enabled():
        # As whole numbers: a negative one is negative there too, and this is four times as fast.
        x.view(torch.int16).clamp_min_(0)
        return x
    return x.relu_()


def identity_(weight: Tensor, bias: Tensor | None, n: int) -> None:
    """Make the first n outputs of a convolution equal to its first n inputs."""
    centre = weight.shape[-1] // 2
    with torch.no_grad():
        weight[:n] = 0
        weight[range(n), range(n), centre, centre] = 1
        if bias is not None:
            bias[:n] = 0
