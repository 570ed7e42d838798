"""Training slices from files of fully sampled k-space."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from mrirecon.acquisition.containers import SliceReader, reading
from mrirecon.acquisition.hdf5 import HDF5, stored_array
from mrirecon.acquisition.scan import Scan
from mrirecon.conditioning.opening import open_scans
from mrirecon.conditioning.options import Conditioning
from mrirecon.data.batch import Slice
from mrirecon.data.index import Volume
from mrirecon.data.undersampling import Undersampling
from mrirecon.errors import InputError
from mrirecon.physics.fourier import fftc, ifftc
from mrirecon.physics.sampling import seed_of

#: Numbers that are scaled at a time: they fit into a processor's second cache.
BLOCK = 1 << 16
#: Raw data files that each loader process keeps sorted; one can take 20 MB.
SORTED_FILES = 32


class ScanSlices(Dataset[Slice]):
    """The slices of fully sampled volumes, each with a random mask, cropped to `matrix` (y, x) if that is given.

    Example i is slice i modulo their number. Training draws a new mask for every example from (seed, i); with
    `one_mask_per_volume` the mask is a function of the file's name, so that all slices and epochs share it.
    InputError if a volume is undersampled.
    """

    def __init__(
        self,
        volumes: Sequence[Volume],
        undersampling: Undersampling,
        matrix: tuple[int, int] | None,
        seed: int,
        one_mask_per_volume: bool = False,
        conditioning: Conditioning = Conditioning(),  # noqa: B008 (frozen)
    ):
        for volume in volumes:
            if volume.prospective:
                raise InputError(f"{volume.path}: is undersampled; training needs fully sampled scans as targets.")
        self.volumes = list(volumes)
        self.undersampling = undersampling
        self.matrix = matrix
        self.seed = seed
        self.one_mask_per_volume = one_mask_per_volume
        self.conditioning = conditioning
        self.array_files: dict[Path, list[Scan]] = {}
        self.index = [(v, s) for v, volume in enumerate(self.volumes) for s in range(volume.shape[0])]

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, index: int) -> Slice:
        number, position = self.index[index % len(self.index)]
        volume = self.volumes[number]
        rng = np.random.default_rng(seed_of(volume.path.name) if self.one_mask_per_volume else (self.seed, index))
        scan = self._scans(volume.path)[volume.number]
        kspace = torch.from_numpy(scaled_slice(scan, position, volume.scale))
        if self.matrix is not None:
            kspace, acquired = crop_field_of_view(kspace, self.matrix, rng), torch.ones(self.matrix, dtype=torch.bool)
        else:
            (y0, y1), (x0, x1) = volume.acquired
            acquired = torch.zeros(kspace.shape[-2:], dtype=torch.bool)
            acquired[y0:y1, x0:x1] = True
        height, width = kspace.shape[-2:]
        mask = self.undersampling.mask((height, width), volume.readout_axis or "y", rng)
        return Slice(kspace, (mask & acquired)[None], number)

    def _scans(self, path: Path) -> list[Scan]:
        """The volumes of a file. Scans of arrays are small: all are kept, because opening them takes milliseconds."""
        if path in self.array_files:
            return self.array_files[path]
        scans = _opened(path, self.conditioning)
        if all(isinstance(scan.read_slice, SliceReader) for scan in scans):
            self.array_files[path] = scans
        return scans


@lru_cache(maxsize=SORTED_FILES)
def _opened(path: Path, conditioning: Conditioning) -> list[Scan]:
    return open_scans(path, conditioning)


def scaled_slice(scan: Scan, index: int, scale: float) -> NDArray[np.complex64]:
    """K-space of one slice, complex64 (coils, y, x), divided by `scale`; InputError if it holds NaN or infinity.

    Large slices are limited by memory traffic, so they are read where they will stay, and checked and scaled in one go.
    """
    own = _read_own(scan, index)
    kspace = np.ascontiguousarray(scan.read_slice(index)) if own is None else own
    scaled = np.empty_like(kspace) if own is None else own
    numbers, results = (array.reshape(-1).view(np.float32) for array in (kspace, scaled))
    factor = np.float32(1) / np.float32(scale)
    for start in range(0, numbers.size, BLOCK):
        block = np.multiply(numbers[start : start + BLOCK], factor, out=results[start : start + BLOCK])
        # The sum of squares is the cheapest look at all numbers; it may itself overflow.
        if not np.isfinite(np.dot(block, block)) and not np.isfinite(block).all():
            raise InputError(f"{scan.path}: slice {index} holds NaN or infinite samples; export the file again.")
    return scaled


def _read_own(scan: Scan, index: int) -> NDArray[np.complex64] | None:
    """The slice in memory of its own, if it lies in the HDF5 file just as it is wanted; else None."""
    reader: Any = scan.read_slice
    if not (isinstance(reader, SliceReader) and reader.read is HDF5.read):
        return None
    if reader.layout.order not in (("slice", "coil", "y", "x"), ("slice", "y", "x")):
        return None
    with reading(scan.path, f"slice {index}"), h5py.File(scan.path, "r") as file:
        dataset = file[reader.key]
        if dataset.dtype != np.complex64:
            return None
        stored_array(dataset).check_size()
        kspace = np.empty(scan.shape[1:], dtype=np.complex64)
        dataset.read_direct(kspace, index, None if dataset.ndim == 4 else 0)
        return kspace


def crop_field_of_view(kspace: Tensor, matrix: tuple[int, int], rng: np.random.Generator) -> Tensor:
    """K-space (coils, y, x) of a random part of the image, before any mask, so that aliasing is that of the part."""
    image = ifftc(kspace)
    slices = []
    for have, want in zip(image.shape[-2:], matrix, strict=True):
        if want > have:
            raise InputError(f"a matrix of {matrix} does not fit into slices of {tuple(image.shape[-2:])}.")
        start = int(rng.integers(have - want + 1))
        slices.append(slice(start, start + want))
    return fftc(image[:, slices[0], slices[1]])
