"""Smooth complex coil sensitivities of a receive array around the head, from the field of small current loops."""

import numpy as np
from numpy.typing import NDArray


def coil_maps(shape: tuple[int, int], coils: int, rng: np.random.Generator) -> NDArray[np.complex64]:
    """Random array of `coils` loops on a ring around the field of view: complex64 (coils, y, x), Σ|S|² = 1.

    Each loop is a magnetic dipole pointing at the object (law of Biot and Savart far from the loop, softened by the
    loop's radius); its sensitivity is the transverse field B_x - i B_y. Positions, heights, gains and phases vary.
    """
    y, x = np.meshgrid(*(np.linspace(-1, 1, n, dtype=np.float32) for n in shape), indexing="ij")
    turn = rng.uniform(0, 2 * np.pi)
    maps = np.empty((coils, *shape), dtype=np.complex64)
    distance = rng.uniform(1.1, 1.7)
    loop_radius = rng.uniform(0.35, 0.8)
    for index in range(coils):
        angle = turn + 2 * np.pi * (index + rng.uniform(-0.25, 0.25)) / coils
        radius = distance * rng.uniform(0.9, 1.1)
        centre_x, centre_y = radius * np.cos(angle), radius * np.sin(angle)
        height = rng.uniform(-0.5, 0.5)
        direction = -np.array([np.cos(angle), np.sin(angle), height / radius])
        direction /= np.linalg.norm(direction)
        dx, dy, dz = x - centre_x, y - centre_y, -height
        r2 = dx**2 + dy**2 + dz**2 + loop_radius**2
        along = (direction[0] * dx + direction[1] * dy + direction[2] * dz) / r2
        field = (3 * along * dx - direction[0]) - 1j * (3 * along * dy - direction[1])
        gain = rng.uniform(0.7, 1.3) * np.exp(1j * rng.uniform(0, 2 * np.pi))
        maps[index] = gain * field / r2**1.5
    return maps / np.sqrt((np.abs(maps) ** 2).sum(axis=0, keepdims=True))
