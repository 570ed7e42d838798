"""What every writer gets: the images, one slice at a time, and where they come from."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import h5py
import numpy as np
from numpy.typing import NDArray

from mrirecon import __version__
from mrirecon.acquisition.containers import reading
from mrirecon.acquisition.geometry import Geometry
from mrirecon.acquisition.scan import Scan
from mrirecon.errors import InputError

#: Patient coordinates: DICOM counts towards left and back (LPS), NIfTI towards right and front (RAS).
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


class Images(Protocol):
    """The images of one volume. shape: (slices, y, x). maximum: largest magnitude."""

    @property
    def shape(self) -> tuple[int, int, int]: ...

    @property
    def complex(self) -> bool: ...

    @property
    def maximum(self) -> float: ...

    def slice(self, index: int) -> NDArray[np.float32] | NDArray[np.complex64]:
        """One image (y, x): complex64 where `complex`, else float32 magnitudes."""
        ...


@dataclass(frozen=True)
class StoredImages:
    """The images in a result that `mrirecon.export.hdf5.reconstruction_file` wrote: the complex ones where it has them.

    Memory holds one slice. Raises InputError if the file is no such result, or damaged.
    """

    path: Path

    @cached_property
    def _facts(self) -> tuple[tuple[int, int, int], bool, float]:
        with reading(self.path), h5py.File(self.path) as file:
            if "reconstruction" not in file or "max" not in file.attrs:
                raise InputError(f"{self.path}: is no result of `mrirecon reconstruct`; give its HDF5 output.")
            return file["reconstruction"].shape, "complex" in file, float(file.attrs["max"])

    @property
    def shape(self) -> tuple[int, int, int]:
        """(slices, y, x)."""
        return self._facts[0]

    @property
    def complex(self) -> bool:
        """Whether the result holds complex images."""
        return self._facts[1]

    @property
    def maximum(self) -> float:
        """The largest magnitude."""
        return self._facts[2]

    def slice(self, index: int) -> NDArray[np.float32] | NDArray[np.complex64]:
        """One image (y, x): complex64 where `complex`, else float32 magnitudes."""
        with reading(self.path), h5py.File(self.path) as file:
            image: NDArray = file["complex" if self.complex else "reconstruction"][index]
            return image


@dataclass(frozen=True)
class Origin:
    """Where images come from.

    scan: their scan, as conditioned. method: its name, as the user typed it, without folders. acceleration: of the
    samples that were used. model_sha256: of the network's checkpoint. settings: whatever else decides what the images
    look like (config, seed, mask, conditioning), as JSON can hold it; with the scan's content it is what DICOM's unique
    identifiers are made of. label: what the checks found, such as REVIEW, for the name of the series.
    """

    scan: Scan
    method: str
    acceleration: float
    model_sha256: str | None = None
    settings: Mapping[str, Any] | None = None
    label: str = ""

    @property
    def geometry(self) -> Geometry | None:
        """Of the images; None = unknown."""
        return self.scan.geometry

    @property
    def software(self) -> str:
        """Name and version of this software."""
        return f"mrirecon {__version__}"

    def voxel_mm(self, shape: tuple[int, int, int]) -> tuple[float, float, float] | None:
        """(slice, y, x) size of the voxels of images of `shape`, None if neither geometry nor header tells.

        Of an unknown slice thickness it is 1.
        """
        if self.geometry:
            return (self.geometry.spacing_mm or self.geometry.thickness_mm, *self.geometry.pixel_mm)
        header = self.scan.header
        if header.fov_mm is None or self.scan.stack == "readouts":
            return None
        height, width = (fov / pixels for fov, pixels in zip(header.fov_mm, shape[1:], strict=True))
        return header.slice_thickness_mm or 1.0, height, width


def affines_ras(geometry: Geometry, matrix: tuple[int, int]) -> list[NDArray[np.float64]]:
    """4 × 4 matrices, (x, y, slice, 1) voxel indices → RAS mm as in NIfTI, for images of `matrix` (y, x).

    One for the stack where its slices are evenly spaced, else one for each slice.
    """
    if geometry.spacing_mm is not None:
        return [LPS_TO_RAS @ geometry.affine_lps(matrix)]
    return [LPS_TO_RAS @ geometry.select(index).affine_lps(matrix) for index in range(geometry.slices)]


def geometry_text(geometry: Geometry | None) -> str:
    """What is known of the images' position and orientation, as a sentence or two."""
    if geometry is None:
        return "Position and orientation are unknown."
    checked = "" if geometry.proven else " Not proven: it has not been compared with this vendor's own images."
    return f"{geometry.convention.rstrip('.')}.{checked}"
