"""Reconstructions as HDF5 that fastMRI's tools read: `reconstruction`, float32 (slices, y, x)."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from mrirecon.acquisition.geometry import Geometry
from mrirecon.acquisition.scan import Scan
from mrirecon.atomic import atomic_path
from mrirecon.errors import ResourceError
from mrirecon.export.images import affines_ras, geometry_text

DISCLAIMER = "Research software, not a medical device."

#: Axes of the sensitivity maps by what the scan's leading axis counts. Along a fully sampled readout of a 3D scan, maps
#: lie behind the Fourier transform, as the images do.
MAP_AXES = {
    "slices": "slice,coil,y,x",
    "partitions": "partition,coil,y,x",
    "readouts": "readout position,coil,phase encode 1 (y),phase encode 2 (partition)",
}


class ReconstructionWriter:
    """Stores what comes, slice by slice; see `reconstruction_file`."""

    def __init__(self, path: Path, file: h5py.File):
        self._path, self._file, self.maximum = path, file, 0.0

    def __call__(self, index: int, image: NDArray[np.complex64]) -> None:
        """Store one image, complex (y, x), in the scan's own units."""
        magnitude = np.abs(image)
        self.maximum = max(self.maximum, float(magnitude.max()))
        with explained(self._path):
            self._file["reconstruction"][index] = magnitude
            if "complex" in self._file:
                self._file["complex"][index] = image

    def maps(self, index: int, maps: NDArray[np.complex64]) -> None:
        """Store the sensitivity maps (coils, y, x) of one of the scan's slices, or readout positions."""
        with explained(self._path):
            self._file["sensitivity_maps"][index] = maps


@contextmanager
def reconstruction_file(
    path: Path,
    shape: tuple[int, int, int],
    *,
    mask: NDArray[np.bool_],
    scale: float,
    provenance: Mapping[str, Any],
    keep_complex: bool = False,
    geometry: Geometry | None = None,
    maps_of: Scan | None = None,
    noise_std: float | None = None,
    noise_covariance: NDArray[np.complexfloating] | None = None,
) -> Iterator[ReconstructionWriter]:
    """Yield write(index, image), which stores one complex image (y, x), in the scan's own units, at once.

    shape: (slices, y, x) of the images. mask: sampling mask (1 or slices, ky, kx). scale: what k-space was divided by
    while reconstructing (undone already). provenance: facts for JSON. geometry: of the images. maps_of: the scan whose
    sensitivity maps are kept too; write.maps(index, maps) stores them. noise_std: of the complex noise in k-space.
    noise_covariance: complex (coils, coils), of the noise before prewhitening.
    The file holds the datasets `reconstruction` (magnitudes), `mask` and, on request, `complex`, `sensitivity_maps`
    (complex64, its attribute `axes` names them), `noise_std` and `noise_covariance`; and the attributes `max` (as
    fastMRI's), `scale`, `units`, `axes`, `geometry` (how it is known, in words), `provenance`, `disclaimer` and, where
    geometry is known, `affine`: (x, y, slice, 1) voxel indices → RAS mm, 4 × 4, or (slices, 4, 4) of each slice with
    itself as the only one where the slices are not evenly spaced. It appears at `path` when everything is written, or
    not at all. Raises ResourceError if it cannot be written.
    """
    with hdf5_file(path) as file:
        write = ReconstructionWriter(path, file)
        with explained(path):
            kinds = {"reconstruction": np.float32} | ({"complex": np.complex64} if keep_complex else {})
            for name, kind in kinds.items():
                file.create_dataset(name, shape, kind, chunks=(1, *shape[1:]), compression="gzip", shuffle=True)
            file.create_dataset("mask", data=mask, compression="gzip")
            if maps_of is not None:
                maps = file.create_dataset(
                    "sensitivity_maps", maps_of.shape, np.complex64, chunks=(1, *maps_of.shape[1:]), compression="lzf"
                )
                maps.attrs["axes"] = MAP_AXES[maps_of.stack]
            for name, noise in {"noise_std": noise_std, "noise_covariance": noise_covariance}.items():
                if noise is not None:
                    file[name] = noise
            file.attrs.update(
                scale=scale,
                units="arbitrary",
                axes="slice,y,x",
                geometry=geometry_text(geometry),
                disclaimer=DISCLAIMER,
                provenance=json.dumps(provenance, default=str),
            )
            if geometry:
                affines = affines_ras(geometry, shape[1:])
                file.attrs["affine"] = affines[0] if geometry.spacing_mm else np.stack(affines)
        yield write
        with explained(path):
            file.attrs["max"] = write.maximum


@contextmanager
def hdf5_file(path: Path) -> Iterator[h5py.File]:
    """Yield a new HDF5 file, which appears at `path` when all is written, or not at all. Write to it in `explained`."""
    with atomic_path(path) as temporary:
        # Without a chunk cache a failed write is an error at once, not a complaint when the file is closed.
        file = h5py.File(temporary, "w", rdcc_nbytes=0)
        try:
            yield file
        except BaseException:
            # The file is thrown away; what closing it says would hide why.
            with suppress(OSError, RuntimeError):
                file.close()
            raise
        with explained(path):
            file.close()


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Errors inside are those of writing to `path`: raises ResourceError."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        # HDF5's own words hold names of temporary files, and addresses.
        reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else error
        raise ResourceError(f"{path}: writing failed ({reason}); is the disk full?") from error
