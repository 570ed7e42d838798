"""Training slices from files of fully sampled k-space."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from mrirecon.acquisition.detection import open_scan
from mrirecon.acquisition.sampling import sampling_of
from mrirecon.acquisition.scan import Scan
from mrirecon.data.batch import Slice
from mrirecon.data.undersampling import Undersampling
from mrirecon.errors import InputError
from mrirecon.physics.fourier import fftc, ifftc
from mrirecon.physics.sampling import seed_of


class ScanSlices(Dataset[Slice]):
    """The slices of fully sampled scans, each with a random mask, cropped to `matrix` (y, x) if that is given.

    Example i is slice i modulo their number. Training draws a new mask for every example from (seed, i); with
    `one_mask_per_volume` the mask is a function of the file's name, so that all slices and epochs share it.
    """

    def __init__(
        self,
        scans: Sequence[Scan],
        undersampling: Undersampling,
        matrix: tuple[int, int] | None,
        seed: int,
        one_mask_per_volume: bool = False,
    ):
        self.scans = list(scans)
        self.undersampling = undersampling
        self.matrix = matrix
        self.seed = seed
        self.one_mask_per_volume = one_mask_per_volume
        self.index = [(v, s) for v, scan in enumerate(self.scans) for s in range(scan.slices)]

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, index: int) -> Slice:
        volume, number = self.index[index % len(self.index)]
        scan = self.scans[volume]
        if scan.prospective:
            raise InputError(f"{scan.path}: is undersampled; training needs fully sampled scans as targets.")
        rng = np.random.default_rng(seed_of(scan.path.name) if self.one_mask_per_volume else (self.seed, index))
        kspace = torch.from_numpy(scan.kspace(number)) / scan.survey.scale
        acquired = sampling_of(scan).mask[0]
        if self.matrix is not None:
            kspace, acquired = crop_field_of_view(kspace, self.matrix, rng), torch.ones(self.matrix, dtype=torch.bool)
        height, width = kspace.shape[-2:]
        mask = self.undersampling.mask((height, width), scan.header.readout_axis or "y", rng)
        return Slice(kspace, (mask & acquired)[None], volume)


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


def open_folder(paths: Sequence[Path]) -> list[Scan]:
    """Open scan files; a folder stands for the HDF5 files in it. InputError if there is none."""
    files = [file for path in paths for file in (sorted(path.glob("*.h5")) if path.is_dir() else [path])]
    if not files:
        raise InputError(f"{', '.join(map(str, paths))}: there are no .h5 files to train on.")
    return [open_scan(file) for file in files]
