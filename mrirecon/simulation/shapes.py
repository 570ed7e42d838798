"""Signed distances in mm, positive inside, to the few shapes that anatomy is built of; all on arrays of coordinates."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]


def cover(distance: Array, pixel_mm: float) -> Array:
    """Share of a pixel that lies inside, from the signed distance of its centre."""
    return np.clip(0.5 + distance / np.float32(pixel_mm), 0, 1)


def smooth_minimum(a: Array, b: Array, radius_mm: float) -> Array:
    """min(a, b) with the corner rounded by `radius_mm`."""
    share = np.clip(0.5 + 0.5 * (b - a) / np.float32(radius_mm), 0, 1)
    return b + share * (a - b) - radius_mm * share * (1 - share)


def tube(points: Sequence[Sequence[float] | Array], x: Array, y: Array, z: float) -> Array:
    """A chain of conical pieces through `points` (x, y, z, radius)."""
    distance = np.full_like(x, -np.inf)
    for (x0, y0, z0, r0), (x1, y1, z1, r1) in pairwise(points):
        dx, dy, dz = x1 - x0, y1 - y0, z1 - z0
        along = ((x - x0) * dx + (y - y0) * dy + (z - z0) * dz) / (dx**2 + dy**2 + dz**2 + 1e-9)
        along = np.clip(along, 0, 1)
        away = np.sqrt((x - x0 - along * dx) ** 2 + (y - y0 - along * dy) ** 2 + (z - z0 - along * dz) ** 2)
        distance = np.maximum(distance, r0 + along * (r1 - r0) - away)
    return distance


def polyline_distance(points: Sequence[tuple[float, float]], x: Array, y: Array) -> Array:
    """Unsigned distance to a polyline in the axial plane."""
    return -tube([(px, py, 0.0, 0.0) for px, py in points], x, y, 0.0)


def ellipsoid(
    shape: tuple[tuple[float, float, float], tuple[float, float, float], float], x: Array, y: Array, z: float
) -> Array:
    """An ellipsoid: centre, semi-axes (across, along, up), turn in degrees of the anterior end towards x = 0."""
    (cx, cy, cz), (across, along, up), turn = shape
    cosine, sine = np.cos(np.deg2rad(turn)), np.sin(np.deg2rad(turn))
    u = (cosine * (x - cx) + sine * (y - cy)) / across
    v = (cosine * (y - cy) - sine * (x - cx)) / along
    w = (z - cz) / up
    radius = np.sqrt(u**2 + v**2 + w**2) + 1e-6
    steepness = np.sqrt((u / across) ** 2 + (v / along) ** 2 + (w / up) ** 2) + 1e-6
    return radius * (1 - radius) / steepness
