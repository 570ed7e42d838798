"""The fully sampled centre of k-space, from which coil maps are estimated."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor


def calibration_width(mask: "Tensor | NDArray[np.bool_]") -> tuple[int, int]:
    """(rows, columns) of the largest fully sampled block around the centre of a bool mask (y, x); (0, 0) if none.

    A square grows first, then its rows and its columns, so that line masks give (all rows, ACS lines).
    """
    holes = ~(mask if isinstance(mask, np.ndarray) else mask.cpu().numpy())
    height, width = holes.shape
    # How many rows, and columns, a central block must have to reach each of them; it is as large as it can be without
    # reaching a hole.
    rows_to, columns_to = _reach(height), _reach(width)
    side = np.maximum.outer(rows_to, columns_to)[holes].min(initial=min(height, width) + 1) - 1
    if side == 0:
        return 0, 0
    rows = rows_to[holes[:, columns_to <= side].any(axis=1)].min(initial=height + 1) - 1
    columns = columns_to[holes[rows_to <= rows].any(axis=0)].min(initial=width + 1) - 1
    return int(rows), int(columns)


def _reach(count: int) -> NDArray[np.int64]:
    """Size of the smallest block about the centre n // 2 that holds each of `count` positions."""
    offset = np.arange(count) - count // 2
    return np.where(offset >= 0, 2 * offset + 1, -2 * offset)
