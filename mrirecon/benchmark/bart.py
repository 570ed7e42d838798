"""Calls of BART's programs, on files in a folder. Starting them and reading and writing files is part of their time."""

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mrirecon.benchmark.peer import environment


def available() -> bool:
    """Whether `bart` is on the PATH."""
    return shutil.which("bart") is not None


def write_cfl(path: Path, array: NDArray[np.complex64]) -> None:
    """Coil data (coils, y, x) as BART's (x, y, 1, coils), in `path` + .hdr and .cfl."""
    coils, height, width = array.shape
    Path(f"{path}.hdr").write_text(f"# Dimensions\n{width} {height} 1 {coils}\n", encoding="utf-8")
    np.ascontiguousarray(array, np.complex64).tofile(f"{path}.cfl")


def read_image(path: Path, matrix: tuple[int, int]) -> NDArray[np.complex64]:
    """An image (1, y, x) that BART wrote."""
    return np.fromfile(f"{path}.cfl", np.complex64).reshape(1, *matrix)


def run(arguments: Sequence[str], folder: Path, threads: int) -> None:
    """Run `bart ARGUMENTS` in `folder`; RuntimeError with what it said if it fails."""
    variables = environment(OMP_NUM_THREADS=str(threads))
    result = subprocess.run(["bart", *arguments], cwd=folder, env=variables, capture_output=True, text=True)
    if result.returncode:
        raise RuntimeError(f"bart {arguments[0]}: {(result.stderr or result.stdout).strip()[-150:]}")
