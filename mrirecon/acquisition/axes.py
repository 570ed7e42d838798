"""Which axis of a stored array is what: named by the user, fixed by the format, or guessed where it is obvious."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mrirecon.acquisition.scan import Axis, Stack
from mrirecon.errors import InputError, UsageError

#: Axes that count volumes: each combination of their indices is a scan of its own.
VOLUMES = ("echo", "contrast", "repetition", "time")
NAMES = ("slice", "coil", "y", "x", "readout", "phase", "ky", "kx", "kz", *VOLUMES)
#: More channels than this no receiver has; a longer axis is not guessed to be the coils.
MOST_COILS = 64

Index = tuple[int | slice, ...]
#: Position along the axes that count volumes: their names and indices.
Volume = tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Layout:
    """The order of an array's axes: y and x, and at most one each of coil, slice or kz, and those of VOLUMES.

    readout_axis: known if the user or the format names the readout. notes: what was assumed.
    """

    order: tuple[str, ...]
    readout_axis: Axis | None = None
    notes: tuple[str, ...] = ()

    @property
    def stack(self) -> Stack:
        """What the scans' leading axis counts."""
        return "partitions" if "kz" in self.order else "slices"

    def scan_shape(self, shape: Sequence[int]) -> tuple[int, int, int, int]:
        """Array shape → (slices or partitions, coils, y, x) of each volume."""
        size = dict(zip(self.order, shape, strict=True))
        return size.get("kz", size.get("slice", 1)), size.get("coil", 1), size["y"], size["x"]

    def volumes(self, shape: Sequence[int]) -> dict[str | None, Volume]:
        """Label such as "echo-1_time-3" (counted from 1; None if there is one volume) → where that volume is."""
        size = dict(zip(self.order, shape, strict=True))
        names = [name for name in VOLUMES if name in size]
        found = (tuple(zip(names, place, strict=True)) for place in product(*(range(size[name]) for name in names)))
        return {
            "_".join(f"{name}-{at + 1}" for name, at in volume if size[name] > 1) or None: volume for volume in found
        }

    def select(self, index: int, volume: Volume = ()) -> Index:
        """What to read from the array for one slice or partition of a volume."""
        place = {"slice": index, "kz": index, **dict(volume)}
        return tuple(place.get(name, slice(None)) for name in self.order)

    def arrange(self, selected: NDArray[np.complex64]) -> NDArray[np.complex64]:
        """The array read by `select` → contiguous (coils, y, x)."""
        order = [name for name in self.order if name in ("coil", "y", "x")]
        if "coil" not in order:
            selected, order = selected[None], ["coil", *order]
        return np.ascontiguousarray(selected.transpose([order.index(name) for name in ("coil", "y", "x")]))


def named_axes(axes: str | Sequence[str], shape: Sequence[int], path: Path) -> Layout:
    """Layout from names such as "coil,ky,kx". Of readout and phase, the first in the array is y; in 3D, phase is y.

    Raises UsageError for unknown, repeated or missing names and for a count that does not fit `shape`.
    """
    given = [name.strip().lower() for name in (axes.split(",") if isinstance(axes, str) else axes)]
    asked = f"{path}: --axes {','.join(given)}"
    if unknown := [name for name in given if name not in NAMES]:
        raise UsageError(f"{asked}: no axis is called '{unknown[0]}'; there are {', '.join(NAMES)}.")
    if len(given) != len(shape):
        raise UsageError(f"{asked} names {len(given)} axes, but the array has {len(shape)}: {times(shape)}.")
    plain = {"ky": "y", "kx": "x"}
    order = [plain.get(name, name) for name in given]
    readout_axis: Axis | None = None
    if {"readout", "phase"} <= set(order):
        # Partitions are transformed along the readout later, which is therefore always at the same place.
        readout_axis = "x" if "kz" in order or order.index("phase") < order.index("readout") else "y"
        roles: dict[str, str] = {"readout": readout_axis, "phase": "x" if readout_axis == "y" else "y"}
        order = [roles.get(name, name) for name in order]
    if repeated := [name for name in order if order.count(name) > 1]:
        raise UsageError(f"{asked} names the axis {repeated[0]} twice (ky is y, kx is x; readout and phase are both).")
    if "kz" in order and readout_axis is None:
        raise UsageError(f"{asked}: with kz, the readout must be known; call the other two axes readout and phase.")
    if not {"y", "x"} <= set(order):
        raise UsageError(f"{asked} needs two axes of k-space: ky and kx, or readout and phase.")
    if {"kz", "slice"} <= set(order):
        raise UsageError(f"{asked} names kz and slice; a 3D scan has partitions (kz) only. Save each slab by itself.")
    return Layout(tuple(order), readout_axis)


def guessed_axes(shape: Sequence[int], path: Path) -> Layout:
    """Layout of an array whose axes nobody named: 2D, or 3D with an axis that is obviously the coils.

    Raises InputError for everything else.
    """
    if len(shape) == 2:
        return Layout(("y", "x"), notes=("Axes were not given: the array is taken as one slice of one coil, y,x.",))
    if len(shape) == 3:
        coil_axis, others = int(np.argmin(shape)), sorted(shape)[1:]
        if coil_axis != 1 and shape[coil_axis] <= MOST_COILS and 2 * shape[coil_axis] <= others[0]:
            order = ("coil", "y", "x") if coil_axis == 0 else ("y", "x", "coil")
            slices = ",".join(order).replace("coil", "slice")
            note = (
                f"Axes were not given: {times(shape)} is taken as {','.join(order)}. "
                f"If the {shape[coil_axis]} are slices, say --axes {slices}."
            )
            return Layout(order, notes=(note,))
    if len(shape) < 2:
        raise InputError(f"{path}: the array is {times(shape)}; k-space has two axes or more.")
    example = {3: "coil,ky,kx", 4: "slice,coil,ky,kx"}.get(len(shape), "time,slice,coil,ky,kx")
    volumes = "" if len(shape) == 3 else f" A 3D scan has kz,phase,readout; {', '.join(VOLUMES)} count volumes."
    raise InputError(
        f"{path}: the array is {times(shape)} and it is unclear which axis is what. "
        f"Name them in the array's order, for example --axes {example}.{volumes}"
    )


def times(shape: Sequence[int]) -> str:
    """Shape for messages: 8 × 256 × 256."""
    return " × ".join(map(str, shape)) or "a single number"
