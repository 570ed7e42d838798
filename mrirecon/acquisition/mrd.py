"""MRD (ISMRMRD) version 1 in HDF5: `/<group>/xml`, and `/<group>/data` with a head and samples per readout.

Converters write one group per measurement: noise and adjustments first, the imaging last. Inati et al., MRM 2017,
doi 10.1002/mrm.26089.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from mrirecon.acquisition.containers import reading
from mrirecon.acquisition.mrd_header import coil_labels, parse_header
from mrirecon.acquisition.mrd_heads import check_heads, translate_heads
from mrirecon.acquisition.readouts import Flag, Readouts, is_imaging
from mrirecon.errors import InputError, UsageError

FORMAT = "MRD (ISMRMRD) HDF5"
#: Bytes of samples that are read at a time.
BLOCK = 64 << 20
#: A head has 340 bytes and its two arrays are references; a record much longer than that is damaged.
LONGEST_RECORD = 4096


def mrd_groups(file: h5py.File) -> list[str]:
    """Names of the groups that hold MRD raw data, in the order of their numbers ("dataset_2" before "dataset_10").

    Groups may be nested one level deep. Where no group holds raw data, these are the ones that hold MRD images, which
    `open_mrd` refuses with the reason. Empty for all other files.
    """
    groups = dict(_groups(file))
    for holds in (_holds_heads, _holds_readouts, _holds_images):
        if names := [name for name, group in groups.items() if holds(group)]:
            return sorted(names, key=_natural)
    return []


def open_mrd(path: Path, group: str | None = None) -> Readouts:
    """The readouts of one group: `group`, by default the last one that holds imaging.

    If it has no noise readouts, those of the nearest group before it that was measured with the same coils are put in
    front, with a note. Raises InputError for files that are damaged or hold no raw data, UsageError for unknown groups.
    """
    with reading(path), h5py.File(path, "r") as file:
        names = mrd_groups(file)
        if group is not None and group.strip("/") not in names:
            raise UsageError(f"{path}: there is no measurement '{group}'; choose one with --group: {', '.join(names)}.")
        if not any(_holds_readouts(file[name or "/"]) for name in names):
            raise InputError(f"{path}: holds no MRD raw data; images cannot be reconstructed.")
        size = path.stat().st_size
        chosen, heads = _choose(file, names, group, size)
        with reading(path, f"the header of group '{chosen}'"):
            encodings, system = parse_header(_xml(file[chosen or "/"]))
        notes = check_heads(heads, encodings)
        rows = np.arange(len(heads))
        parts = [(chosen, rows)]
        if not _flagged(heads, Flag.NOISE).any() and (noise := _noise_before(file, names, chosen, heads, size)):
            source, noise_rows, noise_heads = noise
            parts.insert(0, (source, noise_rows))
            noise_heads["encoding"] = 0
            notes += [f"The noise readouts are those of group '{source}'.", *check_heads(noise_heads, encodings)]
            heads = np.concatenate([noise_heads, heads])
        if len(names) > 1:
            notes.append(f"The file holds several measurements ({', '.join(names)}); choose another with --group.")
        if "waveforms" in file[chosen or "/"]:
            notes.append("Waveforms are ignored.")
        shapes = np.stack([heads["coils"], heads["samples"]], axis=1)
    name = chosen if len(names) > 1 else None
    return Readouts(path, FORMAT, heads, Rows(path, tuple(parts), shapes), encodings, system, name, tuple(notes))


@dataclass(frozen=True, eq=False)
class Rows:
    """Readout numbers → their samples. Holds no open file, so that it can cross process borders.

    parts: groups, and which of their rows are the readouts, one part after the other. shapes: int (readouts, 2), coils
    and samples of each.
    """

    path: Path
    parts: tuple[tuple[str, NDArray[np.int64]], ...]
    shapes: NDArray[np.int64]

    def __call__(self, rows: Sequence[int]) -> list[NDArray[np.complex64]]:
        wanted, result, first = np.asarray(rows, dtype=np.int64), [], 0
        with reading(self.path, "samples"), h5py.File(self.path, "r") as file:
            for group, stored in self.parts:
                samples = file[group or "/"]["data"].fields("data")
                for block in self._blocks(wanted[(wanted >= first) & (wanted < first + len(stored))]):
                    # One selection of many rows is as fast as a run of neighbours, and much faster than row by row.
                    floats = samples[stored[block - first]]
                    result += [self._shaped(row, values) for row, values in zip(block.tolist(), floats, strict=True)]
                first += len(stored)
        return result

    def _blocks(self, rows: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        filled = np.cumsum(8 * self.shapes[rows].prod(axis=1)) // BLOCK
        return [block for block in np.split(rows, np.flatnonzero(np.diff(filled)) + 1) if len(block)]

    def _shaped(self, row: int, values: NDArray[Any]) -> NDArray[np.complex64]:
        coils, samples = self.shapes[row].tolist()
        if values.size != 2 * coils * samples:
            raise InputError(
                f"{self.path}: readout {row} holds {values.size // 2} samples where its head says {coils} coils × "
                f"{samples}; the file is damaged, or its samples are compressed, which is not supported."
            )
        return np.ascontiguousarray(values, dtype=np.float32).view(np.complex64).reshape(coils, samples)


def _groups(file: h5py.File) -> Iterator[tuple[str, h5py.Group]]:
    yield "", file
    for name, group in _own_groups(file):
        yield name, group
        yield from ((f"{name}/{sub}", item) for sub, item in _own_groups(group))


def _own_groups(parent: h5py.Group) -> Iterator[tuple[str, h5py.Group]]:
    """Groups in a group. Links to elsewhere, which may lead nowhere, are left alone."""
    for name in parent:
        if isinstance(parent.get(name, getlink=True), h5py.HardLink) and isinstance(group := parent[name], h5py.Group):
            yield name, group


def _natural(name: str) -> list[int | str]:
    """Sorts numbers in names by their value."""
    return [int(part) if index % 2 else part for index, part in enumerate(re.split(r"([0-9]+)", name))]


def _holds_heads(group: h5py.Group) -> bool:
    data = group.get("data")
    return isinstance(data, h5py.Dataset) and "head" in (data.dtype.names or ())


def _holds_readouts(group: h5py.Group) -> bool:
    return _holds_heads(group) or (isinstance(group.get("data"), h5py.Dataset) and "xml" in group)


def _holds_images(group: h5py.Group) -> bool:
    headers = (item.get("header") for item in group.values() if isinstance(item, h5py.Group))
    return any(isinstance(header, h5py.Dataset) and "image_type" in (header.dtype.names or ()) for header in headers)


def _choose(file: h5py.File, names: list[str], group: str | None, size: int) -> tuple[str, NDArray[np.void]]:
    """Name and heads of the group asked for, else of the last with imaging, else of the last."""
    if group is not None or len(names) == 1:
        name = names[-1] if group is None else group.strip("/")
        return name, _heads(file, name, size)
    found = ((name, _heads(file, name, size)) for name in reversed(names))
    imaging = ((name, heads) for name, heads in found if is_imaging(heads["flags"]).any())
    return next(imaging, (names[-1], _heads(file, names[-1], size)))


def _noise_before(
    file: h5py.File, names: list[str], chosen: str, heads: NDArray[np.void], size: int
) -> tuple[str, NDArray[np.int64], NDArray[np.void]] | None:
    """Group, rows and heads of the last noise readouts before the chosen group that were measured with its coils."""
    for name in reversed(names[: names.index(chosen)]):
        earlier = _heads(file, name, size)
        rows = np.flatnonzero(_flagged(earlier, Flag.NOISE))
        same_count = set(earlier["coils"][rows]) == set(heads["coils"])
        if same_count and coil_labels(_xml(file[name or "/"])) == coil_labels(_xml(file[chosen or "/"])):
            return name, rows, earlier[rows]
    return None


def _heads(file: h5py.File, name: str, size: int) -> NDArray[np.void]:
    """All heads of a group in one read. size: of the file in bytes, against which the stored sizes are checked."""
    data = file[name or "/"]["data"]
    vlen = h5py.check_vlen_dtype(data.dtype["data"]) if {"head", "data"} <= set(data.dtype.names or ()) else None
    if data.ndim != 1 or vlen is None or vlen.kind != "f" or data.dtype.itemsize > LONGEST_RECORD:
        raise InputError(
            f"{file.filename}: the data of group '{name}' is not a list of MRD readouts with heads and samples."
        )
    rows = max(data.shape[0], *(data.chunks or (0,)))
    if rows * (1 if data.compression else data.dtype.itemsize) > size:
        raise InputError(
            f"{file.filename}: group '{name}' says it has {rows} readouts, which do not fit into the file."
        )
    heads = translate_heads(data.fields("head")[:])
    sizes = 8 * heads["coils"] * heads["samples"]
    if (needed := sizes[~_flagged(heads, Flag.COMPRESSED)].sum()) > size:
        raise InputError(
            f"{file.filename}: the readouts of group '{name}' need {needed} bytes, and the file has {size}. "
            "It is damaged or cut short; copy or export it again."
        )
    return heads


def _flagged(heads: NDArray[np.void], flags: Flag) -> NDArray[np.bool_]:
    return (heads["flags"] & np.uint64(flags)) != 0


def _xml(group: h5py.Group) -> bytes:
    stored = group.get("xml")
    if not isinstance(stored, h5py.Dataset) or stored.size != 1:
        raise ValueError("there is no XML")
    value = np.ravel(stored[()])[0]
    return value.encode() if isinstance(value, str) else bytes(value)
