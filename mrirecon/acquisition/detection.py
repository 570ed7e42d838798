"""Opens a scan of any readable format. The format is recognised by the file's content, never by its name."""

from collections.abc import Sequence
from pathlib import Path

import h5py

from mrirecon.acquisition.arrays import NPY, NPZ
from mrirecon.acquisition.axes import named_axes
from mrirecon.acquisition.containers import Container, reading
from mrirecon.acquisition.fastmri import fastmri_layout, open_fastmri
from mrirecon.acquisition.hdf5 import HDF5
from mrirecon.acquisition.matlab import MATLAB_V5, MATLAB_V73
from mrirecon.acquisition.scan import Scan
from mrirecon.errors import InputError

READABLE = "fastMRI HDF5, HDF5, .npy, .npz and MATLAB .mat"


def open_scan(path: Path, key: str | None = None, axes: str | Sequence[str] | None = None) -> Scan:
    """The Scan in a file. Reads facts only; k-space is read slice by slice later.

    key: name of the array in the file, default the only complex one. axes: names of its axes in the array's order, such
        as "slice,coil,ky,kx"; see `mrirecon.acquisition.axes`. MATLAB arrays have the order that MATLAB shows.
    Raises InputError for files that cannot be read or are not k-space, UsageError for impossible axes.
    """
    path = Path(path)
    container = container_of(path)
    if container is HDF5 and key in (None, "kspace"):
        with reading(path), h5py.File(path, "r") as file:
            layout = fastmri_layout(file)
            shape = file["kspace"].shape if layout else ()
        if layout and (axes is None or named_axes(axes, shape, path).order == layout.order):
            return open_fastmri(path, layout)
        if layout:
            note = "The axes given are not those of the fastMRI layout, so its header, mask and target are left aside."
            return container.scan(path, "kspace", axes, notes=(note,))
    return container.scan(path, key, axes)


def container_of(path: Path) -> Container:
    """The reader for a file's first bytes. Raises InputError for all that is not readable, saying what it is."""
    try:
        with path.open("rb") as file:
            head = file.read(1024)
    except IsADirectoryError:
        raise InputError(f"{path}: is a folder; give one file.") from None
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such file; check the path.") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be opened: {error.strerror}.") from error
    if not head:
        raise InputError(f"{path}: is empty (0 bytes); copy or export it again.")
    if head.startswith(b"MATLAB 7.3 MAT-file"):
        return MATLAB_V73
    if head.startswith(b"MATLAB 5.0 MAT-file"):
        return MATLAB_V5
    # HDF5 allows a user block before its signature, at 512 bytes and powers of two above.
    if any(head[start:].startswith(b"\x89HDF\r\n\x1a\n") for start in (0, 512)):
        return HDF5
    if head.startswith(b"\x93NUMPY"):
        return NPY
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return NPZ
    raise InputError(f"{path}: {_unreadable(head)} Readable are {READABLE}.")


def _unreadable(head: bytes) -> str:
    """What the file is, if it can be told, and what to do."""
    words = [int.from_bytes(head[start : start + 4], "little") for start in (0, 4)]
    if head[128:132] == b"DICM":
        return "is a DICOM image; an image is not raw data, so there is no k-space to reconstruct."
    if head[344:347] in (b"n+1", b"ni1") or head.startswith(b"\x1f\x8b"):
        return "is a NIfTI image or a compressed file, not raw data; decompress it if k-space is inside."
    if (words[0] == 0 and 1 <= words[1] <= 64) or b"Config\0" in head[:64]:
        return "is Siemens twix raw data (.dat), which is not readable yet; convert it to a k-space array first."
    if head.startswith(b"yardl"):
        return "is MRD version 2 raw data, which is not readable yet; convert it to a k-space array first."
    return "is of an unknown format, or no raw data."
