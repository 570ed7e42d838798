"""Calibration lines: whether they complete the k-space, or serve only to find coil maps."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mrirecon.acquisition.readouts import Encoding, Flag, Readouts
from mrirecon.conditioning.grid import Grid, same_fov
from mrirecon.conditioning.options import Conditioning
from mrirecon.conditioning.placement import PLACED, line_of, place
from mrirecon.conditioning.selection import Rows
from mrirecon.errors import InputError

#: Counters that tell the volumes of a stack apart.
COUNTERS = ("contrast", "phase", "repetition", "set")
#: So many central lines are a known centre; fewer are too few for coil maps.
CENTRE_LINES = 16


@dataclass(frozen=True)
class Calibrated:
    """imaging: table of PLACED of the k-space. separate: that of the calibration beside it. done: what was done."""

    imaging: NDArray[np.void]
    separate: NDArray[np.void] | None
    done: str
    notes: tuple[str, ...] = ()


def place_calibration(
    readouts: Readouts, rows: Rows, encoding: Encoding, grid: Grid, conditioning: Conditioning, coils: int
) -> tuple[NDArray[np.void], list[str]]:
    """Table of PLACED of those calibration readouts that fit the k-space of an encoding, and notes.

    They may have an encoding of their own, of another matrix but the same field of view.
    """
    heads, tables, notes = readouts.heads, [np.zeros(0, PLACED)], []
    for number in np.unique(heads["encoding"][rows]).tolist():
        alike = rows[(heads["encoding"][rows] == number) & (heads["coils"][rows] == coils)]
        known = 0 <= number < len(readouts.encodings)
        if known and len(alike) and same_fov(readouts.encodings[number], encoding, partitions=grid.partitions):
            try:
                table, more = place(readouts, alike, readouts.encodings[number], grid, conditioning)
            except InputError as error:
                notes.append(f"Calibration readouts do not fit the k-space: {error}")
                continue
            tables.append(table)
            notes += more
    table = np.concatenate(tables)
    if left_out := len(rows) - len(table):
        notes.append(f"{left_out} calibration readouts have other coils, field of view or limits; they are not used.")
    return table, notes


def calibrate(
    imaging: NDArray[np.void], candidates: NDArray[np.void], readouts: Readouts, slices: int, grid: Grid
) -> Calibrated:
    """What the calibration lines of a stack are for one of its volumes, given the tables of both, in `slices` slices.

    Lines that lie only between the volume's imaging lines complete them, unless the header says that they are of
    another acquisition. Others calibrate, if the header says that or the centre of the k-space is not fully sampled.
    """
    volume = readouts.heads[imaging["row"][0]]
    mode = readouts.encodings[volume["encoding"]].calibration
    apart = mode in ("separate", "external")
    lines, only, own = _of_volume(candidates, readouts.heads[candidates["row"]], volume)
    if own and not only.any():
        return Calibrated(imaging, None, "no calibration lines beside the imaging lines")
    extra, height = lines[only], grid.matrix[1]
    alike = (readouts.heads["encoding"][extra["row"]] == volume["encoding"]).all()
    between = not np.isin(line_of(extra, height), line_of(imaging, height)).any()
    if own and alike and between and not apart:
        done = f"{len(extra)} calibration lines between the imaging lines complete the k-space"
        return Calibrated(np.concatenate([imaging, extra]), None, done, (f"{done}.",))
    if not apart and _centre_is_known(imaging, slices, grid):
        done = f"{len(lines)} calibration lines not used: the imaging lines hold the centre of k-space"
        return Calibrated(imaging, None, done, (f"{done}.",))
    return Calibrated(imaging, lines, f"{len(lines)} separate calibration lines, for the coil maps")


def _of_volume(
    table: NDArray[np.void], heads: NDArray[np.void], volume: np.void
) -> tuple[NDArray[np.void], NDArray[np.bool_], bool]:
    """Those calibration lines that belong to a volume, which are no imaging lines, and if all are of its own counters.

    table, heads: the calibration lines of its stack, and their heads. volume: head of any readout of the volume.
    Where nothing was calibrated for a counter's value, as for later repetitions, its lowest value serves.
    """
    only, own = (heads["flags"] & np.uint64(Flag.CALIBRATION_AND_IMAGING)) == 0, True
    for counter in COUNTERS:
        there = heads[counter][only] if only.any() else heads[counter]
        if len(there) and volume[counter] not in there:
            own = False
            same = heads[counter] == there.min()
        else:
            same = heads[counter] == volume[counter]
        table, heads, only = table[same], heads[same], only[same]
    return table, only, own


def _centre_is_known(imaging: NDArray[np.void], slices: int, grid: Grid) -> bool:
    """Whether the imaging lines hold the whole centre of k-space, in every slice that they hold at all."""
    height = grid.matrix[1]
    measured = np.zeros((slices, height), dtype=bool)
    measured[imaging["slice"], imaging["y"]] = True
    wanted = measured[_centre(slices)] if grid.partitions else measured[measured.any(axis=1)]
    return bool(wanted[:, _centre(height)].all())


def _centre(n: int) -> slice:
    half = min(CENTRE_LINES, n) // 2
    return slice(n // 2 - half, n // 2 + half)
