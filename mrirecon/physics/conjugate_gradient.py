"""Conjugate gradients for a batch of Hermitian positive systems at once."""

from collections.abc import Callable

import torch
from torch import Tensor

#: A residual of so many times the rounding error of the right-hand side is none.
SOLVED = 10


def conjugate_gradient(
    normal: Callable[[Tensor], Tensor], rhs: Tensor, iterations: int, start: Tensor | None = None
) -> Tensor:
    """Approximate the x with normal(x) = rhs by `iterations` steps from `start` (default 0).

    normal: a Hermitian, positive semi-definite linear map that treats the entries of the leading axis independently.
    rhs, start: complex or real (batch, ...). Step lengths are per batch entry, so each gets what it would get alone.

    Differentiable through all its steps. An entry that is solved to rounding stays put, a zero `rhs` gives a zero: the
    step lengths are 0 there instead of 0 / 0. Going on would divide rounding errors by what is left of them in a null
    space of `normal`, and blow up.
    """
    x = torch.zeros_like(rhs) if start is None else start
    residual = rhs if start is None else rhs - normal(start)
    direction = residual
    energy = _inner(residual, residual)
    solved = (SOLVED * torch.finfo(rhs.dtype).eps) ** 2 * _inner(rhs, rhs).detach()
    for _ in range(iterations):
        mapped = normal(direction)
        step = _divide(torch.where(energy > solved, energy, 0), _inner(direction, mapped))
        x = x + step * direction
        residual = residual - step * mapped
        energy, previous = _inner(residual, residual), energy
        direction = residual + _divide(energy, previous) * direction
    return x


def _inner(a: Tensor, b: Tensor) -> Tensor:
    """Re⟨a, b⟩ per batch entry, shaped to broadcast against them."""
    product = (a.conj() * b).real if a.is_complex() else a * b
    return product.sum(dim=tuple(range(1, a.ndim)), keepdim=True)


def _divide(numerator: Tensor, denominator: Tensor) -> Tensor:
    # Two selections: the unused 0 / 0 branch would otherwise put NaN into the gradient.
    nonzero = denominator > 0
    return torch.where(nonzero, numerator / torch.where(nonzero, denominator, 1), 0)
