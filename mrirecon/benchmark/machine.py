"""What the machine is, and the three rates that bound everything else: two matrix products and a copy."""

import os
import platform
import subprocess
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from mrirecon import __version__
from mrirecon.benchmark.measure import Row, Settings, take_turns

#: Rows and columns of the matrices, which must be large enough to keep a device busy.
SIDE = {"cpu": 3072, "cuda": 8192}
COPY_BYTES = {"cpu": 2**28, "cuda": 2**31}


def facts(settings: Settings) -> dict[str, Any]:
    """Hardware and versions, for people and for `--compare`."""
    cuda = settings.device.type == "cuda"
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "device": torch.cuda.get_device_name(settings.device) if cuda else "cpu",
        "threads": settings.threads,
        "load": round(os.getloadavg()[0], 2),
        "system": platform.platform(),
        "python": platform.python_version(),
        "mrirecon": __version__,
        "torch": torch.__version__,
        "sigpy": version("sigpy"),
        "bart": bart_version(),
    }


def bart_version() -> str | None:
    """The version of the `bart` on the PATH; None without one."""
    try:
        return subprocess.run(["bart", "version"], capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def measure_machine(settings: Settings) -> Iterator[Row]:
    """Rates of a large matrix product in fp32 and bf16, and of a copy."""
    kind = settings.device.type
    source = torch.ones(COPY_BYTES[kind] // (10 if settings.quick else 1) // 4, device=settings.device)
    target = torch.empty_like(source)
    work = {
        "matrix product fp32": (matrix_product(settings, torch.float32), product_flops(settings)),
        "matrix product bf16": (matrix_product(settings, torch.bfloat16), product_flops(settings)),
        "copy": (lambda: target.copy_(source), 4 * len(source)),
    }
    turns = take_turns({name: method for name, (method, _) in work.items()}, settings)
    for name, taken in turns.items():
        rates = tuple(work[name][1] / seconds for seconds in taken.seconds)
        yield Row("machine", name, "B/s" if name == "copy" else "FLOP/s", rates, note=taken.failure)


def matrix_product(settings: Settings, dtype: torch.dtype) -> Callable[[], object]:
    """A call that multiplies two large square matrices, into memory that is kept."""
    side = _side(settings)
    factors = torch.ones(2, side, side, device=settings.device, dtype=dtype)
    product = torch.empty_like(factors[0])
    return lambda: torch.mm(factors[0], factors[1], out=product)


def product_flops(settings: Settings) -> int:
    """Multiplications and additions of that product."""
    return 2 * _side(settings) ** 3


def _side(settings: Settings) -> int:
    return SIDE[settings.device.type] // (2 if settings.quick else 1)


def _processor() -> str:
    """The processor's name, which Python does not tell on Linux."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
