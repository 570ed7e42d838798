"""The k-space grid of an encoding, and how much of its image is delivered: by fields of view, not by matrix sizes."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mrirecon.acquisition.axes import times
from mrirecon.acquisition.readouts import Encoding
from mrirecon.errors import InputError

#: A grid of over SMALL_GRID points may be so many times larger than what was measured.
MOST_ACCELERATION = 64
SMALL_GRID = 1 << 24
#: Fields of view (mm) outside this range are no sizes of anything that is scanned, and count as unknown.
FOV_MM = 1e-3, 1e5

Sizes = tuple[int, int, int]


@dataclass(frozen=True)
class Grid:
    """Sizes in MRD's order (x readout, y phase encode 1, z phase encode 2); z is 1 for slices.

    matrix: of the k-space. kept: central voxels of the image that are delivered. voxel_mm: None = unknown; z is the
    thickness of the slice or the partition. partitions: whether z is encoded.
    """

    matrix: Sizes
    kept: Sizes
    voxel_mm: tuple[float | None, float | None, float | None]
    partitions: bool
    notes: tuple[str, ...]


def grid_of(encoding: Encoding, *, partitions: bool, measured: int, path: Path) -> Grid:
    """The grid of an encoding; `partitions` if phase encode 2 is used. measured: samples per coil that the file holds.

    Where the field of view that was encoded is larger than that of the scanner's image, the image is cropped to the
    latter; where the scanner's matrix is larger at the same field of view, the scanner interpolates, and we do not.
    Raises InputError for sizes that cannot be.
    """
    stated = encoding.encoded_matrix
    matrix: Sizes = (stated[0], stated[1], stated[2] if partitions else 1)
    size = matrix[0] * matrix[1] * matrix[2]
    if min(matrix) < 1 or size > max(MOST_ACCELERATION * measured, SMALL_GRID):
        raise InputError(
            f"{path}: its header gives an encoded matrix of {times(stated)} (x × y × z), which cannot be for the "
            f"{measured} samples per coil in the file; convert the scanner's file again."
        )
    axes = 3 if partitions else 2
    kept, voxel, notes = list(matrix), [_thickness(encoding)] * 3, []
    for axis in range(axes):
        field = _positive(encoding.encoded_fov_mm, axis)
        delivered = _positive(encoding.recon_fov_mm, axis)
        voxel[axis] = field and field / matrix[axis]
        if field is None:
            notes.append(f"The header gives no encoded field of view along {'xyz'[axis]}: nothing is cropped there.")
        elif delivered is not None and delivered > field * 1.001:
            notes.append(f"The header's image is larger than the field of view along {'xyz'[axis]}; it is not cropped.")
        elif delivered is not None:
            kept[axis] = min(max(round(matrix[axis] * delivered / field), 1), matrix[axis])
    if voxel[2] is None and not partitions:
        notes.append("The header gives no slice thickness.")
    recon = encoding.recon_matrix
    if recon is not None and list(recon[:axes]) != kept[:axes]:
        notes.append(
            f"The scanner's image would have {times(recon[:axes])} ({' × '.join('xyz'[:axes])}) voxels; here it has "
            f"{times(kept[:axes])}, as acquired, without interpolation."
        )
    return Grid(matrix, (kept[0], kept[1], kept[2]), (voxel[0], voxel[1], voxel[2]), partitions, tuple(notes))


def same_fov(one: Encoding, other: Encoding, *, partitions: bool) -> bool:
    """Whether two encodings step through k-space alike, so that lines of one fit on the grid of the other."""
    if one is other:
        return True
    if one.encoded_fov_mm is None or other.encoded_fov_mm is None:
        return False
    axes = 3 if partitions else 2
    return bool(np.allclose(one.encoded_fov_mm[:axes], other.encoded_fov_mm[:axes], rtol=0.01))


def _thickness(encoding: Encoding) -> float | None:
    """Of a slice. Some converters give z the extent and the number of all slices."""
    fov = _positive(encoding.recon_fov_mm, 2)
    if fov is not None and encoding.recon_matrix is not None:
        return fov / max(encoding.recon_matrix[2], 1)
    encoded = _positive(encoding.encoded_fov_mm, 2)
    return fov or (encoded and encoded / max(encoding.encoded_matrix[2], 1))


def _positive(fov: tuple[float, float, float] | None, axis: int) -> float | None:
    return fov[axis] if fov is not None and FOV_MM[0] <= fov[axis] <= FOV_MM[1] else None
