"""Loops compiled by Numba: kept on disk between runs, and spread over torch's number of threads."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import lru_cache
from typing import Any

import torch

#: Numbers in one vector of `physics.kernels`.
LANES = 16


def cached(**options: Any) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A decorator: compiled at the first call, and kept on disk where there is a folder that can be written to.

    A full disk or a damaged file costs the time to compile again, and nothing else.
    """
    from numba import njit
    from numba.core.caching import FunctionCache

    class Kept(FunctionCache):
        def load_overload(self, sig: Any, target_context: Any) -> Any:
            try:
                return super().load_overload(sig, target_context)
            except Exception:  # whatever unpickling a damaged file throws
                return None

        def save_overload(self, sig: Any, data: Any) -> None:
            with suppress(Exception):
                super().save_overload(sig, data)

    def compiled(function: Callable[..., None]) -> Callable[..., None]:
        kept = njit(nogil=True, **options)(function)
        with suppress(RuntimeError):  # no folder
            kept._cache = Kept(function)
        jitted: Callable[..., None] = kept
        return jitted

    return compiled


def in_parts(work: Callable[[int, int, int], None], count: int) -> None:
    """work(first, last, number) over 0 … count − 1 in as many parts as torch has threads, side by side."""
    threads = min(count, torch.get_num_threads())
    bounds = [count * number // threads for number in range(threads + 1)]
    pool = _pool(torch.get_num_threads()) if threads > 1 else None
    others = [pool.submit(work, bounds[k], bounds[k + 1], k) for k in range(1, threads)] if pool else []
    work(bounds[0], bounds[1], 0)
    for other in others:
        other.result()


@lru_cache(maxsize=1)
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads - 1, "mrirecon")  # and the thread that calls


os.register_at_fork(after_in_child=_pool.cache_clear)  # threads do not survive a fork
