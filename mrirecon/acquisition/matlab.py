"""MATLAB files: v5 (up to -v7), read whole, and v7.3, which is HDF5 with the axes reversed, read lazily."""

from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from mrirecon.acquisition.axes import Index
from mrirecon.acquisition.containers import Container, StoredArray
from mrirecon.acquisition.hdf5 import datasets
from mrirecon.acquisition.matlab_v5 import read_array


def _v5_arrays(path: Path) -> dict[str, StoredArray]:
    from scipy.io import whosmat

    with path.open("rb") as file:
        variables = whosmat(file)
    return {name: StoredArray(shape, _v5_dtype(path, name, kind)) for name, shape, kind in variables}


def _v5_dtype(path: Path, name: str, kind: str) -> np.dtype[Any]:
    # The directory does not say which numbers are complex; the array itself does.
    numbers = kind in ("double", "single", "logical") or kind.removeprefix("u").startswith("int")
    return _v5_array(path, name, path.stat().st_mtime_ns).dtype if numbers else np.dtype(object)


def _read_v5(path: Path, key: str, index: Index) -> NDArray[Any]:
    return np.array(_v5_array(path, key, path.stat().st_mtime_ns)[index])


@lru_cache(maxsize=1)
def _v5_array(path: Path, key: str, modified_ns: int) -> NDArray[Any]:
    # Variables are compressed and cannot be read in parts; the format holds at most 2 GB each.
    return read_array(path, key)


def _v73_arrays(path: Path) -> dict[str, StoredArray]:
    with h5py.File(path, "r") as file:
        return {
            name: replace(array, shape=array.shape[::-1])
            for name, array in datasets(file).items()
            if not name.startswith("#")
        }


def _read_v73(path: Path, key: str, index: Index) -> NDArray[Any]:
    with h5py.File(path, "r") as file:
        return np.asarray(file[key][index[::-1]]).T


MATLAB_V5 = Container("MATLAB v5", _v5_arrays, _read_v5)
MATLAB_V73 = Container("MATLAB v7.3", _v73_arrays, _read_v73)
