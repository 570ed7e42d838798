"""From images to the k-space that an array of coils would have measured.

    y_c = F (S_c · exp(i φ) · x) + n_c

Coil maps S and noise statistics are one for the stack; the background phase φ changes steadily through it.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from mrirecon.errors import UsageError
from mrirecon.simulation.coils import coil_maps
from mrirecon.simulation.noise import coil_noise
from mrirecon.simulation.phase import smooth_phase

#: The object of an image: where it is brighter than this share of its 99th percentile.
OBJECT_LEVEL = 0.1


def simulate_slices(
    images: NDArray[np.float32] | NDArray[np.complex64], coils: int, snr: float, seed: int
) -> Iterator[NDArray[np.complex64]]:
    """Fully sampled, centred k-space (coils, y, x) of each of `images` (slices, y, x), real or complex.

    Complex images keep their phase; others get a smooth one. snr: mean of |image| over the object in all slices (see
    OBJECT_LEVEL) divided by the standard deviation sqrt(E|n|²) of each coil's complex noise in the image. As Σ|S|² = 1,
    that is the SNR of the coil-combined image, but for the small correlation between coils. Infinity means no noise.
    Raises UsageError if coils < 1, snr <= 0 or an image is empty or not finite.
    """
    if coils < 1 or not snr > 0:
        raise UsageError(f"{coils} coils at an SNR of {snr}: both must be positive.")
    magnitude = np.abs(images)
    if not magnitude.any() or not np.isfinite(magnitude).all():
        raise UsageError("the images are empty or hold NaN; there is nothing to simulate from.")
    return _simulate(images, coils, object_mean(magnitude) / snr, np.random.default_rng((seed, 2)))


def simulate_scan(
    images: NDArray[np.float32] | NDArray[np.complex64], coils: int, snr: float, seed: int
) -> tuple[NDArray[np.complex64], NDArray[np.float32]]:
    """K-space (slices, coils, y, x) and target (slices, y, x) of a whole stack; see `simulate_slices`.

    The target is the root-sum-of-squares image of that k-space, noise included, as in fastMRI's files.
    """
    kspace = np.stack(list(simulate_slices(images, coils, snr, seed)))
    return kspace, root_sum_of_squares(kspace)


def object_mean(magnitude: NDArray[np.floating]) -> float:
    """Mean magnitude over the object, of images that are not zero everywhere."""
    return float(magnitude[magnitude >= OBJECT_LEVEL * np.percentile(magnitude, 99)].mean(dtype=np.float64))


def root_sum_of_squares(kspace: NDArray[np.complex64]) -> NDArray[np.float32]:
    """Magnitude image (..., y, x) of fully sampled k-space (..., coils, y, x)."""
    import torch

    from mrirecon.physics.fourier import ifftc

    return ifftc(torch.from_numpy(kspace)).abs().square().sum(dim=-3).sqrt().numpy()


def _simulate(
    images: NDArray[np.float32] | NDArray[np.complex64], coils: int, noise_std: float, rng: np.random.Generator
) -> Iterator[NDArray[np.complex64]]:
    import torch

    from mrirecon.physics.fourier import fftc

    slices, *shape = images.shape
    height, width = shape
    maps = coil_maps((height, width), coils, rng)
    first, last = (smooth_phase((height, width), rng) for _ in range(2))
    for index, image in enumerate(images):
        position = index / max(slices - 1, 1)
        phase = 0 if np.iscomplexobj(image) else (1 - position) * first + position * last
        coil_images = maps * (image * np.exp(1j * phase)).astype(np.complex64)
        yield fftc(torch.from_numpy(coil_images)).numpy() + coil_noise((coils, height, width), noise_std, rng)
