"""Bad input: one clear message, its exit code, and nothing left behind. Warnings come once, on stderr."""

import json
import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from mrirecon.cli.main import main
from mrirecon.physics.fourier import fftc


def made_kspace() -> np.ndarray:
    """Fully sampled k-space (2 slices, 4 coils, 48, 40)."""
    y, x = np.meshgrid(np.linspace(-1, 1, 48), np.linspace(-1, 1, 40), indexing="ij")
    head = ((y / 0.85) ** 2 + (x / 0.7) ** 2 < 1) * (1 + 0.4 * np.sin(14 * x))
    coils = np.stack([np.exp(-((y - v) ** 2 + (x - u) ** 2) / 3) for v in (-1, 1) for u in (-1, 1)])
    noise = np.random.default_rng(0).standard_normal((2, 2, 4, 48, 40)) * 0.01
    return (fftc(torch.from_numpy(np.stack([coils * head] * 2))).numpy() + noise[0] + 1j * noise[1]).astype("c8")


@pytest.fixture
def scan(tmp_path: Path, monkeypatch) -> Callable[..., str]:
    """Writes scan.h5 (and further datasets) into the current folder."""
    monkeypatch.chdir(tmp_path)

    def write(edit: Callable[[np.ndarray], np.ndarray] = lambda k: k, name: str = "scan.h5", **datasets) -> str:
        with h5py.File(name, "w") as file:
            file["kspace"] = edit(made_kspace())
            for key, value in datasets.items():
                file[key] = value
        return name

    return write


def reconstruct(*arguments: str) -> int:
    return main(["reconstruct", "scan.h5", "-o", "out.h5", "--method", "zero-filled", *arguments])


def one_sentence(text: str) -> bool:
    return text.startswith("mrirecon: ") and text.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--threads", "0"], "--threads 0"),
        (["--acceleration", "nan"], "--acceleration nan"),
        (["--metod", "cs"], "--metod"),
        (["--undersample", "equispaced", "--acs", "1"], "--acs"),
    ],
)
def test_wrong_options_are_one_sentence(scan, capsys, arguments: list[str], word: str) -> None:
    scan()
    assert reconstruct(*arguments) == 2
    error = capsys.readouterr().err
    assert one_sentence(error)
    assert word in error
    assert not Path("out.h5").exists()


@pytest.mark.parametrize("factor", [1e-30, 1e30])
def test_the_unit_of_kspace_does_not_matter(scan, factor: float) -> None:
    scan(lambda k: k * np.float32(factor))
    assert reconstruct() == 0
    with h5py.File("out.h5") as file:
        assert file["reconstruction"][()].max() == pytest.approx(2 * factor, rel=0.5)


def test_an_image_in_place_of_kspace_is_warned_about_once(scan, capsys) -> None:
    scan(lambda k: np.fft.ifft2(k).astype("c8"))
    assert reconstruct("--json") == 0
    captured = capsys.readouterr()
    assert captured.err.startswith("mrirecon: warning: ")
    assert captured.err.count("\n") == 1
    (warning,) = json.loads(captured.out)["warnings"]
    assert "is this an image" in warning
    assert logging.getLogger("mrirecon").handlers == []


@pytest.mark.parametrize("factor", [1e-30, 1e30])
def test_maps_of_any_scale_serve(scan, factor: float) -> None:
    scan()
    np.save("maps.npy", np.full((4, 48, 40), factor, "c8"))
    assert reconstruct("--maps", "maps.npy") == 0
    with h5py.File("out.h5") as file:
        assert file["reconstruction"][()].max() > 0.5


def test_maps_of_zeros_are_refused(scan, capsys) -> None:
    scan()
    np.save("maps.npy", np.zeros((4, 48, 40), "c8"))
    assert reconstruct("--maps", "maps.npy") == 5
    assert one_sentence(capsys.readouterr().err)
    assert sorted(p.name for p in Path().iterdir()) == ["maps.npy", "scan.h5"]


def test_an_input_is_not_overwritten_by_the_preview(scan, capsys) -> None:
    scan(name="out.png")
    assert main(["reconstruct", "out.png", "-o", "out.h5", "--method", "zero-filled"]) == 2
    assert "overwritten" in capsys.readouterr().err
    assert h5py.is_hdf5("out.png")


def test_a_stored_mask_that_the_zeros_contradict_is_left_aside(scan, capsys) -> None:
    lines = (np.arange(40) % 3 == 0) | (abs(np.arange(40) - 20) < 8)
    scan(lambda k: k * lines, mask=np.ones(40))
    assert reconstruct("--json") == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["sampling"] == "zeros in the k-space"
    assert "claims samples that are zero" in captured.err


def test_a_reference_that_is_not_real_is_ignored(scan, capsys) -> None:
    scan(reconstruction_rss=np.full((2, 48, 40), b"a"))
    assert reconstruct("--undersample", "equispaced", "--acs", "12", "--json") == 0
    assert "metrics_rss" not in json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("option", ["--methods", "--masks", "--accelerations"])
def test_an_empty_list_is_a_usage_error(scan, capsys, option: str) -> None:
    assert main(["evaluate", scan(), "-o", "out", option, ","]) == 2
    assert option in capsys.readouterr().err


@pytest.mark.parametrize("name", ["x" * 300 + ".h5", "/proc/out.h5", "scan.h5/out.h5"])
def test_names_that_cannot_be_written(scan, capsys, name: str) -> None:
    scan()
    assert main(["reconstruct", "scan.h5", "-o", name, "--method", "zero-filled"]) == 8
    assert one_sentence(capsys.readouterr().err)


def test_a_matrix_that_would_fill_the_memory_is_refused(tmp_path: Path) -> None:
    assert main(["simulate", str(tmp_path / "x.h5"), "--matrix", "100000,100000"]) == 2


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("command", [["--help"], ["--version"]])
def test_a_full_disk_behind_stdout_is_explained(command: list[str]) -> None:
    program = "import sys; from mrirecon.cli.main import main; sys.exit(main())"
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([sys.executable, "-c", program, *command], stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 8
    assert "Traceback" not in done.stderr
