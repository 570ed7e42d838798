"""Smooth random functions of space: the same function at any resolution, evaluated quickly on image grids."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]

#: Lattices cover this box around the origin, in mm: any field of view, all levels of the head. Beyond it noise is 0.
REACH_MM, REACH_Z_MM = 200.0, 100.0


class SmoothNoise:
    """Band-limited Gaussian noise of unit standard deviation in 3D: cubic B-splines on a lattice of random numbers.

    Structures are about `wavelength_mm` apart. Separable, so a slice costs two small matrix products.
    """

    def __init__(self, rng: np.random.Generator, wavelength_mm: float):
        self._knots = np.arange(-REACH_MM, REACH_MM, wavelength_mm / 3, dtype=np.float32)
        self._levels = np.arange(-REACH_Z_MM, REACH_Z_MM, wavelength_mm / 3, dtype=np.float32)
        size = len(self._levels), len(self._knots), len(self._knots)
        # The squared spline weights sum to 0.479 per axis on average.
        self._lattice = rng.standard_normal(size, dtype=np.float32) / np.float32(0.479**1.5)

    def __call__(self, y: Array, x: Array, z: float) -> Array:
        """Values at rows y, columns x (both 1D, mm) and level z: float32 (y, x)."""
        weights = _spline_weights(np.array([z], dtype=np.float32), self._levels)[0]
        near = np.flatnonzero(weights)
        plane = np.tensordot(weights[near], self._lattice[near], axes=1)
        return _spline_weights(y, self._knots) @ plane @ _spline_weights(x, self._knots).T


def _spline_weights(position: Array, knots: Array) -> Array:
    """Cubic B-spline weights (positions, knots)."""
    distance = np.abs(position[:, None] - knots) / (knots[1] - knots[0])
    inner = 2 / 3 - distance**2 + distance**3 / 2
    outer = np.clip(2 - distance, 0, None) ** 3 / 6
    return np.where(distance < 1, inner, outer)


@dataclass(frozen=True)
class Waves:
    """A sum of plane waves with random directions and phases: noise that can be evaluated at scattered points."""

    vectors: Array
    phases: Array

    @classmethod
    def draw(cls, rng: np.random.Generator, count: int, wavelengths_mm: tuple[float, float], flatten: float) -> "Waves":
        """`count` waves; z components of the wave vectors are shrunk by `flatten`, so that structures stand upright."""
        directions = rng.standard_normal((count, 3))
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        vectors = 2 * np.pi / rng.uniform(*wavelengths_mm, size=(count, 1)) * directions * [1, 1, flatten]
        return cls(vectors.astype(np.float32), rng.uniform(0, 2 * np.pi, count).astype(np.float32))

    def __call__(self, x: Array, y: Array, z: Array) -> Array:
        """Values at points (x, y, z), arrays of one shape; unit standard deviation."""
        total = np.zeros_like(x)
        for (kx, ky, kz), phase in zip(self.vectors, self.phases, strict=True):
            total += np.cos(kx * x + ky * y + (kz * z + phase))
        return total * np.float32((2 / len(self.phases)) ** 0.5)


def nodal_distance(values: Array, spacing_mm: float, steepness_floor: float = 0.0) -> Array:
    """First-order distance in mm to the zero set of a 2D field; where it is flat, the floor (1/mm) bounds it."""
    slope_y, slope_x = np.gradient(values, spacing_mm)
    return np.abs(values) / np.sqrt(slope_y**2 + slope_x**2 + np.float32(steepness_floor**2 + 1e-12))
