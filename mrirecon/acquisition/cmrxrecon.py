"""The CMRxRecon challenges' MATLAB v7.3 files: `kspace_full` and the like, (kx, ky, coil, slice, time).

The single-coil files have (kx, ky, slice, time); MATLAB leaves out trailing axes of size 1. Lines are left out along
ky, so that kx is the readout (Wang et al., arXiv 2309.10836; github.com/CmrxRecon/CMRxRecon, ChallengeDataFormat). In
its mapping data, time counts the weightings.
"""

import re
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from mrirecon.acquisition.axes import Layout, times
from mrirecon.acquisition.containers import reading
from mrirecon.acquisition.hdf5 import stored_array
from mrirecon.acquisition.matlab import MATLAB_V73
from mrirecon.acquisition.scan import Scan
from mrirecon.errors import InputError

_KEY = re.compile(r"kspace_(single_)?(full|sub\d+)")
MULTI_COIL = ("x", "y", "coil", "slice", "time")
SINGLE_COIL = ("x", "y", "slice", "time")


def kspace_key(file: h5py.File, key: str | None) -> str | None:
    """The array to read if the file is of this layout, else None: `key`, or the fully sampled one, or the only one.

    Later challenges call it `kspace`, which tells them apart with all five axes alone.
    Raises InputError where the choice is open.
    """
    names = [name for name in file if _is_kspace(name, file[name])]
    if key is not None:
        return key if key in names else None
    full = [name for name in names if name.endswith("full")] or names
    if len(full) > 1:
        raise InputError(f"{file.filename}: holds several k-spaces; choose one with --key: {', '.join(full)}.")
    return full[0] if full else None


def _is_kspace(name: str, item: h5py.Dataset | h5py.Group) -> bool:
    if not isinstance(item, h5py.Dataset) or not stored_array(item).complex:
        return False
    return (name == "kspace" and item.ndim == 5) or (_KEY.fullmatch(name) is not None and 2 <= item.ndim <= 5)


def open_cmrxrecon(path: Path, key: str) -> list[Scan]:
    """A Scan per time frame or weighting; `key` is one that `kspace_key` gave."""
    with reading(path), h5py.File(path, "r") as file:
        stored = stored_array(file[key])
        stored.check_size()
        array = replace(stored, shape=stored.shape[::-1])
        order = SINGLE_COIL if "single" in key else MULTI_COIL
        if len(array.shape) > len(order):
            raise InputError(f"{path}: '{key}' has {len(array.shape)} axes; name them with --axes.")
        layout = Layout(order[: len(array.shape)], "x")
        mask, mask_notes = _mask(file, key, layout.scan_shape(array.shape)[2:])
    container = replace(MATLAB_V73, format="CMRxRecon MATLAB v7.3")
    note = "Read by documentation: the layout is the published one, and no file of the data set was at hand."
    scans = container.volumes(path, key, array, layout, (note, *mask_notes))
    return [replace(scan, stored_mask=mask) for scan in scans]


def _mask(file: h5py.File, key: str, shape: tuple[int, int]) -> tuple[NDArray[np.bool_] | None, list[str]]:
    """The mask (y, x) that belongs to the k-space under `key`: `mask04` to `kspace_sub04`, `mask` to `kspace`."""
    name = "mask" + re.sub(r"\D", "", key)
    if key.endswith("full") or name not in file:
        return None, []
    stored = file[name]
    lines = tuple(n for n in stored.shape if n > 1) == shape[:1]
    if stored.dtype.kind in "biuf" and (lines or stored.shape == shape):
        mask = np.asarray(stored[()]) > 0
        return np.broadcast_to(mask.reshape(-1, 1) if lines else mask, shape).copy(), []
    return None, [f"The stored mask ({times(stored.shape[::-1])}) does not fit the k-space and is ignored."]
