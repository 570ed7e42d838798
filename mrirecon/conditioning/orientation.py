"""Where slices and slabs lie, from the positions and directions of their readouts."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mrirecon.acquisition.geometry import Geometry, Vector
from mrirecon.acquisition.readouts import System
from mrirecon.conditioning.grid import Grid
from mrirecon.conditioning.options import SKIPPED
from mrirecon.errors import InputError

#: Readouts whose directions differ by less belong to one stack.
SAME_DIRECTION_RAD = np.deg2rad(0.1)
#: More different directions than this are no stacks of slices.
MOST_STACKS = 360
#: Direction vectors may be so far from orthonormal, in any component.
ORTHONORMAL_WITHIN = 1e-3
#: Positions closer than this are the same.
SAME_POSITION_MM = 0.1
#: No scanner reaches further from its centre.
FURTHEST_MM = 1e4

UNKNOWN = "The position and orientation of the images are unknown"
NO_DIRECTIONS = f"{UNKNOWN}: the header's vectors are no directions."
NO_POSITIONS = f"{UNKNOWN}: the header's positions are no places in a scanner."
#: Slice counters, ascending, and where each slice lies: (slices,) and (slices, 3).
Positions = tuple[NDArray[np.int64], NDArray[np.float64]]
Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class Arrangement:
    """The slices of a volume in the order of its images, or the one slab of a 3D volume.

    counters: slice counters in that order. centres_mm: (images, 3), None = unknown. done: what was done, in words.
    """

    counters: NDArray[np.int64]
    centres_mm: Matrix | None
    done: str
    notes: tuple[str, ...] = ()

    def index(self, counters: NDArray[np.int64]) -> NDArray[np.intp]:
        """Where slices with these counters are in the stack."""
        ascending = np.argsort(self.counters)
        return ascending[np.searchsorted(self.counters, counters, sorter=ascending)]


@dataclass(frozen=True)
class Facing:
    """Unit vectors of growing x, y and slice index of the images (rows of 3 × 3), and how they were found."""

    directions: Matrix
    convention: str
    proven: bool


def stacks_of(heads: NDArray[np.void], path: Path) -> NDArray[np.intp]:
    """Number of the stack of each readout: those of equal directions, counted in the order of their slice counters."""
    directions = np.concatenate([heads["read_dir"], heads["phase_dir"], heads["slice_dir"]], axis=1)
    _, first, which = np.unique(directions.view("V72")[:, 0], return_index=True, return_inverse=True)
    distinct = np.clip(np.nan_to_num(directions[first]), -2, 2).reshape(-1, 3, 3)
    lowest = np.full(len(distinct), np.iinfo(np.int64).max)
    np.minimum.at(lowest, which, heads["slice"])
    stacks, number = np.full(len(distinct), -1), 0
    for head in np.argsort(lowest, kind="stable"):
        if stacks[head] >= 0:
            continue
        if number == MOST_STACKS:
            raise InputError(
                f"{path}: the directions of its readouts differ in over {MOST_STACKS} ways (fields read_dir, "
                "phase_dir, slice_dir), so they are no stacks of slices."
            )
        apart = np.linalg.norm(distinct - distinct[head], axis=2).max(axis=1)
        stacks[(stacks < 0) & (apart < SAME_DIRECTION_RAD)] = number
        number += 1
    return stacks[which]


def frame_of(head: np.void) -> Matrix | None:
    """Read, phase and slice direction as orthonormal rows of a 3 × 3 matrix; None if they are nothing near that."""
    vectors = np.stack([head["read_dir"], head["phase_dir"], head["slice_dir"]])
    if not np.isfinite(vectors).all() or np.abs(vectors).max() > 2:
        return None
    left, _, right = np.linalg.svd(vectors)
    nearest = left @ right
    return nearest if np.abs(nearest - vectors).max() <= ORTHONORMAL_WITHIN else None


def positions(heads: NDArray[np.void]) -> Positions:
    """Where the first readout of each slice lies."""
    counters, first = np.unique(heads["slice"], return_index=True)
    return counters, heads["position"][first]


def one_position_each(heads: NDArray[np.void], path: Path) -> Positions:
    """`positions`, if each slice lies at only one; else InputError."""
    counters, centres = positions(heads)
    with np.errstate(invalid="ignore"):
        strays = np.abs(heads["position"] - centres[np.searchsorted(counters, heads["slice"])]).max(axis=1)
    if (strays > SAME_POSITION_MM).any():
        raise InputError(
            f"{path}: readouts of slice {heads['slice'][strays.argmax()]} lie at different positions (field position), "
            "so they are no one slice; convert the scanner's file again."
        )
    return counters, centres


def arrange_slices(stack: Positions, volume: Positions, frame: Matrix | None, *, by_position: bool) -> Arrangement:
    """The slices of a volume, given where all slices of its stack and where its own lie.

    A slice that only other volumes of the stack hold is an empty one here.
    """
    counters, centres = stack[0], stack[1].copy()
    centres[np.searchsorted(counters, volume[0])] = volume[1]
    count = "one slice" if len(counters) == 1 else f"{len(counters)} slices"
    unchanged = f"{count} in the order of the counters" if by_position else SKIPPED
    if frame is None or not _places(centres):
        return Arrangement(counters, None, unchanged, (NO_POSITIONS if frame is not None else NO_DIRECTIONS,))
    order = np.argsort((centres @ frame[2]).round(3), kind="stable")
    ordered = centres[order]
    if len(order) > 1 and np.abs(np.diff(ordered, axis=0)).max(axis=1).min() < SAME_POSITION_MM:
        return Arrangement(
            counters, None, unchanged, (f"{UNKNOWN}: different slices are said to lie at one position.",)
        )
    if not by_position:
        return Arrangement(counters, centres, unchanged)
    moved = (order != np.arange(len(order))).sum()
    return Arrangement(counters[order], ordered, f"{count} by position; the counters misplace {moved}")


def facing_of(
    frame: Matrix | None, system: System, directions: Literal["auto", "mrd", "siemens"], *, partitions: bool
) -> Facing | None:
    """Where the images' axes point, given the directions in the file; None if those are unknown.

    The MRD standard says that they are the same. Siemens' assume a forward Fourier transform from k-space to image,
    ours is the inverse; so along every encoded axis the image's direction is the opposite.
    """
    if frame is None:
        return None
    from_siemens = "siemens" in (system.vendor or "").lower()
    if directions == "siemens" or (directions == "auto" and from_siemens):
        encoded = np.array([-1, -1, -1 if partitions else 1])
        words = "Siemens: the directions of encoded axes are negated, as they assume a forward Fourier transform"
        return Facing(frame * encoded[:, None], words, proven=False)
    return Facing(frame, "MRD: the directions are those of the images", proven=not from_siemens)


def arrange_slab(slab: Positions, facing: Facing | None, grid: Grid) -> Arrangement:
    """The delivered partitions of a slab, along the images' slice direction; partition n // 2 is its centre."""
    counters, centres = slab
    n, thickness = grid.kept[2], grid.voxel_mm[2]
    done = f"one slab; {n} partitions in the order of their encoding"
    if facing is None or not _places(centres):
        return Arrangement(counters, None, done, (NO_POSITIONS if facing else NO_DIRECTIONS,))
    steps = (np.arange(n) - n // 2) * (thickness or np.nan)
    return Arrangement(counters, centres + steps[:, None] * facing.directions[2], done)


def geometry_of(
    arranged: Arrangement, facing: Facing | None, grid: Grid, patient_position: str | None
) -> Geometry | None:
    """The Geometry of the delivered images; None if a position or a size is unknown.

    The thickness of slices, if it is unknown, is taken from their distance.
    """
    x_mm, y_mm, thickness = grid.voxel_mm
    centres = arranged.centres_mm
    if facing is None or centres is None or x_mm is None or y_mm is None or not np.isfinite(centres).all():
        return None
    if thickness is None:
        if len(centres) == 1:
            return None
        thickness = float(np.linalg.norm(np.diff(centres, axis=0), axis=1).min())
    x, y, z = (_vector(direction) for direction in facing.directions)
    return Geometry(
        centres_mm=tuple(_vector(centre) for centre in centres),
        x_direction=x,
        y_direction=y,
        slice_direction=z,
        pixel_mm=(y_mm, x_mm),
        thickness_mm=thickness,
        convention=facing.convention,
        proven=facing.proven,
        patient_position=patient_position,
    )


def _places(centres: Matrix) -> bool:
    return bool((np.abs(centres) <= FURTHEST_MM).all())


def _vector(values: NDArray[np.float64]) -> Vector:
    # Adding zero turns −0.0, which negation leaves, into 0.0.
    x, y, z = (float(value) + 0.0 for value in values)
    return x, y, z
