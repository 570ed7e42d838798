"""Arrays too large for memory, in files that have no name and so are gone when the process is, however it ends."""

import math
import os
import shutil
import tempfile
import weakref
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from mrirecon.errors import ResourceError

Place = int | tuple[slice, int]


class FileArray:
    """An array (rows, columns, …) in a file, read and written by row, `a[i]`, or by column, `a[:, j]`.

    Zero where nothing was written; what was never written takes no space on the disk. Not memory-mapped, because mapped
    pages count as memory of the process. Raises ResourceError if the disk has no room for all of it.
    """

    def __init__(self, shape: tuple[int, ...], dtype: DTypeLike, folder: Path):
        self.shape, self.dtype = shape, np.dtype(dtype)
        self.ndim = len(shape)
        self._record = math.prod(shape[2:]) * self.dtype.itemsize
        size, free = shape[0] * shape[1] * self._record, shutil.disk_usage(folder).free
        if size > free:
            raise ResourceError(
                f"{folder}: within this much memory {size / 1e9:.1f} GB must go to the disk meanwhile, which has "
                f"{free / 1e9:.1f} GB free; give more memory (--memory), or an output on another disk."
            )
        self._file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115 (open as long as the array)
        os.ftruncate(self._file.fileno(), size)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, place: Place) -> NDArray[Any]:
        result = np.empty(self.shape[1:] if isinstance(place, int) else (self.shape[0], *self.shape[2:]), self.dtype)
        for offset, part in self._parts(place, result):
            left = memoryview(part.data)
            while left:
                read = os.preadv(self._file.fileno(), [left], offset)
                left, offset = left[read:], offset + read
        return result

    def __setitem__(self, place: Place, values: NDArray[Any]) -> None:
        for offset, part in self._parts(place, np.ascontiguousarray(values, dtype=self.dtype)):
            left = memoryview(part.data)
            while left:
                written = os.pwrite(self._file.fileno(), left, offset)
                left, offset = left[written:], offset + written

    def _parts(self, place: Place, values: NDArray[Any]) -> list[tuple[int, NDArray[np.uint8]]]:
        """Where in the file each contiguous part of the values is, and its bytes."""
        length = self.shape[1] * self._record
        if isinstance(place, int):
            return [(place * length, values.reshape(-1).view(np.uint8))]
        lines = values.reshape(len(values), -1).view(np.uint8)
        return [(row * length + place[1] * self._record, line) for row, line in enumerate(lines)]


class Scratch:
    """Gives arrays of zeros: in memory while `room` bytes are left there, else in files in `folder`.

    What is let go of gives its room back. By default all are in memory.
    """

    def __init__(self, folder: Path | None = None, room: float = math.inf):
        self.folder, self.room = folder, room

    def zeros(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any] | FileArray:
        """shape: of two axes or more."""
        size = math.prod(shape) * np.dtype(dtype).itemsize
        if self.folder is not None and size > self.room:
            return FileArray(shape, dtype, self.folder)
        array = np.zeros(shape, dtype)
        self.room -= size
        weakref.finalize(array, self._give_back, size)
        return array

    def _give_back(self, size: int) -> None:
        self.room += size
