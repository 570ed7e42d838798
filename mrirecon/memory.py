"""How much memory tensors take: measured exactly, by watching every storage that torch makes and lets go again."""

import ctypes
import sys
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

#: Parameters of mallopt(3).
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3


class TensorMemory(TorchDispatchMode):
    """Within this context, `peak` is the largest sum of bytes of the tensors made in it that lived at one time.

    Counts storages, on any device, once each, however many views they have. What a library takes inside an operation
    (scratch space of a convolution or an FFT), and tensors from before, are not seen.
    """

    def __init__(self) -> None:
        super().__init__()
        self.live = self.peak = 0
        self._storages: weakref.WeakSet[Any] = weakref.WeakSet()

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # skipping it would import it at the first operation: 4 s and 75 MB

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self._storages.update(_storages((args, kwargs)))  # those from before, among them
        out = func(*args, **(kwargs or {}))
        for storage in _storages(out):
            if storage not in self._storages:
                self._storages.add(storage)
                self.live += storage.nbytes()
                self.peak = max(self.peak, self.live)
                weakref.finalize(storage, self._forget, storage.nbytes())
        return out

    def _forget(self, size: int) -> None:
        self.live -= size


def _storages(values: object) -> list[torch.UntypedStorage]:
    return [leaf.untyped_storage() for leaf in tree_leaves(values) if isinstance(leaf, torch.Tensor)]


def peak_bytes(run: Callable[[], object]) -> int:
    """Peak of the tensors that `run()` makes, in bytes."""
    with TensorMemory() as memory:
        run()
    return memory.peak


def keep_freed_memory() -> None:
    """Let this process keep the memory that it frees, for what it allocates next, instead of giving it back.

    Else the C library of Linux asks the system for every large tensor anew, and a network on the CPU waits up to a
    quarter of its time for empty pages. Nothing happens elsewhere.
    """
    if not sys.platform.startswith("linux"):
        return
    with suppress(OSError, AttributeError):  # another C library than GNU's
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_MMAP_THRESHOLD, 2**30)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
