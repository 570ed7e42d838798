from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from mrirecon.export.png import central_slices, edge_letters, patient_side, preview


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


@pytest.mark.parametrize(
    ("direction", "letter"),
    [((1, 0, 0), "L"), ((-1, 0, 0), "R"), ((0, 1, 0), "P"), ((0, -1, 0), "A"), ((0, 0, 1), "H"), ((0.6, 0, -0.8), "F")],
)
def test_the_nearest_side_of_the_patient_is_named(direction: tuple[float, float, float], letter: str) -> None:
    assert patient_side(direction) == letter


def test_letters_stand_at_the_edges_where_they_lead_to(make_geometry) -> None:
    letters = edge_letters(make_geometry())
    left, right = min(letters), max(letters)
    bottom, top = (position for position in sorted(letters, key=lambda p: p[1]) if position[0] == 0.5)
    # A transversal slice whose columns grow to the patient's left and whose rows grow to the back.
    assert [letters[p] for p in (left, right, top, bottom)] == ["R", "L", "A", "P"]


def test_letters_are_drawn_only_where_geometry_is_known(tmp_path: Path, make_geometry) -> None:
    panels = [("slice 0", np.zeros((16, 12)))]
    preview(tmp_path / "unknown.png", panels)
    preview(tmp_path / "known.png", panels, make_geometry())
    unknown, known = (imread(tmp_path / name)[..., :3] for name in ("unknown.png", "known.png"))
    yellow = known[..., 0] - known[..., 2] > 0.5
    assert yellow.any()
    assert not (unknown[..., 0] - unknown[..., 2] > 0.5).any()


def test_letters_of_an_unproven_geometry_have_a_question_mark(make_geometry) -> None:
    letters = edge_letters(replace(make_geometry(), proven=False)).values()
    assert all(len(letter) == 2 and letter[1] == "?" for letter in letters)
