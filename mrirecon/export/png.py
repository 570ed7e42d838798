"""Preview pictures of a reconstruction."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mrirecon.acquisition.geometry import Geometry, Vector, patient_side
from mrirecon.atomic import atomic_path

FOOTER = "Research software, not a medical device"
#: More slices do not fit on one picture.
MOST_PANELS = 9
WINDOW_PERCENTILE = 99.5


def central_slices(count: int) -> range:
    """Indices of the (at most nine) central slices of `count`."""
    shown = min(count, MOST_PANELS)
    first = (count - shown) // 2
    return range(first, first + shown)


def edge_letters(geometry: Geometry) -> dict[tuple[float, float], str]:
    """(x, y) in a panel, from its lower left corner → the side of the patient there, with ? where that is unproven."""

    def opposite(direction: Vector) -> Vector:
        return -direction[0], -direction[1], -direction[2]

    # Columns grow to the right, rows downwards.
    right, down = geometry.x_direction, geometry.y_direction
    directions = {(0.97, 0.5): right, (0.03, 0.5): opposite(right), (0.5, 0.03): down, (0.5, 0.97): opposite(down)}
    doubt = "" if geometry.proven else "?"
    return {place: patient_side(direction) + doubt for place, direction in directions.items()}


def preview(path: Path, panels: Sequence[tuple[str, NDArray[np.floating]]], geometry: Geometry | None = None) -> None:
    """Write a PNG of up to nine titled magnitude images (y, x), all in one grey window: 0 to the 99.5th percentile.

    With a geometry, pixels have their true proportions, and letters at the edges say which side of the patient lies
    there (of an oblique slice, the nearest).
    Raises ResourceError if `path` cannot be written.
    """
    from matplotlib.figure import Figure
    from matplotlib.patheffects import withStroke

    columns = min(math.ceil(math.sqrt(len(panels))), 3)
    rows = math.ceil(len(panels) / columns)
    brightest = np.percentile(np.concatenate([image.ravel() for _, image in panels]), WINDOW_PERCENTILE)
    figure = Figure(figsize=(3 * columns, 3 * rows + 0.5), layout="constrained", facecolor="black")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis in axes:
        axis.set_axis_off()
    for axis, (title, image) in zip(axes, panels, strict=False):
        aspect = geometry.pixel_mm[0] / geometry.pixel_mm[1] if geometry else 1
        axis.imshow(image, cmap="gray", vmin=0, vmax=brightest or 1, aspect=aspect)
        axis.set_title(title, color="white", fontsize=9)
        for (x, y), letter in (edge_letters(geometry) if geometry else {}).items():
            text = axis.text(x, y, letter, color="yellow", fontsize=9, ha="center", va="center")
            text.set(transform=axis.transAxes, path_effects=[withStroke(linewidth=2, foreground="black")])
    figure.supxlabel(FOOTER, color="0.7", fontsize=8)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=120)
