"""Loops compiled by Numba: kept on disk between runs, and spread over torch's number of threads."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any

import torch


def cached(**options: Any) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A decorator: compiled at the first call, and kept on disk where there is a folder that can be written to."""
    from numba import njit

    def compiled(function: Callable[..., None]) -> Callable[..., None]:
        try:
            kept: Callable[..., None] = njit(nogil=True, cache=True, **options)(function)
        except RuntimeError:  # no such folder
            kept = njit(nogil=True, **options)(function)
        return kept

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
