"""Peak resident memory of a process that does one thing, as other programs' memory is recorded."""

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path


def peak_resident_bytes(work: Callable[..., object], *arguments: object) -> int:
    """Peak of a fresh process in which `work(*arguments)` runs once, Python and its libraries included. Linux only.

    work: a function of a module. Raises what it raises.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_measured, work, arguments).result()


def _measured(work: Callable[..., object], arguments: tuple[object, ...]) -> int:
    work(*arguments)
    return peak_of_this_process()


def peak_of_this_process() -> int:
    """Peak of the resident memory of this process so far, in bytes. Linux only."""
    # Unlike getrusage's, it does not begin with what the process had that started this one.
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
