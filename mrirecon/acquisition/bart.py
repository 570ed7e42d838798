"""BART's arrays: `.cfl` (samples) beside `.hdr` (their dimensions), and `.ra`; memory-mapped, first axis fastest.

Its k-space is centred, as ours; the meaning of the sixteen dimensions is fixed (Uecker et al., ISMRM 2015, 2486;
github.com/mrirecon/bart). Here an array has those larger than 1, in BART's order.
The layout of `.ra` (RawArray) is that of github.com/davidssmith/ra.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrirecon.acquisition.axes import Index, Layout
from mrirecon.acquisition.containers import Container, StoredArray, copied
from mrirecon.acquisition.magic import first_bytes
from mrirecon.errors import InputError

# fmt: off
DIMENSIONS = (
    "READ", "PHS1", "PHS2", "COIL", "MAPS", "TE", "COEFF", "COEFF2",
    "ITER", "CSHIFT", "TIME", "TIME2", "LEVEL", "SLICE", "AVG", "BATCH",
)
# fmt: on
#: What these dimensions are to us; any other must be of size 1.
AXES = {"READ": "x", "PHS1": "y", "PHS2": "kz", "COIL": "coil", "TE": "echo", "TIME": "time", "SLICE": "slice"}

HDR_MAGIC = b"# Dimensions"
RA_MAGIC = b"rawarray"
RA_COMPLEX = 4


@dataclass(frozen=True)
class _Samples:
    """Where complex samples lie in a file: their dimensions, type, and the byte at which they begin."""

    dimensions: tuple[int, ...]
    dtype: np.dtype[Any]
    offset: int = 0

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(size for size in self.dimensions if size > 1)

    def stored(self, path: Path) -> StoredArray:
        """Raises ValueError for sizes that cannot be."""
        if len(self.dimensions) > len(DIMENSIONS) or min(self.dimensions, default=0) < 1:
            raise ValueError(f"its dimensions are {self.dimensions[: len(DIMENSIONS)]}")
        array = StoredArray(self.shape, self.dtype, path.stat().st_size - self.offset)
        array.check_size()
        return array

    def read(self, path: Path, index: Index) -> NDArray[Any]:
        shape = self.stored(path).shape
        return copied(lambda: np.memmap(path, self.dtype, "r", self.offset, shape, order="F"), index)


def is_hdr(head: bytes) -> bool:
    """The header of a `.cfl`, by a file's first bytes."""
    return head.startswith(HDR_MAGIC)


def is_ra(head: bytes) -> bool:
    """A `.ra`, by a file's first bytes."""
    return head.startswith(RA_MAGIC)


def is_cfl(path: Path) -> bool:
    """Whether a file is a `.cfl`, which has no mark of its own: BART's header lies beside it and gives it this size.

    A file of that name but another size is a damaged one. What is called otherwise is something else, such as the
    scanner's file that BART has converted.
    """
    header = path.with_suffix(".hdr")
    if not header.is_file() or not header.stat().st_size or not is_hdr(first_bytes(header)):
        return False
    try:
        return path.suffix == ".cfl" or path.stat().st_size == 8 * math.prod(_cfl_samples(path).dimensions)
    except (ValueError, IndexError):
        return False


def cfl_of(path: Path) -> Path:
    """The file of samples, given either of the two."""
    return path.with_suffix(".cfl") if is_hdr(first_bytes(path)) else path


def _cfl_samples(path: Path) -> _Samples:
    lines = first_bytes(path.with_suffix(".hdr")).splitlines()
    return _Samples(tuple(int(size) for size in lines[1].split()), np.dtype("<c8"))


def _ra_samples(path: Path) -> _Samples:
    head = first_bytes(path)
    _, flags, kind, width, size, count = np.frombuffer(head, "<u8", 6).tolist()
    if flags or kind != RA_COMPLEX or width not in (8, 16):
        raise ValueError("of the .ra files, little-endian complex ones without compression are read")
    if count > len(DIMENSIONS):
        raise ValueError(f"it has {count} dimensions")
    dimensions = tuple(np.frombuffer(head, "<u8", count, offset=48).tolist())
    if size != math.prod(dimensions) * width:
        raise ValueError("its dimensions and its size do not agree")
    return _Samples(dimensions, np.dtype(f"<c{width}"), offset=48 + 8 * count)


def _cfl_arrays(path: Path) -> dict[str, StoredArray]:
    file = cfl_of(path)
    if not file.is_file():
        raise InputError(f"{file}: there is no such file, which holds the samples of the .hdr; keep both together.")
    return {"": _cfl_samples(file).stored(file)}


def _read_cfl(path: Path, key: str, index: Index) -> NDArray[Any]:
    return _cfl_samples(path).read(cfl_of(path), index)


def _ra_arrays(path: Path) -> dict[str, StoredArray]:
    return {"": _ra_samples(path).stored(path)}


def _read_ra(path: Path, key: str, index: Index) -> NDArray[Any]:
    return _ra_samples(path).read(path, index)


def _cfl_layout(shape: Sequence[int], path: Path) -> Layout:
    return _layout(_cfl_samples(path).dimensions, path)


def _ra_layout(shape: Sequence[int], path: Path) -> Layout:
    return _layout(_ra_samples(path).dimensions, path)


def _layout(dimensions: tuple[int, ...], path: Path) -> Layout:
    """BART's meaning of the dimensions. Raises InputError for those that have no meaning here, or span no k-space."""
    names = [name for name, size in zip(DIMENSIONS, dimensions, strict=False) if size > 1]
    for name in names:
        if name not in AXES:
            number = DIMENSIONS.index(name)
            command = f"bart avg {1 << number}" if name == "AVG" else f"bart slice {number} 0"
            raise InputError(
                f"{path}: has {dimensions[number]} entries along BART's dimension {number} ({name}), not read; "
                f"make one of them first, for example by `{command} IN OUT`."
            )
    hybrid = "READ" not in names  # one position of a 3D scan, already transformed along the readout
    order = tuple("x" if hybrid and name == "PHS2" else AXES[name] for name in names)
    if not {"y", "x"} <= set(order):
        raise InputError(
            f"{path}: BART's dimensions {','.join(names) or 'are all 1, which'} do not span k-space (READ and PHS1, or "
            "PHS1 and PHS2); if they mean something else, name them with --axes, without those of size 1."
        )
    if {"kz", "slice"} <= set(order):
        raise InputError(f"{path}: has several slices of a 3D scan; take one slab with `bart slice 13 0 IN OUT`.")
    if hybrid:
        return Layout(order, notes=("BART's READ is 1, so PHS1 and PHS2 are taken as y,x; the readout is unknown.",))
    return Layout(order, "x")


CFL = Container("BART (.cfl)", _cfl_arrays, _read_cfl, _cfl_layout)
RA = Container("BART (.ra)", _ra_arrays, _read_ra, _ra_layout)
