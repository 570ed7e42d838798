"""`mrirecon batch` as it is typed, on tiny simulated scans."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest

from mrirecon.cli.main import main
from mrirecon.simulation.phantom import head_phantom
from mrirecon.simulation.scan import simulate_slices

Write = Callable[..., Path]


@pytest.fixture
def write_scan(tmp_path: Path) -> Write:
    """Writes a scan of one slice, 4 coils, 48 × 48, undersampled twofold, in fastMRI's layout."""

    def write(name: str, seed: int = 0, **datasets: object) -> Path:
        images = head_phantom((48, 48), 1, "t2", seed).images
        kspace = np.stack(list(simulate_slices(images, 4, 30.0, seed)))
        mask = np.zeros(48, bool)
        mask[::2] = mask[16:32] = True
        path = tmp_path / "in" / name
        path.parent.mkdir(exist_ok=True)
        with h5py.File(path, "w") as file:
            for key, value in {"kspace": kspace * mask, "mask": mask, **datasets}.items():
                file[key] = value
        return path

    return write


def batch(*arguments: object) -> int:
    return main(["batch", *map(str, arguments), "--method", "cg-sense", "--device", "cpu"])


def image(out: Path) -> bytes:
    with h5py.File(next(out.glob("*/reconstruction.h5"))) as file:
        data: bytes = file["reconstruction"][()].tobytes()
        return data


def summary(out: Path) -> dict:
    return json.loads((out / "summary.json").read_text())


def test_good_and_bad_scans_end_in_images_or_reasons(write_scan: Write, tmp_path: Path, capsys) -> None:
    good, source, out = write_scan("good <1>.h5"), tmp_path / "in", tmp_path / "out"
    (source / "copy.h5").write_bytes(good.read_bytes())
    (source / "truncated.h5").write_bytes(good.read_bytes()[:5000])
    (source / "empty.h5").touch()
    (source / "other.dat").write_bytes(b"no scan at all" * 100)
    with h5py.File(write_scan("nan.h5", 1), "r+") as file:
        file["kspace"][0, 0, 20, 20] = np.nan
    with h5py.File(source / "gigantic.h5", "w") as file:
        file.create_dataset("kspace", (1, 64, 200_000, 200_000), np.complex64, chunks=(1, 1, 100, 100))
    assert batch(source, "-o", out, "--json") == 3
    told = json.loads(capsys.readouterr().out)
    entries = {Path(entry["scan"]).name: entry for entry in told["scans"]}
    assert {name: entry["code"] for name, entry in entries.items() if entry["state"] == "failed"}.keys() == {
        "truncated.h5",
        "empty.h5",
        "other.dat",
        "nan.h5",
        "gigantic.h5",
    }
    assert "NaN" in entries["nan.h5"]["reasons"][0]
    assert all(
        entry["reasons"] and "internal" not in entry["reasons"][0] for entry in entries.values() if entry["code"]
    )
    states = {entries[name]["state"] for name in ("good <1>.h5", "copy.h5")}
    assert states == {"done", "duplicate"}
    folder = out / next(entry["folder"] for entry in entries.values() if entry["folder"])
    done = json.loads((folder / "done.json").read_text())
    assert {p.name for p in folder.iterdir()} == {*done["files"], "done.json"}
    assert {"reconstruction.h5", "reconstruction.png", "checks.h5", "checks.png", "report.html"} <= set(done["files"])
    with h5py.File(folder / "reconstruction.h5") as file:
        assert file.attrs["verdict"] == done["verdict"]
    assert not list(out.glob(".*"))
    for page in (out / "report.html", folder / "report.html"):
        text = page.read_text()
        assert "not a medical device" in text
        assert not re.search(r"<script|src=\"(?!data:)|https?://", text)
        assert "<1>" not in text
    assert str(folder.name) in (out / "report.html").read_text()
    assert summary(out)["states"] == {"done": 1, "kept": 0, "duplicate": 1, "failed": 5}

    assert batch(good, "-o", tmp_path / "alone") == 0
    assert image(tmp_path / "alone") == image(out)

    capsys.readouterr()
    before = (out / "ledger.jsonl").read_text()
    assert batch(source, "-o", out) == 3
    assert "1 kept" in capsys.readouterr().out
    again = (out / "ledger.jsonl").read_text().removeprefix(before)
    assert {json.loads(line)["event"] for line in again.splitlines()} == {"started", "duplicate", "ended"}


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--method", "none-such"], 2, "no method"),
        (["--method", "gone.safetensors"], 7, "no such checkpoint"),
        (["--formats", "gif"], 2, "no format"),
        (["--noise-map", "x"], 2, "--noise-map"),
        (["--noise", "gone.h5"], 2, "gone.h5"),
        (["--memory", "4"], 2, "unit"),
    ],
)
def test_what_cannot_be_done_is_refused_before_any_work(
    tmp_path: Path, capsys, arguments: list[str], code: int, words: str
) -> None:
    (tmp_path / "scan.h5").touch()
    assert main(["batch", str(tmp_path / "scan.h5"), "-o", str(tmp_path / "out"), *arguments]) == code
    assert words in capsys.readouterr().err
    assert not list(tmp_path.glob("out/*/"))


def test_an_empty_folder_is_refused(tmp_path: Path, capsys) -> None:
    assert batch(tmp_path, "-o", tmp_path / "out") == 2
    assert "no scans" in capsys.readouterr().err


def test_an_output_that_cannot_be_written_is_refused(write_scan: Write, tmp_path: Path, capsys) -> None:
    (tmp_path / "file").touch()
    assert batch(write_scan("scan.h5"), "-o", tmp_path / "file" / "out") == 8
    assert "cannot be written" in capsys.readouterr().err


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, with room for one scan and not for two."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1200k", "none", folder]).returncode:
        pytest.skip("only root may mount a small disk")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_full_disk_costs_what_it_had_no_room_for(write_scan: Write, small_disk: Path, tmp_path: Path) -> None:
    out = small_disk / "out"
    scans = [write_scan(f"good{seed}.h5", seed) for seed in range(3)]
    code = batch(*scans, "-o", out)
    finished = [path.parent.name for path in out.glob("*/done.json")]
    assert code in (3, 8)
    assert 1 <= len(finished) < 3
    assert not list(out.glob(".*"))
    if code == 3:
        failed = [entry for entry in summary(out)["scans"] if entry["state"] == "failed"]
        assert all(entry["code"] == 8 and "disk is full" in entry["reasons"][0] for entry in failed)
    subprocess.run(["mount", "-o", "remount,size=20m", small_disk], check=True)
    assert batch(*scans, "-o", out) == 0
    states = [entry["state"] for entry in summary(out)["scans"]]
    assert states.count("kept") == len(finished)
    assert states.count("done") == 3 - len(finished)


def test_a_read_only_output_is_refused(write_scan: Write, small_disk: Path, capsys) -> None:
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    assert batch(write_scan("good.h5"), "-o", small_disk / "out") == 8
    assert "cannot be written" in capsys.readouterr().err


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_it_cleanly(write_scan: Write, tmp_path: Path, number: signal.Signals, code: int) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-m", "mrirecon", "batch", str(write_scan("scan.h5").parent), "-o", str(out), "--watch"]
    program = subprocess.Popen(
        [*command, "--method", "cg-sense"],
        stderr=subprocess.PIPE,
        text=True,
        # Tests that run in the background of a shell ignore interrupts, and so would the program.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    end = time.monotonic() + 120
    while not (out / "ledger.jsonl").exists() or "started" not in (out / "ledger.jsonl").read_text():
        assert time.monotonic() < end
        assert program.poll() is None
        time.sleep(0.05)
    program.send_signal(number)
    _, errors = program.communicate(timeout=120)
    assert program.returncode == code
    assert "Traceback" not in errors
    assert sorted(path.name for path in out.iterdir()) == ["ledger.jsonl", "report.html", "summary.json"]


def test_the_parent_does_not_load_torch() -> None:
    """It would take seconds and memory, and a second run has nothing for it to do."""
    code = "import sys, mrirecon.cli.batch; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"
