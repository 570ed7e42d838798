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
from mrirecon.physics.fourier import fftc
from mrirecon.simulation.coils import coil_maps
from mrirecon.simulation.noise import coil_noise
from mrirecon.simulation.phase import smooth_phase


@dataclass(frozen=True)
class Scanner:
    """The ranges that simulated scans are drawn from, uniformly unless stated.

    matrix: (readout, phase encodes); images are cropped to it, or padded, before coils and mask are simulated. Which
    array axis is the readout is drawn too. coils: from, to. snr: from, to (logarithmic), mean tissue signal over the
    standard deviation of a coil's complex noise in the image.
    """

    matrix: tuple[int, int] = (96, 192)
    coils: tuple[int, int] = (4, 12)
    snr: tuple[float, float] = (10.0, 100.0)
    undersampling: Undersampling = field(default_factory=Undersampling)

    def scan(self, image: NDArray[np.float32], rng: np.random.Generator) -> Slice:
        """One fully sampled slice of `image` with its mask."""
        readout, phase = self.matrix
        axis: Axis = "y" if rng.random() < 0.5 else "x"
        shape = (readout, phase) if axis == "y" else (phase, readout)
        image = random_crop(augment(image, rng), shape, rng)
        tissue = image[image > 0.1]
        coils = int(rng.integers(self.coils[0], self.coils[1] + 1))
        coil_images = image * np.exp(1j * smooth_phase(shape, rng, amplitude=rng.uniform(0, np.pi)))
        coil_images = (coil_images * coil_maps(shape, coils, rng)).astype(np.complex64)
        snr = np.exp(rng.uniform(*np.log(self.snr)))
        noise = coil_noise((coils, *shape), float(tissue.mean() if tissue.size else 1.0) / snr, rng)
        kspace = fftc(torch.from_numpy(coil_images)) + torch.from_numpy(noise)
        # A scan has one scale for all its slices, so a slice's own brightness varies around it.
        scale = float(np.percentile(block_image(kspace.numpy()), 99)) * np.exp(rng.normal(0, 0.2))
        return Slice(kspace / max(scale, 1e-12), self.undersampling.mask(shape, axis, rng)[None])


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
    if rng.random() < 0.15:
        image = np.where(image > 0.1, image.max() - image + 0.1, image)
    return np.ascontiguousarray(image, dtype=np.float32)


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
