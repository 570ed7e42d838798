"""Background phase of gradient-echo and spin-echo images: field inhomogeneity, eddy currents, coil phase residue."""

import numpy as np
from numpy.typing import NDArray


def smooth_phase(
    shape: tuple[int, int], rng: np.random.Generator, amplitude: float = np.pi, cycles: int = 3
) -> NDArray[np.float32]:
    """Random phase in radians, float32 (y, x): a linear ramp plus band-limited noise up to `cycles` per field of view.

    The band-limited part has a standard deviation of amplitude / 3; more cycles make a rougher phase.
    """
    y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    spectrum = np.zeros(shape, dtype=complex)
    for ky in range(-cycles, cycles + 1):
        for kx in range(-cycles, cycles + 1):
            # Amplitudes fall with frequency, as fields of distant sources do.
            decay = 1 / (1 + ky**2 + kx**2)
            spectrum[ky % shape[0], kx % shape[1]] = decay * (rng.standard_normal() + 1j * rng.standard_normal())
    wave = np.fft.ifft2(spectrum).real
    wave *= amplitude / 3 / wave.std()
    ramp_y, ramp_x = rng.normal(0, amplitude / 3, size=2)
    return (rng.uniform(-np.pi, np.pi) + ramp_y * y + ramp_x * x + wave).astype(np.float32)
