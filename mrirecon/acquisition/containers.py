"""What all files of named arrays have in common: choosing the array, reading one slice of it, and the Scan it makes."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrirecon.acquisition.axes import Index, Layout, Volume, guessed_axes, named_axes, times
from mrirecon.acquisition.scan import Header, Scan
from mrirecon.errors import InputError, MrireconError, UsageError

#: DEFLATE, which all these formats compress with, makes data at most 1032 times smaller.
MOST_COMPRESSION = 1032
#: Bytes of a file that are mapped at a time: pages that were touched count as memory of the process.
MAPPED_BYTES = 64 << 20


@dataclass(frozen=True)
class StoredArray:
    """Shape and type of an array in a file, before it is read.

    largest: bytes that it can have at most, judged by the file's size; None = not judged.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    largest: int | None = None

    @property
    def complex(self) -> bool:
        """Complex, or a pair of floats (real, imaginary) as MATLAB writes it into HDF5."""
        return self.dtype.kind == "c" or complex_pair(self.dtype) is not None

    @property
    def type_name(self) -> str:
        return "complex pair" if complex_pair(self.dtype) else self.dtype.name

    def __str__(self) -> str:
        return f"{times(self.shape)} {self.type_name}"

    def check_size(self) -> None:
        """ValueError if the file is too small for the array. Headers can claim any size, so ask before allocating."""
        claimed = math.prod(self.shape) * self.dtype.itemsize
        if self.largest is not None and claimed > self.largest:
            raise ValueError(f"an array of {times(self.shape)} would have {claimed} bytes, and the file is too small")


@dataclass(frozen=True)
class Container:
    """A file format that holds arrays by name.

    arrays: lists them without reading them; a format with one nameless array calls it "".
    read: part of an array. Both open the file anew and may raise anything on damaged files: call them in `reading`.
    layout: the axes of an array of this shape in this file, where nobody names them.
    """

    format: str
    arrays: Callable[[Path], dict[str, StoredArray]]
    read: Callable[[Path, str, Index], NDArray[Any]]
    layout: Callable[[Sequence[int], Path], Layout] = guessed_axes

    def scans(
        self, path: Path, key: str | None, axes: str | Sequence[str] | None, notes: tuple[str, ...] = ()
    ) -> list[Scan]:
        """The volumes of the k-space under `key` (default: the only complex array), one Scan each."""
        with reading(path):
            arrays = self.arrays(path)
        key = choose_kspace(path, arrays, key)
        with reading(path):
            arrays[key].check_size()
            layout = self.layout(arrays[key].shape, path) if axes is None else named_axes(axes, arrays[key].shape, path)
        return self.volumes(path, key, arrays[key], layout, notes)

    def volumes(
        self, path: Path, key: str, array: StoredArray, layout: Layout, notes: tuple[str, ...] = ()
    ) -> list[Scan]:
        """One Scan per volume of an array whose axes are known."""
        volumes = layout.volumes(array.shape)
        if not volumes:
            raise InputError(f"{path}: holds no k-space: an axis of {times(array.shape)} is empty.")
        return [
            Scan(
                path=path,
                format=self.format,
                shape=layout.scan_shape(array.shape),
                read_slice=SliceReader(path, key, layout, self.read, volume),
                header=Header(readout_axis=layout.readout_axis),
                stored_dtype=array.type_name,
                notes=layout.notes + notes,
                volume=label,
                stack=layout.stack,
            )
            for label, volume in volumes.items()
        ]


@dataclass(frozen=True)
class SliceReader:
    """Slice index → complex64 (coils, y, x). Holds no open file, so that it can cross process borders."""

    path: Path
    key: str
    layout: Layout
    read: Callable[[Path, str, Index], NDArray[Any]]
    volume: Volume = ()

    def __call__(self, index: int) -> NDArray[np.complex64]:
        with reading(self.path, f"slice {index}"):
            selected = self.read(self.path, self.key, self.layout.select(index, self.volume))
        return self.layout.arrange(as_complex64(selected))


def copied(mapped: Callable[[], NDArray[Any]], index: Index) -> NDArray[Any]:
    """Part of a memory-mapped array; `mapped` maps it. index: one number or full slice per axis.

    Where the part is spread over the whole file, such as a slice of an array whose slices vary fastest, it is mapped
    anew every MAPPED_BYTES.
    """
    array = mapped()
    slowest = int(np.argmax(array.strides)) if array.ndim else 0
    if not array.ndim or isinstance(index[slowest], int):
        return np.array(array[index])
    result = np.empty(array[index].shape, array.dtype)
    axis = sum(isinstance(place, slice) for place in index[:slowest])
    step = max(1, MAPPED_BYTES // max(array.strides[slowest], 1))
    rows = np.moveaxis(result, axis, 0)
    for start in range(0, len(rows), step):
        some = (*index[:slowest], slice(start, start + step), *index[slowest + 1 :])
        rows[start : start + step] = np.moveaxis(mapped()[some], axis, 0)
    return result


@contextmanager
def reading(path: Path, part: str = "the file") -> Iterator[None]:
    """Errors inside are the file's fault. File libraries raise almost anything on damaged bytes, so all is caught."""
    try:
        yield
    except (MrireconError, MemoryError):
        raise
    except Exception as error:
        reason = str(error) or type(error).__name__
        raise InputError(
            f"{path}: {part} cannot be read ({reason}). The file seems damaged or cut short; copy or export it again."
        ) from error


def choose_kspace(path: Path, arrays: dict[str, StoredArray], key: str | None) -> str:
    """The array that is k-space: `key` if given, else the only complex one. Raises InputError with what there is."""
    if key is None:
        candidates = [name for name, array in arrays.items() if array.complex and len(array.shape) >= 2]
        if len(candidates) == 1:
            return candidates[0]
        if candidates:
            raise InputError(f"{path}: holds several complex arrays; choose one with --key: {listing(arrays)}.")
        if len(arrays) != 1:
            raise InputError(f"{path}: holds no complex array of k-space. It holds {listing(arrays)}.")
        key = next(iter(arrays))
    if "" in arrays and key:
        raise UsageError(f"{path}: --key {key}: this format holds one array without a name; leave --key out.")
    if key not in arrays:
        raise InputError(f"{path}: holds no array '{key}'. It holds {listing(arrays)}.")
    what = f"the array '{key}'" if key else "the array"
    if arrays[key].dtype.kind == "O":
        raise InputError(f"{path}: {what} holds objects, not numbers; save the k-space as an array of its own.")
    if not arrays[key].complex:
        parts = " (they seem to be its last axis)" if arrays[key].shape[-1:] == (2,) else ""
        raise InputError(
            f"{path}: {what} ({arrays[key]}) is not complex, so it is not k-space; is it an image? "
            f"Complex k-space is needed; real and imaginary parts stored apart{parts} must be joined first."
        )
    return key


def listing(arrays: dict[str, StoredArray], most: int = 12) -> str:
    """The arrays of a file, for messages."""
    names = [f"'{name}' ({array})" if name else f"one of {array}" for name, array in list(arrays.items())[:most]]
    rest = [f"{len(arrays) - most} more"] if len(arrays) > most else []
    return ", ".join(names + rest) or "no arrays"


def complex_pair(dtype: np.dtype[Any]) -> tuple[str, str] | None:
    """Field names of the real and imaginary part if the type is such a pair of floats."""
    names = dtype.names or ()
    if len(names) != 2:
        return None
    real, imag = names
    if (real.lower(), imag.lower()) not in {("real", "imag"), ("re", "im"), ("r", "i")}:
        return None
    # In damaged HDF5 files the parts can overlap or be longer than the whole, and reading them would corrupt memory.
    sound = dtype[real] == dtype[imag] and dtype[real].kind == "f" and dtype.itemsize == 2 * dtype[real].itemsize
    return (real, imag) if sound else None


def as_complex64(array: NDArray[Any]) -> NDArray[np.complex64]:
    """Complex numbers or pairs → complex64. What is too large becomes infinite and is refused by `Scan.kspace`."""
    with np.errstate(over="ignore", invalid="ignore"):
        if pair := complex_pair(array.dtype):
            result = np.empty(array.shape, dtype=np.complex64)
            result.real, result.imag = array[pair[0]], array[pair[1]]
            return result
        return array.astype(np.complex64, copy=False)
