"""Training slices simulated on the fly from images: every example is a new scan of a random scanner."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from mrirecon.acquisition.scan import Axis, block_image
from mrirecon.data.batch import Slice
from mrirecon.data.images import ImageSource
from mrirecon.data.undersampling import Undersampling
from mrirecon.physics.fourier import fftc, ifftc
from mrirecon.simulation.coils import any_coil_maps, virtual_coils
from mrirecon.simulation.noise import coil_noise
from mrirecon.simulation.phase import rough_phase, smooth_phase


@dataclass(frozen=True)
class Scanner:
    """The ranges that simulated scans are drawn from.

    matrix: (readout, phase encodes) at most; each is drawn from `smallest` times that on. Images are cropped to it, or
    padded, before coils and mask are simulated. Which array axis is the readout is drawn too. coils: from, to, few
    being likelier (logarithmic). snr: from, to (logarithmic), mean tissue signal over the standard deviation of a
    coil's complex noise in the image.
    """

    matrix: tuple[int, int] = (96, 192)
    smallest: float = 1.0
    coils: tuple[int, int] = (4, 12)
    snr: tuple[float, float] = (10.0, 100.0)
    undersampling: Undersampling = field(default_factory=Undersampling)

    def scan(self, image: NDArray[np.float32], rng: np.random.Generator) -> Slice:
        """One slice of `image` with its mask. What the mask hides is free of noise.

        The best estimate of a noisy fully sampled image holds the noise of the measured samples, which is known, and
        not that of the others, which cannot be: a target without the latter has the same minimum and is steadier.
        """
        readout, phase = (int(rng.integers(round(self.smallest * n), n + 1)) for n in self.matrix)
        axis: Axis = "y" if rng.random() < 0.5 else "x"
        shape = (readout, phase) if axis == "y" else (phase, readout)
        image = lower_resolution(augment(image, rng), max(shape), rng)
        image = random_crop(image, wider(shape, axis, rng), rng)
        shading = np.exp(smooth_phase(image.shape, rng, rng.uniform(0, 1.2), cycles=1))
        tissue = image[image > 0.1]
        coils = round(np.exp(rng.uniform(*np.log(self.coils))))
        coil_images = image * shading / shading.mean() * np.exp(1j * rough_phase(image.shape, rng))
        coil_images = fold((coil_images * any_coil_maps(image.shape, coils, rng)).astype(np.complex64), shape)
        snr = np.exp(rng.uniform(*np.log(self.snr)))
        std = float(tissue.mean() if tissue.size else 1.0) / snr
        noise = coil_noise((coils, *shape), std, rng, correlation=rng.uniform(0, 0.45))
        mask = self.undersampling.mask(shape, axis, rng)
        kspace = fftc(torch.from_numpy(coil_images)) + torch.from_numpy(noise) * mask
        kspace = torch.from_numpy(virtual_coils(kspace.numpy(), rng))
        # A scan has one scale for all its slices, so a slice's own brightness varies around it.
        scale = float(np.percentile(block_image(kspace.numpy()), 99)) * np.exp(rng.normal(0, 0.2))
        return Slice(kspace / max(scale, 1e-12), mask[None])


class SimulatedSlices(Dataset[Slice]):
    """`length` simulated slices per epoch from random images; example i is a function of (seed, i) alone."""

    def __init__(self, sources: Sequence[ImageSource], scanner: Scanner, length: int, seed: int):
        self.sources = sources
        self.scanner = scanner
        self.length = length
        self.seed = seed

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Slice:
        rng = np.random.default_rng((self.seed, index))
        source = self.sources[int(rng.integers(len(self.sources)))]
        example = self.scanner.scan(source(rng), rng)
        return Slice(example.kspace, example.mask, volume=index)


def augment(image: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Random orientation and contrast: flips, a quarter turn, a gamma curve, sometimes inverted tissue contrast."""
    if rng.random() < 0.5:
        image = image.T
    image = image[:: rng.choice([-1, 1]), :: rng.choice([-1, 1])]
    image = image ** np.float32(rng.uniform(0.7, 1.4))
    if rng.random() < 0.05:
        image = np.where(image > 0.1, image.max() - image + 0.1, image)
    return np.ascontiguousarray(image, dtype=np.float32)


def lower_resolution(image: NDArray[np.float32], size: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """The image (y, x) as a scan with larger voxels would show it: the centre of its k-space, at times all of it.

    size: of the longer side that is wanted; an image is not made much smaller than that.
    """
    least = min(1.0, 0.85 * size / max(image.shape))
    share = np.exp(rng.uniform(np.log(least), 0.15))
    height, width = (round(n * min(1.0, share * rng.uniform(0.85, 1.15))) for n in image.shape)
    top, left = image.shape[0] // 2 - height // 2, image.shape[1] // 2 - width // 2
    centre = fftc(torch.from_numpy(image).to(torch.complex64))[top : top + height, left : left + width]
    return (ifftc(centre).abs() * (height * width / image.size) ** 0.5).numpy()


def wider(shape: tuple[int, int], readout_axis: Axis, rng: np.random.Generator) -> tuple[int, int]:
    """The field of view (y, x), at times a little longer along the phase encodes: what lies there will fold back."""
    if rng.random() < 0.8:
        return shape
    factor = rng.uniform(1, 1.2)
    return (shape[0], round(factor * shape[1])) if readout_axis == "y" else (round(factor * shape[0]), shape[1])


def fold(images: NDArray[np.complex64], shape: tuple[int, int]) -> NDArray[np.complex64]:
    """Coil images (coils, y, x) as a field of view (y, x) measures them: what is beyond one edge folds to the other."""
    for axis, n in zip((1, 2), shape, strict=True):
        if images.shape[axis] == n:
            continue
        start = (images.shape[axis] - n) // 2
        positions = (np.arange(images.shape[axis]) - start) % n
        inside = np.zeros((n, *np.delete(images.shape, axis)), dtype=np.complex64)
        np.add.at(inside, positions, np.moveaxis(images, axis, 0))
        images = np.moveaxis(inside, 0, axis)
    return images


def random_crop(image: NDArray[np.float32], shape: tuple[int, int], rng: np.random.Generator) -> NDArray[np.float32]:
    """A random part of the image (y, x) of that shape, padded with air where the image is smaller.

    Of three positions the one with the most signal is taken, so that few examples are empty.
    """
    short = [max(0, n - have) for n, have in zip(shape, image.shape, strict=True)]
    padded = np.pad(image, [(s // 2, s - s // 2) for s in short])
    crops = []
    for _ in range(3):
        top, left = (int(rng.integers(have - n + 1)) for n, have in zip(shape, padded.shape, strict=True))
        crops.append(padded[top : top + shape[0], left : left + shape[1]])
    return max(crops, key=lambda crop: float(crop.sum()))
