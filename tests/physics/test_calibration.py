import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from mrirecon.physics.calibration import calibration_width


def block_is_full(mask: NDArray[np.bool_], rows: int, columns: int) -> bool:
    """Whether the block of that size about the centre fits into the mask and holds no hole."""
    (height, width), (top, left) = (
        mask.shape,
        (n // 2 - m // 2 for n, m in zip(mask.shape, (rows, columns), strict=True)),
    )
    return rows <= height and columns <= width and bool(mask[top : top + rows, left : left + columns].all())


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (8, 8), (9, 8), (8, 13), (13, 9)])
@pytest.mark.parametrize("density", [0.5, 0.95, 1.0])
def test_the_block_is_full_and_would_not_be_with_one_more_row_or_column(shape: tuple[int, int], density: float) -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        mask = rng.random(shape) < density
        size = rng.integers(0, np.array(shape) + 1)
        top, left = np.array(shape) // 2 - size // 2
        mask[top : top + size[0], left : left + size[1]] = True
        rows, columns = calibration_width(mask)
        assert (rows == 0) == (columns == 0) == (not mask[shape[0] // 2, shape[1] // 2])
        if rows:
            assert block_is_full(mask, rows, columns)
            assert not block_is_full(mask, rows + 1, columns)
            assert not block_is_full(mask, rows, columns + 1)
        square = max(side for side in range(min(shape) + 1) if block_is_full(mask, side, side))
        assert min(rows, columns) == square


def test_tensors_and_arrays_are_looked_at_alike() -> None:
    mask = np.random.default_rng(1).random((12, 15)) < 0.9
    mask[4:9, 5:10] = True
    assert calibration_width(torch.from_numpy(mask)) == calibration_width(mask) != (0, 0)


def test_lines_give_all_rows() -> None:
    mask = np.zeros((10, 24), bool)
    mask[:, 8:16] = True
    assert calibration_width(mask) == (10, 8)
