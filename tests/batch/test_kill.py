"""Kill -9 at random moments: a batch that is started again each time ends as one that was never interrupted."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import h5py
import numpy as np
import pytest

from mrirecon.simulation.phantom import head_phantom
from mrirecon.simulation.scan import simulate_slices

Start = Callable[[Path, Path], "subprocess.Popen[bytes]"]
SCANS, WORKERS = 20, 2


def family(pid: int) -> dict[str, list[int]]:
    """The processes of a batch: itself, workers of Dask that it started, and children that reconstruct."""
    found: dict[str, list[int]] = {"parent": [pid], "worker": [], "child": []}
    below = children_of(pid)
    while below:
        one = below.pop()
        with suppress(OSError):
            command = Path(f"/proc/{one}/cmdline").read_text()
            below += children_of(one)
            if "resource_tracker" not in command:
                found["child" if "mrirecon.batch.child" in command else "worker"].append(one)
    return found


def children_of(pid: int) -> list[int]:
    with suppress(OSError):
        lists = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/children")]
        return [int(child) for text in lists for child in text.split()]
    return []


def killed(start: Start, source: Path, out: Path, pause: tuple[float, float], chance: random.Random) -> Counter[str]:
    """Start the batch, again when it ended, and kill one of its processes at random moments, until it is through."""
    kills: Counter[str] = Counter()
    while True:
        program = start(source, out)
        while program.poll() is None:
            with suppress(subprocess.TimeoutExpired):
                program.wait(chance.uniform(*pause))
                break
            kind, pids = chance.choice([(kind, pids) for kind, pids in family(program.pid).items() if pids])
            with suppress(ProcessLookupError):
                os.kill(chance.choice(pids), signal.SIGKILL)
                kills[kind] += 1
            assert all((folder / "done.json").exists() for folder in out.glob("[!.]*-*/")), "a partial output was seen"
        if program.returncode == 0:
            return kills


def check_ledger(out: Path, kills: int) -> int:
    """Nothing was done twice but what was in flight; returns how much that was."""
    events = [json.loads(line) for line in (out / "ledger.jsonl").read_text().splitlines()]
    happened = Counter((event["event"], event.get("key")) for event in events)
    assert [count for (event, _), count in happened.items() if event == "done"] == [1] * SCANS, "done twice"
    again = sum(count - 1 for (event, _), count in happened.items() if event == "begun")
    assert again <= WORKERS * kills, "more was done again than was in flight"
    return again


def check_many(
    start: Start, source: Path, tmp_path: Path, state: Callable[[Path], object], total: int, pause: tuple[float, float]
) -> None:
    assert start(source, tmp_path / "whole").wait() == 0
    whole = state(tmp_path / "whole")
    chance, kills, again = random.Random(0), Counter[str](), 0
    while kills.total() < total:
        out = tmp_path / f"killed{kills.total()}"
        now = killed(start, source, out, pause, chance)
        kills += now
        assert state(out) == whole
        assert not list(out.glob(".*")), "something was left behind"
        again += check_ledger(out, now.total())
    print(f"{kills.total()} kills ({dict(kills)}), {again} scans begun again")


def texts_of(out: Path) -> dict[str, str]:
    files = [path for path in sorted(out.rglob("*")) if path.is_file() and path.name != "ledger.jsonl"]
    return {str(path.relative_to(out)): path.read_text() for path in files}


@pytest.mark.parametrize("total", [3, pytest.param(50, marks=pytest.mark.slow)])
def test_killed_with_its_children_it_ends_as_if_it_never_was(
    start_stand_in: Start, texts, tmp_path: Path, total: int
) -> None:
    source = texts(**{f"scan{n:02}": f"content {n}" for n in range(SCANS)})
    check_many(start_stand_in, source, tmp_path, texts_of, total, (0.2, 3.0))


def images_of(out: Path) -> dict[str, object]:
    """All arrays of all scans, and what else does not depend on the time."""
    found: dict[str, object] = {}
    for folder in sorted(out.glob("*-*/")):
        done = json.loads((folder / "done.json").read_text())
        found[folder.name] = sorted(done["files"]), done["verdict"], done["reasons"], done["sha256"]
        assert {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()} == {*done["files"], "done.json"}
        for name in ("reconstruction.h5", "checks.h5"):
            with h5py.File(folder / name) as file:
                arrays = {key: item[()].tobytes() for key, item in file.items() if isinstance(item, h5py.Dataset)}
                found[f"{folder.name}/{name}"] = arrays
    return found


@pytest.mark.slow
def test_fifty_kills_of_a_batch_its_dask_workers_and_their_children_leave_no_trace(tmp_path: Path) -> None:
    """With real scans, of one slice, and the real pipeline with all checks."""
    pytest.importorskip("distributed")
    source = tmp_path / "in"
    source.mkdir()
    mask = np.zeros(32, bool)
    mask[::2] = mask[10:22] = True
    for seed in range(SCANS):
        kspace = np.stack(list(simulate_slices(head_phantom((32, 32), 1, "t2", seed).images, 4, 30.0, seed)))
        with h5py.File(source / f"scan{seed:02}.h5", "w") as file:
            file["kspace"], file["mask"] = kspace * mask, mask

    def start(source: Path, out: Path) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-m", "mrirecon", "batch", str(source), "-o", str(out), "--engine", "dask"]
        command += ["--workers", str(WORKERS), "--threads", "1", "--method", "cg-sense", "--device", "cpu"]
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    before = time.monotonic()
    assert start(source, tmp_path / "first").wait() == 0
    whole = time.monotonic() - before  # so that kills come at all its moments, on a slow machine too
    check_many(start, source, tmp_path, images_of, 50, (0.02 * whole, 0.9 * whole))
