import csv
from pathlib import Path

import pytest

from mrirecon.cli import demo
from mrirecon.cli.main import main
from mrirecon.models.cirim import CIRIM
from mrirecon.weights.checkpoint import save_checkpoint

SMALL = ("--matrix", "64", "--slices", "2", "--acs", "12", "--threads", "1")


@pytest.fixture
def network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tiny untrained CIRIM in the place of the shipped one."""
    path = tmp_path / "tiny.safetensors"
    arguments = {"cascades": 1, "channels": 4, "time_steps": 1}
    config = {"class_path": "mrirecon.models.cirim.CIRIM", "init_args": arguments}
    save_checkpoint(path, CIRIM(cascades=1, channels=4, time_steps=1), config, "# untrained")
    monkeypatch.setattr(demo, "default_method", lambda: str(path))
    return path


def methods(folder: Path) -> list[str]:
    with (folder / "results.csv").open(newline="") as file:
        return [row["method"] for row in csv.DictReader(file)]


def test_the_demo_simulates_reconstructs_and_reports(tmp_path: Path, network: Path, capsys) -> None:
    out = tmp_path / "out"
    assert main(["demo", "-o", str(out), *SMALL]) == 0
    assert methods(out) == ["zero-filled", "cs", str(network)]
    printed = capsys.readouterr().out
    assert str(out / "report.html") in printed
    page = (out / "report.html").read_text(encoding="utf-8")
    for text in ("Simulated data", "nobody was scanned", "compressed sensing", "tiny", f"mrirecon demo -o {out}"):
        assert text in page
    assert {path.name for path in out.iterdir()} == {
        "simulated_head.h5", "results.csv", "summary.md", "report.html", "figures"
    }  # fmt: skip

    # The scan that it left can be looked at again, with another mask and without simulating one.
    again = tmp_path / "again"
    assert (
        main(["demo", "-o", str(again), "--scan", str(out / "simulated_head.h5"), "--mask", "gaussian2d", *SMALL]) == 0
    )
    assert not (again / "simulated_head.h5").exists()
    assert "Gaussian 2D sampling" in (again / "report.html").read_text(encoding="utf-8")


def test_a_scan_that_cannot_be_used_ends_with_its_reason(tmp_path: Path, network: Path, caplog) -> None:
    code = main(["demo", "-o", str(tmp_path / "out"), "--scan", str(tmp_path / "missing.h5"), *SMALL])
    assert code == 4
    assert "missing.h5" in caplog.text
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("options", "word"), [(("--mask", "spiral"), "spiral"), (("--acceleration", "0"), "least 1")])
def test_an_impossible_mask_is_refused_before_any_work(
    tmp_path: Path, capsys, options: tuple[str, ...], word: str
) -> None:
    assert main(["demo", "-o", str(tmp_path / "out"), *options]) == 2
    assert word in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path: Path, capsys) -> None:
    (tmp_path / "out").write_text("mine")
    assert main(["demo", "-o", str(tmp_path / "out")]) == 8
    assert (tmp_path / "out").read_text() == "mine"


@pytest.mark.slow
def test_training_on_the_spot_adds_a_network(tmp_path: Path, network: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mrirecon.training import run

    train = run.train
    monkeypatch.setattr(run, "train", lambda arguments: train([*arguments, "--trainer.max_epochs=1"]))
    out = tmp_path / "out"
    assert main(["demo", "-o", str(out), "--train", *SMALL]) == 0
    assert methods(out)[-1] == "CIRIM trained here"
