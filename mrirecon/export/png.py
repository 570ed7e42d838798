"""Preview pictures of a reconstruction."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

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


def preview(path: Path, panels: Sequence[tuple[str, NDArray[np.floating]]]) -> None:
    """Write a PNG of up to nine titled magnitude images (y, x), all in one grey window: 0 to the 99.5th percentile.

    Raises ResourceError if `path` cannot be written.
    """
    from matplotlib.figure import Figure

    columns = min(math.ceil(math.sqrt(len(panels))), 3)
    rows = math.ceil(len(panels) / columns)
    brightest = np.percentile(np.concatenate([image.ravel() for _, image in panels]), WINDOW_PERCENTILE)
    figure = Figure(figsize=(3 * columns, 3 * rows + 0.5), layout="constrained", facecolor="black")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis in axes:
        axis.set_axis_off()
    for axis, (title, image) in zip(axes, panels, strict=False):
        axis.imshow(image, cmap="gray", vmin=0, vmax=brightest or 1)
        axis.set_title(title, color="white", fontsize=9)
    figure.supxlabel(FOOTER, color="0.7", fontsize=8)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=120)
