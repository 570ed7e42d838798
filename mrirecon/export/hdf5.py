"""Reconstructions as HDF5 that fastMRI's tools read: `reconstruction`, float32 (slices, y, x)."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from mrirecon.atomic import atomic_path
from mrirecon.errors import ResourceError

DISCLAIMER = "Research software, not a medical device."

WriteSlice = Callable[[int, NDArray[np.complex64]], None]


@contextmanager
def reconstruction_file(
    path: Path,
    shape: tuple[int, int, int],
    *,
    mask: NDArray[np.bool_],
    scale: float,
    provenance: Mapping[str, Any],
    keep_complex: bool = False,
) -> Iterator[WriteSlice]:
    """Yield write(index, image), which stores one complex image (y, x), in the scan's own units, at once.

    shape: (slices, y, x) of the images. mask: sampling mask (1 or slices, ky, kx). scale: what k-space was divided by
    while reconstructing (undone already). provenance: facts for JSON. The file holds the datasets `reconstruction`
    (magnitudes), `mask` and, with keep_complex, `complex`; and the attributes `max` (as fastMRI's), `scale`, `units`,
    `provenance` and `disclaimer`. It appears at `path` when everything is written, or not at all.
    Raises ResourceError if it cannot be written.
    """
    maximum = 0.0
    with hdf5_file(path) as file:
        with explained(path):
            kinds = {"reconstruction": np.float32} | ({"complex": np.complex64} if keep_complex else {})
            for name, kind in kinds.items():
                file.create_dataset(name, shape, kind, chunks=(1, *shape[1:]), compression="gzip", shuffle=True)
            file.create_dataset("mask", data=mask, compression="gzip")
            file.attrs.update(
                scale=scale, units="arbitrary", disclaimer=DISCLAIMER, provenance=json.dumps(provenance, default=str)
            )

        def write(index: int, image: NDArray[np.complex64]) -> None:
            nonlocal maximum
            magnitude = np.abs(image)
            maximum = max(maximum, float(magnitude.max()))
            with explained(path):
                file["reconstruction"][index] = magnitude
                if keep_complex:
                    file["complex"][index] = image

        yield write
        with explained(path):
            file.attrs["max"] = maximum


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
        raise ResourceError(f"{path}: writing failed ({error}); is the disk full?") from error
