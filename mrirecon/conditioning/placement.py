"""Readouts onto the k-space grid: where each belongs, and the reader that puts them there slice by slice."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mrirecon.acquisition.containers import reading
from mrirecon.acquisition.readouts import Encoding, Flag, Readouts, ReadRows
from mrirecon.conditioning.grid import Grid
from mrirecon.conditioning.options import Conditioning
from mrirecon.errors import InputError

#: Where one readout goes. row: its number in the file. slice: index in the stack; of slices it is known only after they
#: are ordered. y: row of the grid. x: column of its first sample. first, kept: which of its samples are taken.
#: reverse: they are in descending order of x.
PLACED = np.dtype(
    [
        ("row", np.int64),
        ("slice", np.int32),
        ("y", np.int32),
        ("x", np.int32),
        ("first", np.int32),
        ("kept", np.int32),
        ("reverse", np.bool_),
    ]
)


@dataclass(frozen=True)
class SliceReader:
    """Slice index → complex64 (coils, y, x); zero where nothing was measured, the mean where it was repeatedly.

    table: of PLACED, in any order. matrix: (y, x). It holds no open file, so it can cross process borders.
    """

    path: Path
    read: ReadRows
    table: NDArray[np.void]
    coils: int
    matrix: tuple[int, int]

    def __post_init__(self) -> None:
        order = np.lexsort((self.table["row"], self.table["slice"]))
        object.__setattr__(self, "table", self.table[order])

    def __call__(self, index: int) -> NDArray[np.complex64]:
        low, high = np.searchsorted(self.table["slice"], (index, index + 1))
        lines = self.table[low:high]
        kspace = np.zeros((self.coils, *self.matrix), dtype=np.complex64)
        counts = np.zeros(self.matrix, dtype=np.float32)
        # NaN and what becomes infinite are refused below.
        with reading(self.path, f"slice {index}"), np.errstate(invalid="ignore", over="ignore"):
            samples = self.read(lines["row"].tolist())
            for (_, _, y, x, first, kept, reverse), line in zip(lines.tolist(), samples, strict=True):
                taken = line[:, first : first + kept]
                kspace[:, y, x : x + kept] += taken[:, ::-1] if reverse else taken
                counts[y, x : x + kept] += 1
        if counts.max(initial=0) > 1:
            kspace /= np.maximum(counts, 1)
        if not np.isfinite(kspace).all():
            raise InputError(f"{self.path}: slice {index} holds NaN or infinite samples; export the file again.")
        return kspace


def line_of(table: NDArray[np.void], height: int) -> NDArray[np.int64]:
    """One number per line of the stack, by slice and row, for each readout."""
    return table["slice"].astype(np.int64) * height + table["y"]


def place(
    readouts: Readouts, rows: NDArray[np.intp], encoding: Encoding, grid: Grid, conditioning: Conditioning
) -> tuple[NDArray[np.void], list[str]]:
    """Table of PLACED of the readouts `rows`, whose counters `encoding` describes, on the grid; and notes.

    Step "readout-ends": take off discarded samples, put k = 0 at column n // 2 and reverse what was measured backwards;
    without it readouts are put as they are into the middle. Step "centring": count lines from the centre of the
    encoding limits; without it the counter is the row. Raises InputError, naming the line, for what does not fit.
    """
    chosen, path = readouts.heads[rows], readouts.path
    columns, height, depth = grid.matrix
    table = np.zeros(len(rows), PLACED)
    table["row"] = rows
    ends, centring = conditioning.does("readout-ends"), conditioning.does("centring")
    notes = _along_readout(table, chosen, columns, path) if ends else _as_they_are(table, chosen, columns, path)
    axes = [("y", "step1", encoding.step1, height), ("slice", "step2", encoding.step2, depth)]
    for name, counter, limit, n in axes if grid.partitions else axes[:1]:
        centre = n // 2 if limit is None else limit.centre
        if limit is None and centring:
            notes.append(f"The header has no limits of phase encode {counter[-1]}: k = 0 is taken as step {n // 2}.")
        at = chosen[counter] + (n // 2 - centre if centring else 0)
        outside = np.flatnonzero((at < 0) | (at >= n))
        if len(outside):
            first = outside[0]
            raise InputError(
                f"{path}: line {chosen[counter][first]} of phase encode {counter[-1]} falls on row {at[first]} of a "
                f"grid of {n} rows (encoded matrix; by the encoding limits k = 0 is step {centre}). If the limits are "
                "wrong, leave out the step 'centring'."
            )
        table[name] = at
    return table, notes


def _along_readout(table: NDArray[np.void], heads: NDArray[np.void], columns: int, path: Path) -> list[str]:
    """The head's `centre` counts the samples in the order in which they are stored, of reversed readouts too."""
    pre, kept = heads["discard_pre"], heads["samples"] - heads["discard_pre"] - heads["discard_post"]
    _refuse(
        (kept < 1) | (pre < 0) | (heads["discard_post"] < 0),
        heads,
        path,
        "of which none is left without those to be discarded (fields discard_pre, discard_post)",
    )
    _refuse(kept > columns, heads, path, f"more than the {columns} columns of the grid (field encoded matrix)")
    reverse = (heads["flags"] & np.uint64(Flag.REVERSE)) != 0
    centre = heads["centre"] - pre
    start = columns // 2 - np.where(reverse, kept - 1 - centre, centre)
    strays = (start < 0) | (start + kept > columns)
    filling = strays & (kept == columns)
    _refuse(strays & ~filling, heads, path, f"which do not fit the {columns} columns of the grid about center_sample")
    table["first"], table["kept"], table["reverse"] = pre, kept, reverse
    table["x"] = np.where(filling, 0, start)
    if not filling.any():
        return []
    return [
        f"{filling.sum()} readouts fill the grid but have their centre sample elsewhere than in its middle; they are "
        "taken as filling it."
    ]


def _as_they_are(table: NDArray[np.void], heads: NDArray[np.void], columns: int, path: Path) -> list[str]:
    samples = heads["samples"]
    _refuse((samples < 1) | (samples > columns), heads, path, f"which do not fit the {columns} columns of the grid")
    table["kept"], table["x"] = samples, columns // 2 - samples // 2
    return []


def _refuse(wrong: NDArray[np.bool_], heads: NDArray[np.void], path: Path, why: str) -> None:
    if wrong.any():
        head = heads[np.flatnonzero(wrong)[0]]
        raise InputError(
            f"{path}: {wrong.sum()} readouts, such as line {head['step1']}, have {head['samples']} samples, {why}; "
            "convert the scanner's file again."
        )
