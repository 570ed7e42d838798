"""HDF5 files of arrays in any layout, read lazily as hyperslabs."""

import math
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from mrirecon.acquisition.axes import Index
from mrirecon.acquisition.containers import MOST_COMPRESSION, Container, StoredArray
from mrirecon.errors import InputError


def stored_array(dataset: h5py.Dataset) -> StoredArray:
    """What a dataset says about itself.

    Its chunks can claim any size, and those never written take no space in the file; so what can be read is limited by
    what is stored, decompressed. A chunk is read whole, so one that is larger than that leaves nothing to read.
    """
    if dataset.shape is None:
        return StoredArray((0,), dataset.dtype)
    held = min(dataset.id.get_storage_size(), dataset.file.id.get_filesize())
    largest = MOST_COMPRESSION * held if dataset.chunks else held
    chunk = math.prod(dataset.chunks or ()) * dataset.dtype.itemsize
    return StoredArray(dataset.shape, dataset.dtype, largest if chunk <= largest else 0)


def datasets(file: h5py.File) -> dict[str, StoredArray]:
    """All arrays in the file by their path, in groups as well."""
    found: dict[str, StoredArray] = {}

    def visit(name: str, item: h5py.Dataset | h5py.Group) -> None:
        if isinstance(item, h5py.Dataset) and item.shape:
            found[name] = stored_array(item)

    file.visititems(visit)
    return found


def _arrays(path: Path) -> dict[str, StoredArray]:
    with h5py.File(path, "r") as file:
        arrays = datasets(file)
    groups = [name.removesuffix("data") for name in arrays if name.endswith("/data")]
    if any({f"{group}header", f"{group}attributes"} <= set(arrays) for group in groups):
        raise InputError(
            f"{path}: holds MRD images, and an image is not raw data; reconstruct from the raw data that they are of."
        )
    return arrays


def _read(path: Path, key: str, index: Index) -> NDArray[Any]:
    with h5py.File(path, "r") as file:
        return np.asarray(file[key][index])


HDF5 = Container("HDF5", _arrays, _read)
