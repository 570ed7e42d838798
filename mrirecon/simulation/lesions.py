"""Lesions as in multiple sclerosis: small blobs in white matter, around the ventricles and under the cortex."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mrirecon.simulation.tissues import Tissue

if TYPE_CHECKING:
    from mrirecon.simulation.anatomy import Head

Array = NDArray[np.floating]

#: Diameters in mm, drawn evenly on a logarithmic scale: most lesions are small.
DIAMETERS_MM = (3.0, 12.0)
#: Share of lesions that touch the ventricles; those are longer across the ventricle's wall (Dawson's fingers).
PERIVENTRICULAR = 0.5
#: Grid on which centres are chosen.
SEARCH_PIXEL_MM = 1.5


@dataclass(frozen=True)
class Lesion:
    """Centre (x, y, z) in mm, semi-axes (across, anterior-posterior, up) in mm."""

    centre: tuple[float, float, float]
    semi_axes: tuple[float, float, float]


def place_lesions(head: "Head", levels: Array, count: int, rng: np.random.Generator) -> list[Lesion]:
    """`count` lesions in the white matter of the head, each centred in one of the slices at `levels` (mm)."""
    x = np.arange(-80, 80, SEARCH_PIXEL_MM, dtype=np.float32)
    y = np.arange(100, -100, -SEARCH_PIXEL_MM, dtype=np.float32)
    lesions = []
    for level in rng.choice(levels, size=count):
        z = float(level)
        white = head.fractions(y, x, z)[Tissue.WHITE]
        near_ventricle = np.exp(-np.clip(-head.ventricle_distance(y, x, z), 0, None) / 3)
        periventricular = rng.random() < PERIVENTRICULAR and near_ventricle.max() > 0.5
        # Other lesions lie anywhere in white matter; most of that is near the cortex.
        weight = white**4 * (near_ventricle**2 if periventricular else 1.02 - near_ventricle)
        row, column = np.unravel_index(rng.choice(weight.size, p=weight.ravel() / weight.sum()), weight.shape)
        radius = np.exp(rng.uniform(*np.log(DIAMETERS_MM))) / 2
        stretch = 1.4 if periventricular else rng.uniform(0.8, 1.2)
        lesions.append(Lesion((float(x[column]), float(y[row]), z), (radius * stretch, radius, radius)))
    return lesions
