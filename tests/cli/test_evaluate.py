import csv
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from mrirecon.cli.main import main
from mrirecon.physics.fourier import fftc


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder of two fully sampled scans: 3 slices, 4 coils, 48 × 48."""
    folder = tmp_path / "data"
    folder.mkdir()
    y, x = np.meshgrid(np.linspace(-1, 1, 48), np.linspace(-1, 1, 48), indexing="ij")
    head = ((y / 0.85) ** 2 + (x / 0.7) ** 2 < 1) * (1 + 0.4 * np.sin(14 * x) * np.cos(11 * y))
    centres = [(-1, -1), (-1, 1), (1, -1), (1, 1)]
    coils = np.stack([np.exp(-((y - v) ** 2 + (x - u) ** 2) / 3 + 1j * (v * y + u * x)) for v, u in centres])
    noise = np.random.default_rng(0).normal(0, 1e-3, (3, 4, 48, 48))
    for name in ("a.h5", "b.h5"):
        with h5py.File(folder / name, "w") as file:
            file["kspace"] = (fftc(torch.from_numpy(head * coils)).numpy() + noise).astype(np.complex64)
    return folder


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / "results.csv").open(newline="") as file:
        return list(csv.DictReader(file))


ACS = ("--acs", "12", "--max-slices", "1", "--threads", "1")


def test_methods_masks_and_accelerations_over_a_folder(data: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "out"
    options = ("--methods", "zero-filled,cg-sense", "--masks", "equispaced,gaussian2d", "--accelerations", "2,3")
    assert main(["evaluate", str(data), *options, *ACS, "-o", str(out)]) == 0
    rows = table(out)
    assert len({(r["volume"], r["method"], r["mask"], r["acceleration_asked"]) for r in rows}) == len(rows) == 16
    assert {row["slices"] for row in rows} == {"1"}
    printed = capsys.readouterr().out
    assert "zero-filled" in printed
    assert "not a medical device" in printed
    assert len(list((out / "figures").glob("*.png"))) == 4
    assert "mrirecon evaluate" in (out / "report.html").read_text()


def test_a_broken_scan_costs_exit_code_3_and_not_the_others(data: Path, tmp_path: Path, capsys) -> None:
    (data / "a.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    code = main(["evaluate", str(data), "--methods", "zero-filled", *ACS, "-o", str(tmp_path / "out")])
    assert code == 3
    assert [row["volume"] for row in table(tmp_path / "out")] == ["b.h5"]
    assert "a.h5" in (tmp_path / "out" / "report.html").read_text()


def test_nothing_but_broken_scans_is_exit_code_4_without_output(tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert main(["evaluate", str(tmp_path / "none.h5"), "--methods", "zero-filled", "-o", str(out)]) == 4
    assert not out.exists()


@pytest.mark.parametrize(
    ("options", "code", "word"),
    [
        (("--methods", "guess"), 2, "guess"),
        (("--masks", "spiral"), 2, "spiral"),
        (("--accelerations", "four"), 2, "four"),
        (("--device", "tpu"), 2, "tpu"),
        (("--methods", "missing.safetensors"), 7, "missing.safetensors"),
    ],
)
def test_what_cannot_be_done_is_said_before_any_work(
    data: Path, tmp_path: Path, capsys, options: tuple[str, ...], code: int, word: str
) -> None:
    assert main(["evaluate", str(data), *options, "-o", str(tmp_path / "out")]) == code
    assert word in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_folder_without_scans_is_an_input_error(tmp_path: Path, capsys) -> None:
    assert main(["evaluate", str(tmp_path), "--methods", "zero-filled", "-o", str(tmp_path / "out")]) == 5
    assert "no scan files" in capsys.readouterr().err


def test_the_shipped_config_is_found_by_name_and_can_be_overridden(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    options = ("--methods", "zero-filled", "--accelerations", "2", *ACS)
    assert main(["evaluate", "--config", "evaluate", str(data / "a.h5"), *options, "-o", str(out)]) == 0
    assert {row["mask"] for row in table(out)} == {"equispaced", "gaussian2d"}
    assert {row["acceleration_asked"] for row in table(out)} == {"2.0"}


GRID = """
title: A small grid
reference: cs
masks: [equispaced]
accelerations: [2]
acs: 12
data: {train: 0, val: 0, test: 1, contrasts: [t1], slices: 1, matrix: [48, 48], coils: 3}
methods:
  zero: {method: zero-filled}
  cs: {method: cs, arguments: {iterations: 3}}
"""


def test_a_grid_runs_from_nothing_to_the_report_and_again(tmp_path: Path, capsys) -> None:
    (tmp_path / "grid.yaml").write_text(GRID)
    arguments = ["evaluate", "--config", str(tmp_path / "grid.yaml"), "-o", str(tmp_path / "run"), "--workers", "1"]
    assert main(arguments) == 0
    rows = table(tmp_path / "run")
    assert [row["method"] for row in rows] == ["zero", "cs"]
    assert "simulating: 1 of 1" in capsys.readouterr().err
    assert "A small grid" in (tmp_path / "run" / "report.html").read_text()
    assert main(arguments) == 0
    assert "simulating" not in capsys.readouterr().err
    assert table(tmp_path / "run") == rows


def test_a_data_set_from_elsewhere_takes_one_path(data: Path, tmp_path: Path) -> None:
    (tmp_path / "grid.yaml").write_text(GRID)
    manifest = tmp_path / "scans.yaml"
    files = "".join(f"- {{file: data/{name}, subject: {name}, split: test}}\n" for name in ("a.h5", "b.h5"))
    manifest.write_text(f"name: elsewhere\nfiles:\n{files}")
    grid, out = f"--config={tmp_path / 'grid.yaml'}", tmp_path / "run"
    assert main(["evaluate", grid, str(manifest), "-o", str(out), "--workers", "1"]) == 0
    assert {row["volume"] for row in table(out)} == {"a.h5", "b.h5"}


def test_what_is_wrong_in_a_grid_is_said_before_any_work(tmp_path: Path, capsys) -> None:
    (tmp_path / "grid.yaml").write_text(GRID.replace("cs, arg", "spells, arg").replace("reference: cs", "reference: x"))
    out = tmp_path / "run"
    assert main(["evaluate", "--config", str(tmp_path / "grid.yaml"), "-o", str(out)]) == 2
    assert "grid.yaml: reference: 'x'" in capsys.readouterr().err
    assert not out.exists()


def test_the_papers_grids_are_found_by_name(capsys) -> None:
    for name in ("cirim_2022_smoke", "configs/papers/rim_2020_small.yaml"):
        assert main(["evaluate", "--config", name, "--help"]) == 0
        assert "comparison grid" in capsys.readouterr().out
