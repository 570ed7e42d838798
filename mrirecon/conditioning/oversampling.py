"""Readout oversampling removed: the image is cropped along the readout, where nothing is lost by it."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mrirecon.acquisition.scan import Scan, Step

Read = Callable[[int], NDArray[np.complex64]]


def remove_readout_oversampling(scan: Scan) -> Scan:
    """The scan with `header.readout_kept` samples along its readout; the same scan if there are no more than that.

    Every line goes to image space, is cropped about voxel n // 2 and goes back, all orthonormally, so that signal and
    noise keep their level per sample. Lines that were not measured stay exactly zero.
    """
    kept, axis = scan.header.readout_kept, scan.header.readout_axis
    if kept is None or axis is None or kept >= scan.shape[-2:]["yx".index(axis)]:
        return scan
    position = "yx".index(axis)
    length = scan.shape[-2:][position]
    shape, acquired, mask = list(scan.shape), scan.header.acquired, scan.stored_mask
    shape[2 + position] = kept
    if acquired is not None:
        ranges = list(acquired)
        ranges[position] = _coarser(ranges[position], length, kept)
        acquired = ranges[0], ranges[1]
    if mask is not None:
        # The sample of the old grid that is nearest to each of the new.
        nearest = np.rint((np.arange(kept) - kept // 2) * length / kept).astype(int) + length // 2
        mask = mask.take(nearest.clip(0, length - 1), axis=position)
    step = Step("oversampling", f"readout of {length} samples cropped in the image to the central {kept}")
    return replace(
        scan,
        shape=(shape[0], shape[1], shape[2], shape[3]),
        read_slice=CroppedReader(scan.read_slice, position - 2, kept),
        read_calibration=scan.read_calibration and CroppedReader(scan.read_calibration, position - 2, kept),
        header=replace(scan.header, acquired=acquired, readout_kept=None),
        stored_mask=mask,
        steps=(*scan.steps, step),
    )


@dataclass(frozen=True)
class CroppedReader:
    """Slice index → complex64 (coils, y, x), the image of which is cropped to `kept` pixels along `axis` (−2 or −1)."""

    read: Read
    axis: int
    kept: int

    def __call__(self, index: int) -> NDArray[np.complex64]:
        return to_kspace(central(to_image(self.read(index), self.axis), self.axis, self.kept), self.axis)


def to_image(kspace: NDArray[np.complex64], axis: int) -> NDArray[np.complex64]:
    """Centred, orthonormal inverse Fourier transform along one axis.

    That of `mrirecon.physics.fourier` in NumPy: `mrirecon info` reads k-space and must not wait for torch.
    """
    shifted = np.fft.ifftshift(kspace, axes=axis)
    return np.fft.fftshift(np.fft.ifft(shifted, axis=axis, norm="ortho"), axes=axis).astype(np.complex64, copy=False)


def to_kspace(image: NDArray[np.complex64], axis: int) -> NDArray[np.complex64]:
    """Centred, orthonormal Fourier transform along one axis."""
    shifted = np.fft.ifftshift(image, axes=axis)
    return np.fft.fftshift(np.fft.fft(shifted, axis=axis, norm="ortho"), axes=axis).astype(np.complex64, copy=False)


def central(array: NDArray[np.complex64], axis: int, kept: int) -> NDArray[np.complex64]:
    """The central `kept` entries along `axis`, about entry n // 2."""
    start = array.shape[axis] // 2 - kept // 2
    return np.take(array, range(start, start + kept), axis=axis)


def _coarser(measured: tuple[int, int], length: int, kept: int) -> tuple[int, int]:
    """The measured range of a readout on the grid of its cropped image, whose samples lie length / kept further apart.

    Rounded inwards: what lies beyond the measured range holds leakage alone.
    """
    start, stop = measured
    first = np.ceil((start - length // 2) * kept / length) + kept // 2
    last = np.floor((stop - 1 - length // 2) * kept / length) + kept // 2
    return (0 if start == 0 else int(first)), (kept if stop == length else int(last) + 1)
