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
    frequency = np.arange(-cycles, cycles + 1)
    # Amplitudes fall with frequency, as fields of distant sources do.
    decay = 1 / (1 + frequency[:, None] ** 2 + frequency**2)
    amplitudes = rng.standard_normal((*decay.shape, 2)) @ [1, 1j]
    spectrum[np.ix_(frequency % shape[0], frequency % shape[1])] = decay * amplitudes
    wave = np.fft.ifft2(spectrum).real
    wave *= amplitude / 3 / wave.std()
    ramp_y, ramp_x = rng.normal(0, amplitude / 3, size=2)
    return (rng.uniform(-np.pi, np.pi) + ramp_y * y + ramp_x * x + wave).astype(np.float32)


def rough_phase(shape: tuple[int, int], rng: np.random.Generator) -> NDArray[np.float32]:
    """Random phase in radians, float32 (y, x), as met in practice: smooth, with rough regions and off-centre echoes.

    Rough regions are those of fast susceptibility changes, flow and fat. An echo up to two samples off the centre of
    k-space makes a ramp of as many turns.
    """
    y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    phase = smooth_phase(shape, rng, rng.uniform(0, 1.5 * np.pi), cycles=int(rng.integers(1, 5)))
    if rng.random() < 0.5:
        offset_y, offset_x = rng.uniform(-2, 2, size=2)
        phase += (np.pi * (offset_y * y + offset_x * x)).astype(np.float32)
    if rng.random() < 0.5:
        where = smooth_phase(shape, rng, 3.0, cycles=3)
        region = 1 / (1 + np.exp(4 - 4 * np.abs(where - where.mean())))
        fine = smooth_phase(shape, rng, rng.uniform(0, np.pi), cycles=int(rng.integers(6, 16)))
        phase += (region * fine).astype(np.float32)
    return phase
