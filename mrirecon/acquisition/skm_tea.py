"""The SKM-TEA layout of HDF5: `kspace` (x, ky, kz, echoes, coils), transformed along the readout x, maps and target.

Desai et al., NeurIPS 2021 Datasets and Benchmarks, arXiv 2203.06823; github.com/StanfordMIMI/skm-tea, DATASET.md.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from mrirecon.acquisition.axes import Layout
from mrirecon.acquisition.containers import reading
from mrirecon.acquisition.hdf5 import HDF5, stored_array
from mrirecon.acquisition.scan import Scan

LAYOUT = Layout(("slice", "y", "x", "echo", "coil"))


def is_skm_tea(file: h5py.File) -> bool:
    """A complex root dataset `kspace` of five axes with `maps` (x, ky, kz, coils, maps) beside it."""
    kspace, maps = file.get("kspace"), file.get("maps")
    if not isinstance(kspace, h5py.Dataset) or not isinstance(maps, h5py.Dataset):
        return False
    fits = kspace.ndim == maps.ndim == 5 and (*kspace.shape[:3], kspace.shape[4]) == maps.shape[:4]
    return fits and stored_array(kspace).complex and stored_array(maps).complex


def open_skm_tea(path: Path) -> list[Scan]:
    """A Scan per echo of a file for which `is_skm_tea` said so: its slices are readout positions, y is ky, x is kz."""
    with reading(path), h5py.File(path, "r") as file:
        array = stored_array(file["kspace"])
        array.check_size()
        has_target = _fitting_target(file, array.shape)
        masks = ", ".join(sorted(file["masks"])) if isinstance(file.get("masks"), h5py.Group) else ""
    notes = ["Read by documentation: the layout is the published one, and no file of the data set was at hand."]
    if masks:
        notes.append(f"The file's masks ({masks}) are for undersampling afterwards and are not applied; see --mask.")
    container = replace(HDF5, format="SKM-TEA HDF5")
    scans = container.volumes(path, "kspace", array, LAYOUT, tuple(notes))
    return [
        replace(
            scan,
            stack="readouts",
            read_target=_TargetReader(path, echo) if has_target else None,
            target_name="target" if has_target else None,
        )
        for echo, scan in enumerate(scans)
    ]


def _fitting_target(file: h5py.File, shape: tuple[int, ...]) -> bool:
    target = file.get("target")
    if not isinstance(target, h5py.Dataset) or target.ndim != 5 or target.shape[:4] != shape[:4]:
        return False
    stored_array(target).check_size()
    return target.shape[4] > 0 and target.dtype.kind in "fc"


@dataclass(frozen=True)
class _TargetReader:
    """Readout position → float32 (ky, kz), magnitude of the data set's SENSE reconstruction."""

    path: Path
    echo: int

    def __call__(self, index: int) -> NDArray[np.float32]:
        everything = slice(None)
        with reading(self.path, f"target, slice {index},"):
            image = HDF5.read(self.path, "target", (index, everything, everything, self.echo, 0))
        return np.abs(image).astype(np.float32)
