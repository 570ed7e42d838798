"""Variable-density Poisson-disc sampling on the k-space grid, in bounded time.

Points are visited in random order; each one that is taken keeps later ones away by a radius that grows linearly with
the distance from the centre of k-space, so that any two samples p, q obey

    |p - q| ≥ min(radius(p), radius(q)),    radius(k) = slope · (CENTRE_SHARE + ρ(k)),

with |·| in samples and ρ = 1 in the middle of each edge. Where the radius is at most 1 everything is sampled, so the
slope alone reaches any acceleration.
"""

import math

import numpy as np
from numpy.typing import NDArray

#: The radius in the centre as a share of its growth up to the edge. 0.2 gives the density of SigPy's masks.
CENTRE_SHARE = 0.2
#: Samples per radius² of a random packing on the grid that has no room left (in the plane, 0.547 · 4/π). Only a first
#: guess: the real number is counted.
PACKING = 0.59
#: More samples than asked for, as a share, that may be thinned out at random.
SURPLUS = 0.04
MAX_PASSES = 12


def poisson_disc(
    candidates: NDArray[np.bool_], count: int, rng: np.random.RandomState
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Exactly `count` of the candidates, as a mask (y, x), and the radius (y, x) in samples that keeps them apart.

    The slope is bisected for the steepest that leaves room for `count` samples; the few too many are dropped at random.
    Needs 0 ≤ count ≤ candidates.sum().
    """
    distance = CENTRE_SHARE + centre_distance(candidates.shape)
    order = rng.permutation(np.flatnonzero(candidates))
    best, best_slope = order, 0.0  # slope 0 keeps none apart: room for all
    low, high = 0.0, math.inf
    aim = (1 + SURPLUS / 2) * count
    for _ in range(MAX_PASSES):
        slope = _slope_for(distance.ravel()[order], aim)
        if not low < slope < high:
            slope = (low + high) / 2 if high < math.inf else 2 * slope
        taken = _throw(order, distance * slope)
        if len(taken) < count:
            high = slope
        else:
            best, best_slope, low = taken, slope, slope
            if len(taken) <= (1 + SURPLUS) * count:
                break
        aim *= (1 + SURPLUS / 2) * count / len(taken)
    mask = np.zeros(candidates.size, dtype=bool)
    mask[rng.permutation(best)[:count]] = True
    return mask.reshape(candidates.shape), distance * best_slope


def centre_distance(shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Distance (y, x) of each sample from the centre (n // 2), 1 in the middle of each edge."""
    y, x = ((np.arange(n) - n // 2) / max(n / 2, 1) for n in shape)
    return np.hypot(y[:, None], x)


def _slope_for(distance: NDArray[np.float64], aim: float) -> float:
    """The slope at which the packing density promises `aim` samples."""
    low, high = 0.0, 1e4
    for _ in range(25):
        slope = (low + high) / 2
        promised = np.minimum(PACKING / np.maximum(slope * distance, 1e-9) ** 2, 1).sum()
        low, high = (slope, high) if promised > aim else (low, slope)
    return slope


def _throw(order: NDArray[np.int64], radius: NDArray[np.float64]) -> NDArray[np.int64]:
    """The flat indices taken when `order` is visited and each taken one blocks the open disc of its radius.

    A plain loop over a byte array: blocking is one slice assignment per row of the disc.
    """
    height, width = radius.shape
    # Squared distances on the grid are integers, so discs with equal ceil(radius²) hold the same points.
    limit = (height - 1) ** 2 + (width - 1) ** 2 + 1
    disc_of = np.minimum(np.ceil(radius**2 - 1e-9), limit).astype(int).ravel()
    dense = disc_of[order] <= 1  # blocks nothing but itself
    sparse = order[~dense]
    if not len(sparse):
        return order
    margin = math.isqrt(disc_of[sparse].max() - 1)
    stride = width + margin  # a row's right margin is the next row's left one
    y, x = np.divmod(sparse, width)
    discs = {disc: _disc_rows(disc, stride) for disc in np.unique(disc_of[sparse]).tolist()}
    blocked = bytearray((height + 2 * margin + 1) * stride)
    taken = []
    for index, point, disc in zip(
        sparse.tolist(), ((y + margin) * stride + x + margin).tolist(), disc_of[sparse].tolist(), strict=True
    ):
        if not blocked[point]:
            taken.append(index)
            for start, stop, ones in discs[disc]:
                blocked[point + start : point + stop] = ones
    return np.concatenate([order[dense], np.array(taken, dtype=order.dtype)])


def _disc_rows(disc: int, stride: int) -> list[tuple[int, int, bytes]]:
    """Rows of the open disc x² + y² < disc as flat (start, stop, ones) relative to its centre."""
    rows = []
    for y in range(-math.isqrt(disc - 1), math.isqrt(disc - 1) + 1):
        half = math.isqrt(disc - 1 - y * y)
        rows.append((y * stride - half, y * stride + half + 1, b"\1" * (2 * half + 1)))
    return rows
