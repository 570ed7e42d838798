"""Thermal noise of a coil array."""

import numpy as np
from numpy.typing import NDArray


def coil_noise(
    shape: tuple[int, ...], std: float, rng: np.random.Generator, correlation: float = 0.15
) -> NDArray[np.complex64]:
    """Complex Gaussian noise, complex64 (coils, ...) for k-space of that shape, correlated between neighbouring coils.

    std: standard deviation of the complex noise of each coil, sqrt(E|n|²), in k-space units. correlation: coefficient
    between neighbours on the ring; it falls off geometrically with their distance.
    """
    coils = shape[0]
    index = np.arange(coils)
    separation = np.abs(index[:, None] - index)
    separation = np.minimum(separation, coils - separation)
    # A circulant matrix with geometric fall-off is positive definite for coefficients below one half.
    mixing = np.linalg.cholesky(correlation ** separation.astype(float)).astype(np.float32)
    white = rng.standard_normal((*shape, 2), dtype=np.float32).view(np.complex64)[..., 0]
    return np.tensordot(mixing, white * np.float32(std / np.sqrt(2)), axes=1).astype(np.complex64)
