"""Where the voxels of a scan's images lie in the patient."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Vector = tuple[float, float, float]


@dataclass(frozen=True)
class Geometry:
    """Position and orientation of a stack of images, in the patient's LPS millimetres, as in DICOM.

    centres_mm: per slice, the position of its voxel (y // 2, x // 2), the origin of a centred Fourier transform. It
        stays the same place when an image is cropped about its centre.
    x_direction, y_direction, slice_direction: unit vectors along which the column, row and slice index grow.
    pixel_mm: (y, x). thickness_mm: of the excited slice; of a partition in 3D.
    convention: how directions were derived from the file, for `mrirecon info` and the DICOM comment. proven: False
        where no pair of raw data and scanner image was at hand to check that convention.
    patient_position: DICOM's code such as "HFS", or None where the file does not say.
    """

    centres_mm: tuple[Vector, ...]
    x_direction: Vector
    y_direction: Vector
    slice_direction: Vector
    pixel_mm: tuple[float, float]
    thickness_mm: float
    convention: str
    proven: bool
    patient_position: str | None = None

    @property
    def slices(self) -> int:
        return len(self.centres_mm)

    @property
    def spacing_mm(self) -> float | None:
        """Distance between neighbouring slices along the slice direction; None if it is not the same everywhere.

        Of a single slice it is the thickness.
        """
        if self.slices == 1:
            return self.thickness_mm
        steps = np.diff(np.asarray(self.centres_mm), axis=0)
        along = steps @ np.asarray(self.slice_direction)
        sideways = np.abs(steps - along[:, None] * np.asarray(self.slice_direction)).max()
        tolerance = max(0.01 * abs(along[0]), 1e-3)
        uniform = np.abs(along - along[0]).max() <= tolerance and sideways <= tolerance and along[0] > 0
        return float(along.mean()) if uniform else None

    def position_mm(self, index: int, y: float, x: float, matrix: tuple[int, int]) -> NDArray[np.float64]:
        """LPS position of voxel (y, x) of slice `index` in images of `matrix` (y, x)."""
        (rows, columns), (dy, dx) = matrix, self.pixel_mm
        down = np.asarray(self.y_direction) * (y - rows // 2) * dy
        right = np.asarray(self.x_direction) * (x - columns // 2) * dx
        return np.asarray(self.centres_mm[index]) + down + right

    def affine_lps(self, matrix: tuple[int, int]) -> NDArray[np.float64]:
        """4 × 4: (x, y, slice, 1) indices of images of `matrix` (y, x) → LPS mm. ValueError if spacing is uneven."""
        spacing = self.spacing_mm
        if spacing is None:
            raise ValueError("the slices are not evenly spaced")
        affine = np.eye(4)
        affine[:3, 0] = np.asarray(self.x_direction) * self.pixel_mm[1]
        affine[:3, 1] = np.asarray(self.y_direction) * self.pixel_mm[0]
        affine[:3, 2] = np.asarray(self.slice_direction) * spacing
        affine[:3, 3] = self.position_mm(0, 0, 0, matrix)
        return affine

    def select(self, index: int) -> "Geometry":
        """That of one slice alone."""
        return replace(self, centres_mm=(self.centres_mm[index],))


def patient_side(direction: Vector) -> str:
    """Which side of the patient an LPS direction leads to most: L, R, P(osterior), A(nterior), H(ead) or F(eet)."""
    axis = int(np.argmax(np.abs(direction)))
    return ("RL", "AP", "FH")[axis][int(direction[axis] > 0)]
