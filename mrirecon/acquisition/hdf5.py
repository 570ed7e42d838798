"""HDF5 files of arrays in any layout, read lazily as hyperslabs."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from mrirecon.acquisition.axes import Index
from mrirecon.acquisition.containers import Container, StoredArray
from mrirecon.errors import InputError


def datasets(file: h5py.File) -> dict[str, StoredArray]:
    """All arrays in the file by their path, in groups as well."""
    found: dict[str, StoredArray] = {}

    def visit(name: str, item: h5py.Dataset | h5py.Group) -> None:
        if isinstance(item, h5py.Dataset) and item.shape:
            found[name] = StoredArray(item.shape, item.dtype)

    file.visititems(visit)
    return found


def _arrays(path: Path) -> dict[str, StoredArray]:
    with h5py.File(path, "r") as file:
        for group in file.values():
            if isinstance(group, h5py.Group) and {"xml", "data"} <= set(group):
                raise InputError(
                    f"{path}: is an ISMRMRD (MRD) raw data file, which is not readable yet. "
                    "Sort its readouts into an array slice,coil,ky,kx and save that as HDF5 or .npy."
                )
        return datasets(file)


def _read(path: Path, key: str, index: Index) -> NDArray[Any]:
    with h5py.File(path, "r") as file:
        return np.asarray(file[key][index])


HDF5 = Container("HDF5", _arrays, _read)
