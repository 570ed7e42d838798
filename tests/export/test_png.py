from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from mrirecon.export.png import central_slices, preview


@pytest.mark.parametrize(
    ("count", "shown"), [(1, [0]), (4, [0, 1, 2, 3]), (9, list(range(9))), (20, list(range(5, 14)))]
)
def test_at_most_nine_slices_from_the_middle_are_shown(count: int, shown: list[int]) -> None:
    assert list(central_slices(count)) == shown


@pytest.mark.parametrize("count", [1, 2, 5, 9])
def test_a_preview_shows_every_panel(tmp_path: Path, count: int) -> None:
    panels = [(f"slice {i}", np.full((16, 12), 1.0 + i)) for i in range(count)]
    preview(tmp_path / "out.png", panels)
    picture = imread(tmp_path / "out.png")[..., 0]
    greys = [(1 + i) / np.percentile([1 + i for i in range(count)], 99.5) for i in range(count)]
    for grey in greys:
        assert (np.abs(picture - min(grey, 1)) < 0.01).mean() > 0.02
    assert [p.name for p in tmp_path.iterdir()] == ["out.png"]


def test_an_empty_scan_gives_a_black_picture(tmp_path: Path) -> None:
    preview(tmp_path / "out.png", [("slice 0", np.zeros((16, 12)))])
    assert imread(tmp_path / "out.png")[..., :3].mean() < 0.1
