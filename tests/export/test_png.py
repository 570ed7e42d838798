from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from mrirecon.acquisition.geometry import patient_side
from mrirecon.errors import ResourceError
from mrirecon.export.png import LONGEST_SIDE, PANEL, central_slices, edge_letters, preview


def pixels(path: Path) -> NDArray[np.uint8]:
    """RGB of a picture (y, x, 3)."""
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))


def is_yellow(picture: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Where the letters are."""
    return picture[..., 0].astype(int) - picture[..., 2] > 128


def square(path: Path, values: list[float], size: int = 16) -> NDArray[np.uint8]:
    """The preview of constant images, in which the text is all that is not flat."""
    preview(path, [("", np.full((size, size), value)) for value in values])
    return pixels(path)


@pytest.mark.parametrize(
    ("count", "shown"), [(1, [0]), (4, [0, 1, 2, 3]), (9, list(range(9))), (20, list(range(5, 14)))]
)
def test_at_most_nine_slices_from_the_middle_are_shown(count: int, shown: list[int]) -> None:
    assert list(central_slices(count)) == shown


def test_panels_fill_rows_of_three_from_the_left_in_one_window(tmp_path: Path) -> None:
    values = np.arange(1.0, 8.0)
    picture = square(tmp_path / "out.png", values.tolist())
    white = np.percentile(values.repeat(16 * 16), 99.5)
    middles = picture[PANEL // 2 :: picture.shape[0] // 3, PANEL // 2 :: picture.shape[1] // 3, 0][:3, :3]
    expected = np.zeros(9)
    expected[:7] = np.rint(255 * np.minimum(values / white, 1))
    assert middles.shape == (3, 3)
    assert middles.ravel().tolist() == expected.tolist()
    assert [p.name for p in tmp_path.iterdir()] == ["out.png"]


def test_a_panel_shows_the_image_upright_and_windowed_from_zero(tmp_path: Path) -> None:
    image = np.zeros((PANEL, PANEL), np.float32)  # shown pixel by pixel
    image[100, 300] = 1.0
    image[200:, :200] = 4.0  # white: more than half a percent of all pixels
    preview(tmp_path / "out.png", [("", image)])
    picture = pixels(tmp_path / "out.png")[26:-26, :, 0]  # without text
    (top,), (left,) = (np.flatnonzero((picture == 64).any(axis=axis)) for axis in (1, 0))
    shown = picture[top - 100 :, left - 300 :][:PANEL, :PANEL]
    assert np.array_equal(shown, np.rint(255 * image / 4))


@pytest.mark.parametrize("value", [0.0, 3.0])
def test_a_constant_image_is_black_or_white(tmp_path: Path, value: float) -> None:
    picture = square(tmp_path / "out.png", [value])
    assert (picture[50:350, 50:350] == (255 if value else 0)).all()


@pytest.mark.parametrize("shape", [(1, 1), (8, 8), (1, 4000), (4000, 1), (16, 640), (640, 16)])
def test_tiny_and_elongated_images_get_a_picture_of_sensible_size(
    tmp_path: Path, make_geometry, shape: tuple[int, int]
) -> None:
    preview(tmp_path / "out.png", [("slice 0", np.ones(shape))], make_geometry())
    picture = pixels(tmp_path / "out.png")
    assert min(picture.shape[:2]) > 100
    assert PANEL <= max(picture.shape[:2]) <= LONGEST_SIDE + 100
    assert (picture == 255).all(axis=-1).any()
    assert is_yellow(picture).any()


def test_pixels_have_their_true_proportions(tmp_path: Path, make_geometry) -> None:
    geometry = replace(make_geometry(), pixel_mm=(2.0, 1.0))
    preview(tmp_path / "out.png", [("", np.ones((32, 32)))], geometry)
    white = (pixels(tmp_path / "out.png") == 255).all(axis=-1)
    rows, columns = (np.flatnonzero(white.any(axis=axis)) for axis in (1, 0))
    assert (np.ptp(rows) + 1, np.ptp(columns) + 1) == (PANEL, PANEL // 2)


def test_titles_and_letters_say_what_they_are_given(tmp_path: Path, make_geometry) -> None:
    image, geometry = np.zeros((16, 12)), make_geometry()
    turned = replace(geometry, x_direction=geometry.y_direction, y_direction=geometry.x_direction)
    pictures = []
    for title, where in (("slice 1", geometry), ("slice 2", geometry), ("slice 1", turned)):
        preview(tmp_path / "out.png", [(title, image)], where)
        pictures.append(pixels(tmp_path / "out.png"))
    first, other_title, other_letters = pictures
    title_rows = np.flatnonzero((first != other_title).any(axis=(1, 2)))
    letter_rows = np.flatnonzero((first != other_letters).any(axis=(1, 2)))
    assert len(title_rows) > 0
    assert title_rows.max() < 26  # above the panel
    assert len(letter_rows) > 0
    assert letter_rows.min() >= 26
    assert np.array_equal(is_yellow(first), is_yellow(other_title))


def test_what_it_is_not_for_stands_below_the_panels(tmp_path: Path) -> None:
    picture = square(tmp_path / "out.png", [0.0])
    assert picture[-26:].any()
    assert not picture[: PANEL // 2].any()  # an empty title is no text


def test_a_long_title_is_not_cut(tmp_path: Path) -> None:
    preview(tmp_path / "out.png", [("a title far wider than the panel " * 3, np.zeros((16, 16)))])
    title = pixels(tmp_path / "out.png")[:26].any(axis=(0, 2))
    assert title.sum() > PANEL
    assert not title[:2].any()
    assert not title[-2:].any()


def test_the_same_images_give_the_same_bytes_and_no_metadata(tmp_path: Path, make_geometry) -> None:
    panels = [("slice 0", np.random.default_rng(0).random((16, 12)))]
    for name in ("one.png", "two.png"):
        preview(tmp_path / name, panels, make_geometry())
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
    with Image.open(tmp_path / "one.png") as picture:
        picture.load()
        assert picture.info == {}


def test_a_preview_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ResourceError, match="cannot be written"):
        preview(tmp_path / "file" / "out.png", [("", np.ones((8, 8)))])
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    ("direction", "letter"),
    [((1, 0, 0), "L"), ((-1, 0, 0), "R"), ((0, 1, 0), "P"), ((0, -1, 0), "A"), ((0, 0, 1), "H"), ((0.6, 0, -0.8), "F")],
)
def test_the_nearest_side_of_the_patient_is_named(direction: tuple[float, float, float], letter: str) -> None:
    assert patient_side(direction) == letter


def test_letters_stand_at_the_edges_where_they_lead_to(make_geometry) -> None:
    # A transversal slice whose columns grow to the patient's left and whose rows grow to the back.
    assert edge_letters(make_geometry()) == {"left": "R", "right": "L", "top": "A", "bottom": "P"}


def test_letters_are_drawn_at_the_four_edges_and_only_where_geometry_is_known(tmp_path: Path, make_geometry) -> None:
    panels = [("slice 0", np.zeros((16, 16)))]
    preview(tmp_path / "unknown.png", panels)
    preview(tmp_path / "known.png", panels, make_geometry())
    yellow = is_yellow(pixels(tmp_path / "known.png"))
    height, width = yellow.shape
    for edge in (yellow[:60], yellow[-60:], yellow[:, :40], yellow[:, -40:]):
        assert edge.any()
    assert not yellow[60 : height - 60, 40 : width - 40].any()
    assert not is_yellow(pixels(tmp_path / "unknown.png")).any()


def test_letters_of_an_unproven_geometry_have_a_question_mark(make_geometry) -> None:
    letters = edge_letters(replace(make_geometry(), proven=False)).values()
    assert all(len(letter) == 2 and letter[1] == "?" for letter in letters)
