"""The wheel, installed away from the source tree, does the main jobs."""

import csv
import json
import os
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
Run = Callable[..., str]

pytestmark = [pytest.mark.slow, pytest.mark.smoke]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT]
    subprocess.run(build, check=True, capture_output=True, text=True)
    (wheel,) = folder.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def run(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Runs a program of a virtual environment that holds the wheel, in an empty folder; returns its stdout."""
    folder = tmp_path_factory.mktemp("elsewhere")
    venv = folder / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    pip = [sys.executable, "-m", "pip", "--python", venv / "bin" / "python", "install", "--quiet", "--no-deps", wheel]
    subprocess.run(pip, check=True)
    # Dependencies are borrowed from this environment. Its .pth files, one of which leads to the source tree, are not
    # followed from here.
    (site_packages,) = venv.glob("lib/python*/site-packages")
    (site_packages / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    environment["OMP_NUM_THREADS"] = "2"

    def run(program: str, *arguments: object) -> str:
        command = [venv / "bin" / program, *map(str, arguments)]
        result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
        return result.stdout

    return run


def test_wheel_carries_code_configs_manifests_and_weights(wheel: Path) -> None:
    folders = {"mrirecon": "mrirecon", "configs": "mrirecon/configs", "data_manifests": "mrirecon/data_manifests"}
    expected = {
        f"{place}/{path.relative_to(ROOT / folder).as_posix()}"
        for folder, place in folders.items()
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    names = set(zipfile.ZipFile(wheel).namelist())
    assert expected <= names
    assert all(name.startswith(("mrirecon/", "mrirecon-")) for name in names)
    assert "mrirecon/configs/cirim.yaml" in names
    assert any(name.startswith("mrirecon/weights/") and name.endswith(".safetensors") for name in names)


def test_installed_package_is_not_the_source_tree(run: Run) -> None:
    place = run("python", "-c", "import mrirecon; print(mrirecon.__file__)")
    assert "elsewhere" in place
    assert str(ROOT) not in place


def test_info_describes_a_simulated_scan(run: Run) -> None:
    run("mrirecon", "simulate", "scan.h5", "--slices", 2, "--matrix", "64,64", "--coils", 2)
    facts = json.loads(run("mrirecon", "info", "scan.h5", "--json"))
    assert (facts["slices"], facts["coils"], facts["matrix"]) == (2, 2, [64, 64])


def test_demo_writes_its_report(run: Run, tmp_path: Path) -> None:
    run("mrirecon", "demo", "--output", tmp_path / "demo", "--matrix", 64, "--slices", 1)
    assert (tmp_path / "demo" / "report.html").stat().st_size > 10_000
    with (tmp_path / "demo" / "results.csv").open(encoding="utf-8") as table:
        methods = [row["method"] for row in csv.DictReader(table)]
    assert len(methods) == 3, "zero-filled, cs and a network"


def test_a_short_training_by_a_shipped_config_gives_a_usable_model(run: Run, tmp_path: Path) -> None:
    small_model = {"cascades": 1, "time_steps": 2, "channels": 8}
    small_data = {"examples": 2, "val_examples": 1, "val_matrix": [64, 64], "scanner.matrix": [64, 64]}
    overrides = {
        "output": tmp_path,
        **{f"model.model.init_args.{name}": value for name, value in small_model.items()},
        **{f"data.init_args.{name}": value for name, value in small_data.items()},
        "trainer.max_epochs": 1,
        "trainer.accelerator": "cpu",
        "trainer.precision": "32-true",
    }
    run("mrirecon", "train", "--config", "cirim", *(f"--{name}={value}" for name, value in overrides.items()))
    run("mrirecon", "simulate", tmp_path / "scan.h5", "--slices", 1, "--matrix", "64,64", "--coils", 2)
    result = run(
        *("mrirecon", "reconstruct", tmp_path / "scan.h5", "-o", tmp_path / "image.h5", "--json"),
        *("--method", tmp_path / "best.safetensors", "--undersample", "equispaced", "--acceleration", 2),
    )
    assert json.loads(result)["metrics"]["ssim"] > 0
