from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from mrirecon.evaluation.evaluate import Evaluation, Example, Setting, evaluate
from mrirecon.evaluation.figures import REFERENCE, detail_box, panels
from mrirecon.evaluation.report import describe, write_results
from mrirecon.reconstruction.methods import method_by_name

METHODS = ["zero-filled", "cg-sense"]


@pytest.fixture(scope="module")
def example() -> Example:
    """Fully sampled disc with detail to the left; one method is twice as wrong as the other."""
    y, x = np.mgrid[:64, :64] - 32
    support = (y**2 + x**2) < 28**2
    reference = np.where(support, 1 + 0.3 * np.sin(2 * x) * (np.abs(x + 10) < 5), 0).astype(np.float32)
    images = {"good": reference + 0.05 * support, "bad": reference + 0.10 * support}
    return Example("a.h5", Setting("equispaced", 4), 3, reference, support, np.eye(64, dtype=bool), images, {})


def test_all_images_and_all_errors_share_one_scale(example: Example) -> None:
    tiles = panels(example)
    assert list(tiles.images) == [REFERENCE, "good", "bad"]
    good, bad = (tiles.errors[name][..., 0].astype(float) for name in ("good", "bad"))
    middle = tuple(n // 2 for n in good.shape)
    assert bad[middle] > good[middle] > 0
    # A flat patch of the reference at 1 and of the worse image at 1.1: brighter by the same window, not rescaled.
    grey = {name: float(np.atleast_1d(tile[middle])[0]) for name, tile in tiles.images.items()}
    assert grey["bad"] / grey[REFERENCE] == pytest.approx(1.1, abs=0.02)


def test_the_error_factor_brings_the_typical_error_just_under_white(example: Example) -> None:
    # Errors 0.05 and 0.10, the middle 0.075; white is about 1.3: a factor of 10 fits, the next (20) would not.
    assert panels(example).error_factor == 10


def test_identical_images_have_black_errors(example: Example) -> None:
    same = replace(example, images={"same": example.reference})
    error = panels(same).errors["same"]
    assert (error == error[0, 0]).all()


def test_the_detail_is_where_the_reference_has_structure(example: Example) -> None:
    rows, columns = detail_box(example.reference, example.support)
    assert (rows.stop - rows.start, columns.stop - columns.start) == (16, 16)
    assert columns.start < 32 - 10 < columns.stop


def test_a_slice_without_object_can_be_drawn(example: Example) -> None:
    black = np.zeros((64, 64), np.float32)
    tiles = panels(replace(example, reference=black, support=black > 0, images={"cs": black}))
    assert not tiles.images["cs"].any()


class Page(HTMLParser):
    """Collects the tags, the sources of images and the text of a page."""

    def __init__(self, html: str):
        super().__init__()
        self.tags: list[str] = []
        self.sources: list[str] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.sources += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture
def evaluation(write_scan) -> Evaluation:
    return evaluate([write_scan()], [method_by_name(name) for name in METHODS], [Setting("equispaced", 4, 12)])


def write(folder: Path, evaluation: Evaluation) -> list[Path]:
    methods = [method_by_name(name) for name in METHODS]
    return write_results(
        folder, evaluation, methods, title="A < B", lead=describe(evaluation), command="mrirecon evaluate 'a & b'"
    )


def test_all_results_are_written(evaluation: Evaluation, tmp_path: Path) -> None:
    written = write(tmp_path / "out", evaluation)
    names = [str(path.relative_to(tmp_path / "out")) for path in written]
    assert names == ["results.csv", "summary.md", "figures/equispaced_4x.png", "report.html"]
    assert all(path.stat().st_size for path in written)
    files = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert sorted(files) == sorted(written)  # nothing temporary is left
    assert written[2].read_bytes().startswith(b"\x89PNG")
    assert "| zero-filled |" in written[1].read_text()


def test_the_page_stands_alone_and_says_what_it_must(evaluation: Evaluation, tmp_path: Path) -> None:
    html = write(tmp_path, evaluation)[-1].read_text(encoding="utf-8")
    page = Page(html)
    assert page.sources
    assert all(source.startswith("data:image/webp;base64,") for source in page.sources)
    assert not {"script", "link", "iframe"} & set(page.tags)
    assert page.tags.count("img") == 3 * (1 + len(METHODS))
    for text in ("A < B", "mrirecon evaluate 'a & b'", "Research software, not a medical device.", "Simulated data"):
        assert text in page.text
    for row in evaluation.rows:
        assert f"SSIM {row.ssim:.3f}" in page.text
    assert f"{evaluation.rows[0].acceleration:.2f}×" in page.text
    assert "simulated" in describe(evaluation)
    assert "torch" in page.text


def test_failures_are_on_the_page_before_the_pictures(evaluation: Evaluation, tmp_path: Path) -> None:
    evaluation.failures[Path("c.h5")] = "c.h5: is <corrupt>."
    text = write(tmp_path, evaluation)[-1].read_text(encoding="utf-8")
    assert text.index("c.h5: is &lt;corrupt&gt;.") < text.index("<img")
