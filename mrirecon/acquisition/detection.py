"""Opens a file of any readable format. The format is recognised by the file's content, never by its name."""

from collections.abc import Sequence
from pathlib import Path

import h5py

from mrirecon.acquisition.array_files import open_arrays
from mrirecon.acquisition.bart import is_cfl
from mrirecon.acquisition.containers import reading
from mrirecon.acquisition.magic import first_bytes, is_hdf5, is_mrd2, is_mrd_stream, is_twix
from mrirecon.acquisition.readouts import Readouts
from mrirecon.acquisition.scan import Scan
from mrirecon.errors import UsageError


def open_file(
    path: Path, key: str | None = None, axes: str | Sequence[str] | None = None, group: str | None = None
) -> Readouts | list[Scan]:
    """What a file holds: a scanner's readouts, yet to be sorted, or k-space in arrays, one Scan per volume.

    key: name of the array in the file, default the only complex one. axes: names of its axes in the array's order, such
    as "slice,coil,ky,kx"; see `mrirecon.acquisition.axes`. MATLAB arrays have the order that MATLAB shows. group: name
    of the measurement in a raw data file, default the last one.
    Reads facts only; samples are read later. Raises InputError for files that cannot be read or are not k-space,
    UsageError for options that do not fit the file.
    """
    path = Path(path)
    readouts = open_readouts(path, group)
    if readouts is not None:
        if key or axes:
            raise UsageError(f"{path}: --key and --axes are for files of arrays; this is {readouts.format}.")
        return readouts
    if group is not None:
        raise UsageError(f"{path}: --group is for raw data files of several measurements; this one holds arrays.")
    return open_arrays(path, key, axes)


def open_readouts(path: Path, group: str | None) -> Readouts | None:
    """The readouts of a raw data file; None if it is none. Errors are those of `open_file`."""
    head = first_bytes(path)
    if is_hdf5(head):
        from mrirecon.acquisition.mrd import mrd_groups, open_mrd

        with reading(path), h5py.File(path, "r") as file:
            groups = mrd_groups(file)
        return open_mrd(path, group) if groups else None
    if is_mrd2(head):
        from mrirecon.acquisition.mrd2 import open_mrd2

        _refuse_group(path, group)
        return open_mrd2(path)
    if is_cfl(path):  # samples, which can begin like what is asked for below
        return None
    if is_twix(head):
        from mrirecon.acquisition.twix import open_twix

        return open_twix(path, group)
    if is_mrd_stream(head):
        from mrirecon.acquisition.mrd_stream import open_mrd_stream

        _refuse_group(path, group)
        return open_mrd_stream(path)
    return None


def _refuse_group(path: Path, group: str | None) -> None:
    if group is not None:
        raise UsageError(f"{path}: --group is for files of several measurements; this format holds one, leave it out.")
