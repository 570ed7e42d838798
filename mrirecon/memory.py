"""Memory: what tensors take, measured exactly by watching every storage that torch makes, and what there is."""

import os
import weakref
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

MEMINFO = Path("/proc/meminfo")
#: Limit and usage, by either version of Linux' control groups.
CONTROL_GROUPS = (
    (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")),
    (Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"), Path("/sys/fs/cgroup/memory/memory.usage_in_bytes")),
)


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


def available_bytes() -> int:
    """Memory that this process can still take: what is free in the machine, within the limits of its control groups."""
    free = [os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    if MEMINFO.exists():
        facts = dict(line.split(":") for line in MEMINFO.read_text().splitlines())
        free = [int(facts["MemAvailable"].split()[0]) << 10]
    for limit, usage in CONTROL_GROUPS:
        with suppress(OSError, ValueError):  # no such group, or no limit ("max")
            free.append(int(limit.read_text()) - int(usage.read_text()))
    return max(min(free), 0)
