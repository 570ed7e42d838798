"""Smooth complex coil sensitivities of receive arrays, from the fields of small current loops."""

import numpy as np
from numpy.typing import NDArray


def coil_maps(shape: tuple[int, int], coils: int, rng: np.random.Generator) -> NDArray[np.complex64]:
    """Random array of `coils` loops on a ring around the field of view: complex64 (coils, y, x), Σ|S|² = 1."""
    turn = rng.uniform(0, 2 * np.pi)
    distance = rng.uniform(1.1, 1.7)
    loop_radius = rng.uniform(0.35, 0.8)
    maps = np.empty((coils, *shape), dtype=np.complex64)
    for index in range(coils):
        angle = turn + 2 * np.pi * (index + rng.uniform(-0.25, 0.25)) / coils
        radius = distance * rng.uniform(0.9, 1.1)
        maps[index] = loop_field(shape, angle, radius, rng.uniform(-0.5, 0.5), loop_radius)
        maps[index] *= rng.uniform(0.7, 1.3) * np.exp(1j * rng.uniform(0, 2 * np.pi))
    return maps / _length(maps)


def any_coil_maps(shape: tuple[int, int], coils: int, rng: np.random.Generator) -> NDArray[np.complex64]:
    """As `coil_maps`, of an array of any kind: a ring or an arc of it, near or far, loops small or large, in rows."""
    turn, arc = rng.uniform(0, 2 * np.pi), rng.choice([1.0, rng.uniform(0.3, 1.0)])
    distance, flattening = rng.uniform(1.05, 2.2), rng.uniform(0.75, 1.0)
    loop_radius = rng.uniform(0.25, 1.0)
    rows = int(rng.integers(1, 4))
    maps = np.empty((coils, *shape), dtype=np.complex64)
    for index in range(coils):
        angle = turn + 2 * np.pi * arc * (index + rng.uniform(-0.4, 0.4)) / coils
        radius = distance * rng.uniform(0.85, 1.15) * (1 - (1 - flattening) * np.cos(angle - turn) ** 2)
        height = 0.8 * (index % rows - (rows - 1) / 2) + rng.uniform(-0.4, 0.4)
        maps[index] = loop_field(shape, angle, radius, height, loop_radius * rng.uniform(0.8, 1.25))
        maps[index] *= rng.uniform(0.4, 1.6) * np.exp(1j * rng.uniform(0, 2 * np.pi))
    return maps / _length(maps)


def loop_field(
    shape: tuple[int, int], angle: float, radius: float, height: float, loop_radius: float
) -> NDArray[np.complex64]:
    """Sensitivity complex64 (y, x) of one loop that looks at the centre; the field of view reaches from -1 to 1.

    The loop, at polar coordinates (radius, angle) and `height` over the slice, is a magnetic dipole (law of Biot and
    Savart far from the loop, softened by the loop's radius); its sensitivity is the transverse field B_x - i B_y.
    """
    y, x = np.meshgrid(*(np.linspace(-1, 1, n, dtype=np.float32) for n in shape), indexing="ij")
    centre_x, centre_y = radius * np.cos(angle), radius * np.sin(angle)
    direction = -np.array([np.cos(angle), np.sin(angle), height / radius])
    direction /= np.linalg.norm(direction)
    along_x, along_y, along_z = map(float, direction)  # numpy's own scalars would make all of it double
    dx, dy, dz = x - float(centre_x), y - float(centre_y), -float(height)
    r2 = dx**2 + dy**2 + dz**2 + float(loop_radius) ** 2
    along = (along_x * dx + along_y * dy + along_z * dz) / r2
    field = (3 * along * dx - along_x) - 1j * (3 * along * dy - along_y)
    return (field / r2**1.5).astype(np.complex64)


def virtual_coils(kspace: NDArray[np.complex64], rng: np.random.Generator) -> NDArray[np.complex64]:
    """K-space (coils, y, x) as other software may have left it: often as measured, else with its coils combined anew.

    Combined by a random unitary matrix, or sorted into principal components, of which the weakest may be dropped.
    """
    coils = len(kspace)
    if coils == 1 or rng.random() < 0.5:
        return kspace
    if rng.random() < 0.5:
        mixing, _ = np.linalg.qr(rng.standard_normal((coils, coils)) + 1j * rng.standard_normal((coils, coils)))
    else:
        samples = kspace.reshape(coils, -1)
        _, components = np.linalg.eigh(samples @ samples.conj().T)
        kept = coils if rng.random() < 0.5 else int(rng.integers((coils + 1) // 2, coils + 1))
        mixing = components[:, ::-1][:, :kept].conj().T
    return np.tensordot(mixing.astype(np.complex64), kspace, axes=1)


def _length(maps: NDArray[np.complex64]) -> NDArray[np.float32]:
    return np.sqrt((np.abs(maps) ** 2).sum(axis=0, keepdims=True))
