"""NumPy files: one array (.npy), read lazily by memory mapping, or several (.npz), read whole. Never unpickles."""

from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import IO, Any
from zipfile import ZipFile

import numpy as np
from numpy.typing import NDArray

from mrirecon.acquisition.axes import Index
from mrirecon.acquisition.containers import MOST_COMPRESSION, Container, StoredArray, copied
from mrirecon.errors import InputError


def _npy_arrays(path: Path) -> dict[str, StoredArray]:
    with path.open("rb") as file:
        array = _array_in(file)
        return {"": replace(array, largest=path.stat().st_size - file.tell())}


def _read_npy(path: Path, key: str, index: Index) -> NDArray[Any]:
    return copied(lambda: np.load(path, mmap_mode="r", allow_pickle=False), index)


def _npz_arrays(path: Path) -> dict[str, StoredArray]:
    arrays = {}
    size = path.stat().st_size
    with ZipFile(path) as archive:
        members = [member for member in archive.infolist() if member.filename.endswith(".npy")]
        if not members:
            raise InputError(f"{path}: is a zip archive without NumPy arrays; k-space in .npz, HDF5 or .mat is read.")
        for member in members:
            with archive.open(member) as file:
                largest = min(member.file_size, MOST_COMPRESSION * min(member.compress_size, size))
                arrays[member.filename.removesuffix(".npy")] = replace(_array_in(file), largest=largest)
    return arrays


def _array_in(file: IO[bytes]) -> StoredArray:
    # Version 3 differs from 2 in the encoding of field names only, which complex arrays do not have.
    first = np.lib.format.read_magic(file) == (1, 0)
    read_header = np.lib.format.read_array_header_1_0 if first else np.lib.format.read_array_header_2_0
    shape, _, dtype = read_header(file)
    return StoredArray(shape, dtype)


def _read_npz(path: Path, key: str, index: Index) -> NDArray[Any]:
    return np.array(_npz_array(path, key, path.stat().st_mtime_ns)[index])


@lru_cache(maxsize=1)
def _npz_array(path: Path, key: str, modified_ns: int) -> NDArray[Any]:
    # A compressed member cannot be read in parts; it is kept so that a scan of n slices is not decompressed n times.
    with np.load(path, allow_pickle=False) as archive:
        return archive[key]


NPY = Container("NumPy array (.npy)", _npy_arrays, _read_npy)
NPZ = Container("NumPy archive (.npz)", _npz_arrays, _read_npz)
