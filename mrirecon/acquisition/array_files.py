"""Files that hold k-space as arrays: which reader a file needs, and the Scans it makes."""

from collections.abc import Sequence
from pathlib import Path

import h5py

from mrirecon.acquisition import calgary_campinas, cmrxrecon, skm_tea
from mrirecon.acquisition.arrays import NPY, NPZ
from mrirecon.acquisition.axes import named_axes
from mrirecon.acquisition.bart import CFL, RA, cfl_of, is_cfl, is_hdr, is_ra
from mrirecon.acquisition.containers import Container, reading
from mrirecon.acquisition.fastmri import TARGETS, fastmri_layout, open_fastmri
from mrirecon.acquisition.hdf5 import HDF5, stored_array
from mrirecon.acquisition.magic import first_bytes, is_hdf5, unreadable
from mrirecon.acquisition.matlab import MATLAB_V5, MATLAB_V73
from mrirecon.acquisition.scan import Scan
from mrirecon.errors import InputError

READABLE = "MRD (ISMRMRD), Siemens twix, fastMRI and other HDF5, BART, .npy, .npz and MATLAB .mat"


def open_arrays(path: Path, key: str | None = None, axes: str | Sequence[str] | None = None) -> list[Scan]:
    """The volumes in a file of arrays. Arguments and errors are those of `mrirecon.acquisition.detection.open_file`."""
    container = container_of(path)
    if container is CFL and (file := cfl_of(path)).is_file():
        path = file
    if container is HDF5 and key in (None, "kspace"):
        return _open_hdf5(path, key, axes)
    if container is MATLAB_V73 and axes is None:
        with reading(path), h5py.File(path, "r") as file:
            cmrxrecon_key = cmrxrecon.kspace_key(file, key)
        if cmrxrecon_key:
            return cmrxrecon.open_cmrxrecon(path, cmrxrecon_key)
    return container.scans(path, key, axes)


def _open_hdf5(path: Path, key: str | None, axes: str | Sequence[str] | None) -> list[Scan]:
    """By the layouts that a root dataset `kspace` can have; each says no where the next says yes."""
    with reading(path), h5py.File(path, "r") as file:
        if isinstance(file.get("kspace", getlink=True), h5py.ExternalLink):
            raise InputError(f"{path}: its k-space is a link to another file; give that one.")
        layout = fastmri_layout(file)
        shape = file["kspace"].shape if layout else ()
        for name in ("kspace", "mask", "ismrmrd_header", *TARGETS) if layout else ():
            if isinstance(file.get(name), h5py.Dataset):
                stored_array(file[name]).check_size()
        if key is None and "reconstruction" in file and "kspace" not in file:
            raise InputError(
                f"{path}: holds reconstructed images, such as `mrirecon reconstruct` writes, and no k-space; give the "
                "scan that they were made from."
            )
        calgary = axes is None and calgary_campinas.is_calgary_campinas(file)
        skm = axes is None and skm_tea.is_skm_tea(file)
    if layout and (axes is None or named_axes(axes, shape, path).order == layout.order):
        return [open_fastmri(path, layout)]
    if layout:
        note = "The axes given are not those of the fastMRI layout, so its header, mask and target are left aside."
        return HDF5.scans(path, "kspace", axes, notes=(note,))
    if calgary:
        return [calgary_campinas.open_calgary_campinas(path)]
    if skm:
        return skm_tea.open_skm_tea(path)
    return HDF5.scans(path, key, axes)


def container_of(path: Path) -> Container:
    """The reader for a file's first bytes. Raises InputError for all that is not readable, saying what it is."""
    head = first_bytes(path)
    if head.startswith(b"MATLAB 7.3 MAT-file"):
        return MATLAB_V73
    if head.startswith(b"MATLAB 5.0 MAT-file"):
        return MATLAB_V5
    if is_hdf5(head):
        return HDF5
    if head.startswith(b"\x93NUMPY"):
        return NPY
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return NPZ
    if is_ra(head):
        return RA
    if is_hdr(head) or is_cfl(path):
        return CFL
    raise InputError(f"{path}: {unreadable(head)} Readable are {READABLE}.")
