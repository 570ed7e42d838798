"""The Calgary-Campinas layout of HDF5: `kspace`, real (readout positions, ky, kz, 2 × coils), transformed along x.

Real and imaginary parts of the coils alternate along the last axis, and there is no header (Souza et al., NeuroImage
2018, doi 10.1016/j.neuroimage.2017.08.021, and the notebooks of its reconstruction challenge). Images of the data set
are plain inverse FFTs without shifts, so the phase that moves an image by half its size is put into the samples here.
"""

from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from mrirecon.acquisition.axes import MOST_COILS
from mrirecon.acquisition.containers import reading
from mrirecon.acquisition.hdf5 import HDF5, stored_array
from mrirecon.acquisition.scan import Header, Scan, central_energy

#: Share of kz that was acquired; what is stored beyond is not data and counts as zero.
ACQUIRED_SHARE = 0.85


def is_calgary_campinas(file: h5py.File) -> bool:
    """A real root dataset `kspace` of four axes, the last even, more than a real and imaginary part, and the coils'."""
    kspace = file.get("kspace")
    if not isinstance(kspace, h5py.Dataset) or kspace.ndim != 4 or kspace.dtype.kind != "f":
        return False
    height, width, channels = kspace.shape[1:]
    coils = channels % 2 == 0 and 2 < channels <= 2 * MOST_COILS and channels < min(height, width)
    return coils and "ismrmrd_header" not in file


def open_calgary_campinas(path: Path) -> Scan:
    """The Scan of a file for which `is_calgary_campinas` said so: slices are readout positions, y is ky, x is kz."""
    with reading(path), h5py.File(path, "r") as file:
        array = stored_array(file["kspace"])
        array.check_size()
    positions, height, width, channels = array.shape
    acquired = int(np.ceil(width * ACQUIRED_SHARE))
    cornered = _cornered(path, positions // 2) if min(array.shape) else False
    place = "corner" if cornered else "centre"
    return Scan(
        path=path,
        format="Calgary-Campinas HDF5",
        shape=(positions, channels // 2, height, width),
        read_slice=_SliceReader(path, acquired, cornered),
        header=Header(acquired=((0, height), (0, acquired))),
        stored_dtype=array.type_name,
        notes=(
            "Read by documentation: the layout is the published one, and no file of the data set was at hand.",
            f"Zero frequency was found in the {place} of the array; images are centred as those of the data set.",
            f"By the data set's rule, the last {width - acquired} of {width} positions along kz were not acquired.",
        ),
        stack="readouts",
    )


def _cornered(path: Path, index: int) -> bool:
    """Whether the energy of a slice says that zero frequency is at index 0 instead of n // 2."""
    kspace = _stored(path, index)
    if not np.isfinite(kspace).all() or not kspace.any():
        return False
    return central_energy(np.fft.fftshift(kspace, axes=(1, 2))) > central_energy(kspace)


def _stored(path: Path, index: int) -> NDArray[np.complex64]:
    """Samples (coils, ky, kz) as they are in the file."""
    with reading(path, f"slice {index}"):
        pairs = np.ascontiguousarray(HDF5.read(path, "kspace", (index,)), dtype=np.float32)
    return np.ascontiguousarray(pairs.view(np.complex64).transpose(2, 0, 1))


@dataclass(frozen=True)
class _SliceReader:
    """Readout position → complex64 (coils, ky, kz), centred."""

    path: Path
    acquired: int
    cornered: bool

    def __call__(self, index: int) -> NDArray[np.complex64]:
        kspace = _stored(self.path, index)
        if self.cornered:
            kspace = np.fft.fftshift(kspace, axes=(1, 2))
        kspace[:, :, self.acquired :] = 0
        height, width = kspace.shape[1:]
        return kspace * (_half_shift(height)[:, None] * _half_shift(width))


def _half_shift(size: int) -> NDArray[np.complex64]:
    """Phase over centred k-space that moves an image by −(size // 2), which a centred FFT moves back."""
    frequency = np.arange(size) - size // 2
    return np.exp(2j * np.pi * frequency * (size // 2) / size).astype(np.complex64)
