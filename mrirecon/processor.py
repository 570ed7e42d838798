"""How this process uses the processor and the C library."""

import ctypes
import sys
from contextlib import suppress

import torch

#: Parameters of mallopt(3).
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3


def set_up_for_tensors(keep_memory: bool = True) -> None:
    """Set the process up for large tensors; before torch has made its threads, which take this over.

    Numbers below 1e-38 count as zero: the states of a recurrent network decay to them in the air around the object, and
    a CPU computes with them so slowly that a whole reconstruction takes 1.7 times as long.
    keep_memory: keep what is freed for the next allocation. Else the C library of Linux asks the system for every large
    tensor anew, and a network waits up to a quarter of its time for empty pages.
    """
    torch.set_flush_denormal(True)
    if keep_memory and sys.platform.startswith("linux"):
        with suppress(OSError, AttributeError):  # another C library than GNU's
            mallopt = ctypes.CDLL(None).mallopt
            mallopt(M_MMAP_THRESHOLD, 2**30)
            mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
