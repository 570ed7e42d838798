"""`reconstruct --memory` and `--precision`: what the process really takes, and that the images stay the same."""

import json
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from mrirecon.cli.main import main
from mrirecon.cli.options import memory_size
from mrirecon.errors import UsageError

#: Partitions, coils, phase encodes, readout: 420 MB, more than the budget below leaves.
SHAPE = 128, 8, 128, 400
BUDGET_MB = 500
AXES = ["--axes", "kz,coil,phase,readout"]


def reconstruct(*arguments: object) -> int:
    return main(["reconstruct", *map(str, arguments)])


def write_slab(path: Path, shape: tuple[int, ...] = (12, 4, 32, 40)) -> Path:
    """Noise with a strong centre of k-space: enough for coil maps, and no one looks at the images."""
    rng = np.random.default_rng(0)
    kz, coils, *plane = shape
    places = np.meshgrid(*(np.arange(n) - n // 2 for n in (kz, *plane)), indexing="ij")
    envelope = np.exp(-sum(np.square(place) for place in places) / 18).astype(np.float32)
    with h5py.File(path, "w") as file:
        kspace = file.create_dataset("kspace3d", shape, np.complex64)
        for partition in range(kz):
            noise = rng.standard_normal((2, coils, *plane), dtype=np.float32)
            kspace[partition] = (noise[0] + 1j * noise[1]) * (envelope[partition] + 1e-4)
    return path


def image(path: Path) -> NDArray[np.float32]:
    with h5py.File(path) as file:
        return file["reconstruction"][()]


def peak_mb(*arguments: object) -> float:
    """Of the memory of a process of its own."""
    code = (
        "import resource, sys; from mrirecon.cli.main import main; code = main(sys.argv[1:]); "
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr); sys.exit(code)"
    )
    # Memory that the parent had when it forked would count as the child's: exec resets the peak.
    command = [sys.executable, "-c", code, "reconstruct", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return int(done.stderr.split()[-1]) / 1000 * 1.024


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss has other units elsewhere")
def test_a_3d_scan_stays_within_the_budget(tmp_path: Path) -> None:
    scan = write_slab(tmp_path / "slab.h5", SHAPE)
    assert scan.stat().st_size / 1e6 > 0.8 * BUDGET_MB
    maps = tmp_path / "maps.npy"  # so that it takes seconds only
    np.save(maps, np.ones((SHAPE[1], SHAPE[2], SHAPE[0]), np.complex64))
    arguments = [scan, *AXES, "--method", "zero-filled", "--threads", 1, "--maps", maps, "-o"]
    assert peak_mb(*arguments, tmp_path / "small.h5", "--memory", f"{BUDGET_MB}MB") < BUDGET_MB
    assert peak_mb(*arguments, tmp_path / "free.h5") > BUDGET_MB
    np.testing.assert_array_equal(image(tmp_path / "small.h5"), image(tmp_path / "free.h5"))
    names = ["free.h5", "free.png", "maps.npy", "slab.h5", "small.h5", "small.png"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names


@pytest.mark.parametrize(("method", "tolerance"), [("zero-filled", 0), ("cs", 0), ("irim", 1e-5)])
def test_images_do_not_depend_on_the_budget(tmp_path: Path, monkeypatch, method: str, tolerance: float) -> None:
    scan = write_slab(tmp_path / "slab.h5")
    monkeypatch.setattr("mrirecon.reconstruction.budget.resident_bytes", lambda: 0)
    arguments = [
        scan,
        *AXES,
        "--method",
        method,
        "--precision",
        "fp32",
        "--undersample",
        "gaussian2d",
        "--acs",
        8,
        "--json",
    ]
    assert reconstruct(*arguments, "-o", tmp_path / "free.h5") == 0
    assert reconstruct(*arguments, "-o", tmp_path / "small.h5", "--memory", "150MB") == 0
    free, small = image(tmp_path / "free.h5"), image(tmp_path / "small.h5")
    assert free.any()
    np.testing.assert_allclose(small, free, rtol=0, atol=tolerance * free.max())


def test_scores_do_not_depend_on_where_images_wait(tmp_path: Path, monkeypatch, capsys) -> None:
    scan = write_slab(tmp_path / "slab.h5")
    arguments = [scan, *AXES, "--method", "zero-filled", "--undersample", "gaussian2d", "--acs", 8, "--json"]
    assert reconstruct(*arguments, "-o", tmp_path / "memory.h5") == 0
    monkeypatch.setattr("mrirecon.reconstruction.budget.default_budget", lambda: 0)
    assert reconstruct(*arguments, "-o", tmp_path / "disk.h5") == 0
    memory, disk = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert memory["metrics"] == disk["metrics"]
    assert memory["metrics"]["psnr"] is not None


def test_a_budget_that_is_too_small_is_refused_first(tmp_path: Path, capsys) -> None:
    scan = write_slab(tmp_path / "slab.h5")
    assert reconstruct(scan, *AXES, "-o", tmp_path / "out.h5", "--method", "zero-filled", "--memory", "20MB") == 8
    error = capsys.readouterr().err
    assert "MB are allowed" in error
    assert "--memory" in error
    assert [path.name for path in tmp_path.iterdir()] == ["slab.h5"]


@pytest.mark.parametrize(
    ("text", "size"),
    [("2GB", 2e9), ("1.5GiB", 1.5 * 2**30), ("800MB", 8e8), ("3 kb", 3e3), ("1TiB", 2**40), ("512MiB", 2**29)],
)
def test_sizes_have_units(text: str, size: float) -> None:
    assert memory_size(text) == size


@pytest.mark.parametrize("text", ["2", "GB", "-2GB", "0GB", "2GBB", "1e3MB", "2 G B", "2.GB", "nan GB", "٢GB", "1,5GB"])
def test_other_sizes_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="such as 2GB"):
        memory_size(text)


def test_an_unknown_precision_is_refused(tmp_path: Path, capsys) -> None:
    scan = write_slab(tmp_path / "slab.h5")
    assert reconstruct(scan, *AXES, "-o", tmp_path / "out.h5", "--precision", "fp8") == 2
    assert "fp8" in capsys.readouterr().err


@pytest.mark.parametrize("method", ["cs", "cs-sigpy"])
def test_the_weight_is_told_in_units_of_the_data(tmp_path: Path, capsys, method: str) -> None:
    scan, out = write_slab(tmp_path / "slab.h5"), tmp_path / "out.h5"
    assert reconstruct(scan, *AXES, "-o", out, "--method", method, "--json") == 0
    with h5py.File(out) as file:
        provenance, scale = json.loads(file.attrs["provenance"]), float(file.attrs["scale"])
    told = json.loads(capsys.readouterr().out)["weight_in_data_units"]
    assert told == provenance["weight_in_data_units"] == pytest.approx(0.005 * scale)
    if method == "cs":
        assert reconstruct(scan, *AXES, "-o", out, "--method", method) == 0
        assert f"{told:.4g} in units of the data" in capsys.readouterr().out


@pytest.mark.parametrize(("asked", "method", "used"), [("bf16", "irim", "bf16"), ("bf16", "cg-sense", "fp32")])
def test_the_precision_is_on_record(tmp_path: Path, capsys, asked: str, method: str, used: str) -> None:
    scan, out = write_slab(tmp_path / "slab.h5"), tmp_path / "out.h5"
    arguments = [scan, *AXES, "-o", out, "--method", method, "--precision", asked]
    assert reconstruct(*arguments, "--json") == 0
    assert json.loads(capsys.readouterr().out)["precision"] == used
    with h5py.File(out) as file:
        assert json.loads(file.attrs["provenance"])["precision"] == used


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (signal.SIGINT, 130),
        pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow),
        pytest.param(signal.SIGKILL, -signal.SIGKILL, marks=pytest.mark.slow),
    ],
)
def test_an_interrupted_run_leaves_no_scratch(tmp_path: Path, number: signal.Signals, code: int) -> None:
    scan = write_slab(tmp_path / "slab.h5", (160, 8, 96, 96))
    out = tmp_path / "results"
    out.mkdir()
    options = ["--method", "cs", "--memory", "700MB", "--threads", "1"]
    command = [sys.executable, "-m", "mrirecon", "reconstruct", str(scan), *AXES, "-o", str(out / "o.h5"), *options]
    # A shell that starts the tests in the background lets its children ignore SIGINT.
    listen = partial(signal.signal, signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, preexec_fn=listen)
    limit = time.monotonic() + 60
    while not list(out.iterdir()) and process.poll() is None and time.monotonic() < limit:
        time.sleep(0.05)
    assert process.poll() is None
    process.send_signal(number)
    # Python ends itself by the signal if an interrupt, though handled, came within exec of a text, as imports do; a
    # shell calls that 130 as well.
    assert process.wait(timeout=60) in ({code, -number} if number == signal.SIGINT else {code})
    left = [path.name for path in out.iterdir()]
    # A killed process cannot take its half-written output away; the scratch has no name.
    assert left == [] if number != signal.SIGKILL else all(name.startswith(".o-") for name in left)
