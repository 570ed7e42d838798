"""The fastMRI layout of HDF5: `kspace` (slices, [coils,] rows, columns), target, mask and header beside it.

Rows are the readout, columns the phase encodes. See fastmri.med.nyu.edu and Zbontar et al., arXiv 1811.08839.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from mrirecon.acquisition.axes import Layout, times
from mrirecon.acquisition.containers import SliceReader, StoredArray, reading
from mrirecon.acquisition.hdf5 import HDF5
from mrirecon.acquisition.header import header_of
from mrirecon.acquisition.scan import Header, Scan

TARGETS = ("reconstruction_rss", "reconstruction_esc")


def fastmri_layout(file: h5py.File) -> Layout | None:
    """Order of the axes if the file is of this layout, else None.

    A root dataset `kspace` of four axes is enough; with three it could be coils of one slice, so a mark is asked for.
    """
    kspace = file.get("kspace")
    if not isinstance(kspace, h5py.Dataset) or not StoredArray(kspace.shape or (), kspace.dtype).complex:
        return None
    marks = {"ismrmrd_header", "mask", *TARGETS} & set(file) or "acquisition" in file.attrs
    if kspace.ndim == 4:
        return Layout(("slice", "coil", "y", "x"), "y")
    return Layout(("slice", "y", "x"), "y") if kspace.ndim == 3 and marks else None


def open_fastmri(path: Path, layout: Layout) -> Scan:
    """The Scan of a file for which `fastmri_layout` gave `layout`."""
    with reading(path), h5py.File(path, "r") as file:
        kspace = file["kspace"]
        shape = layout.scan_shape(kspace.shape)
        header, notes = _header(file, shape)
        mask, mask_notes = _mask(file, shape)
        target_name = _target_name(file, shape)
        return Scan(
            path=path,
            format="fastMRI HDF5",
            shape=shape,
            read_slice=SliceReader(path, "kspace", layout, HDF5.read),
            header=header,
            stored_mask=mask,
            read_target=TargetReader(path, target_name) if target_name else None,
            target_name=target_name,
            stored_dtype=StoredArray(kspace.shape, kspace.dtype).type_name,
            notes=(*notes, *mask_notes),
        )


@dataclass(frozen=True)
class TargetReader:
    """Slice index → float32 (y, x) magnitude reference."""

    path: Path
    key: str

    def __call__(self, index: int) -> NDArray[np.float32]:
        with reading(self.path, f"{self.key}, slice {index},"), h5py.File(self.path, "r") as file:
            return np.asarray(file[self.key][index], dtype=np.float32)


def _header(file: h5py.File, shape: tuple[int, int, int, int]) -> tuple[Header, list[str]]:
    if "ismrmrd_header" in file:
        stored = file["ismrmrd_header"]
        xml = stored[()] if stored.shape == () else None
        header, notes = header_of(xml if isinstance(xml, bytes) else b"", rows=shape[2], columns=shape[3])
    else:
        header = Header(readout_axis="y")
        notes = ["The file has no header: field, timing, field of view and padding are unknown."]
    contrast = file.attrs.get("acquisition")
    if isinstance(contrast, bytes):
        contrast = contrast.decode("ascii", "replace")
    return replace(header, contrast=contrast if isinstance(contrast, str) else None), notes


def _mask(file: h5py.File, shape: tuple[int, int, int, int]) -> tuple[NDArray[np.bool_] | None, list[str]]:
    """The stored mask as bool (y, x): of the columns, or of rows and columns."""
    if "mask" not in file:
        return None, []
    stored = file["mask"]
    if stored.dtype.kind in "biuf" and tuple(n for n in stored.shape if n > 1) in (shape[3:], shape[2:]):
        return np.broadcast_to(np.squeeze(stored[()]) > 0, shape[2:]).copy(), []
    return None, [f"The stored mask ({times(stored.shape)}) does not fit the k-space and is ignored."]


def _target_name(file: h5py.File, shape: tuple[int, int, int, int]) -> str | None:
    names = TARGETS if shape[1] > 1 else TARGETS[::-1]
    real = (n for n in names if n in file and file[n].dtype.kind in "fiu")
    fitting = (n for n in real if file[n].ndim == 3 and file[n].shape[0] == shape[0])
    return next(fitting, None)
