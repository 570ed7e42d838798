import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mrirecon.errors import InputError, UsageError
from mrirecon.evaluation.compare import compare

WriteRun = Callable[..., Path]
COLUMNS = [
    "data",
    "subject",
    "contrast",
    "volume",
    "method",
    "mask",
    "acceleration_asked",
    "acs",
    "slices",
    "ssim",
    "nmse",
]


@pytest.fixture
def write_run(tmp_path: Path) -> WriteRun:
    """Writes a run's results.csv: 8 subjects, two accelerations; `gain` is added to the SSIM of each method."""

    def write(name: str, gain: dict[str, float], subjects: int = 8, noise: float = 0.001) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        rng = np.random.default_rng(len(name))
        with (folder / "results.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            for method, plus in gain.items():
                for subject in range(subjects):
                    for acceleration in (4, 8):
                        ssim = 0.9 - 0.01 * subject - 0.01 * acceleration + plus + noise * rng.standard_normal()
                        place = [
                            "own",
                            f"s{subject}",
                            "t1",
                            f"s{subject}.h5",
                            method,
                            "equispaced",
                            acceleration,
                            12,
                            2,
                        ]
                        writer.writerow(dict(zip(COLUMNS, [*place, ssim, ""], strict=True)))
        return folder

    return write


def test_a_gain_is_found_and_its_absence_too(write_run: WriteRun) -> None:
    found = compare(write_run("a", {"cs": 0, "unet": 0}), write_run("bb", {"cs": 0, "unet": 0.01}))
    same, better = (next(iter(found.differences[method].values())) for method in ("cs", "unet"))
    assert better.n == same.n == 8  # subjects, not lines
    assert better.median == pytest.approx(0.01, abs=0.002)
    assert better.p == pytest.approx(2 * 2 / 2**8)
    assert found.verdicts()[0].endswith("no difference can be claimed.")
    assert "B is better" in found.verdicts()[1]
    assert found.unmatched == 0
    assert "SSIM ↑: B − A" in found.table().markdown()


def test_a_loss_is_called_one(write_run: WriteRun) -> None:
    found = compare(write_run("a", {"cs": 0.01, "x": 0}), write_run("b", {"cs": 0, "x": 0}))
    assert "B is worse" in found.verdicts()[0]


def test_few_subjects_allow_no_claim(write_run: WriteRun) -> None:
    found = compare(write_run("a", {"cs": 0}, subjects=3), write_run("b", {"cs": 0.1}, subjects=3))
    assert "too few subjects" in found.verdicts()[0]
    assert "n = 3" in found.table().markdown()


def test_the_only_methods_of_two_runs_are_paired_whatever_their_names(write_run: WriteRun) -> None:
    found = compare(write_run("a", {"old.safetensors": 0}), write_run("b", {"new.safetensors": 0}))
    assert list(found.differences) == ["old.safetensors → new.safetensors"]


def test_lines_of_one_run_only_are_counted_and_left_out(write_run: WriteRun) -> None:
    found = compare(write_run("a", {"cs": 0, "unet": 0}), write_run("b", {"cs": 0}, subjects=7))
    assert list(found.differences) == ["cs"]
    assert found.unmatched == 2 + 16  # a subject of cs, and all of unet


def test_runs_without_anything_in_common_and_other_files_are_refused(write_run: WriteRun, tmp_path: Path) -> None:
    a, b = write_run("a", {"cs": 0, "x": 0}), write_run("b", {"unet": 0, "y": 0})
    with pytest.raises(UsageError, match="in common"):
        compare(a, b)
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match=r"no results\.csv"):
        compare(a, tmp_path / "other.csv")
    with pytest.raises(InputError, match="cannot be read"):
        compare(a, tmp_path / "nothing")
