"""Activation checkpointing of unrolled networks (Chen et al., arXiv 1604.06174).

A network runs each of its repeated parts (time steps, cascades, iterations) through `repeated`. Whoever trains it
decides, with `checkpointing`, whether the activations inside of them are kept, or computed again in the backward pass.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

import torch
from torch.utils.checkpoint import checkpoint

from mrirecon.physics.sense import SenseOperator

Result = TypeVar("Result")

_ACTIVE = ContextVar("checkpointing", default=False)


@contextmanager
def checkpointing(active: bool) -> Iterator[None]:
    """Within this context, repeated parts keep their inputs only if `active`; results and gradients are the same."""
    token = _ACTIVE.set(active)
    try:
        yield
    finally:
        _ACTIVE.reset(token)


def repeated(part: Callable[..., Result], *inputs: object) -> Result:
    """`part(*inputs)`, one repeated part of a network. Repeated parts do not hold one another."""
    if _ACTIVE.get() and torch.is_grad_enabled():
        for value in inputs:
            if isinstance(value, SenseOperator):
                _ = value.adjoint_data  # made once and kept: outside, as what is made inside is forgotten
        # No network draws random numbers on the way.
        result: Result = checkpoint(part, *inputs, use_reentrant=False, preserve_rng_state=False)
        return result
    return part(*inputs)
