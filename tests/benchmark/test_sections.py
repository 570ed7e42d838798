"""Each section measures what it says, and what fails costs its rows only."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mrirecon.benchmark.loading import measure_loading
from mrirecon.benchmark.measure import Row, Settings
from mrirecon.benchmark.peer import Peer
from mrirecon.benchmark.physics import measure_physics
from mrirecon.benchmark.resident import peak_resident_bytes
from mrirecon.benchmark.run import SECTIONS, run
from mrirecon.benchmark.whole_scan import breakdown, reconstruct, write_scan


def row(section: str, name: str, *samples: float, **more: object) -> Row:
    return Row(section, name, "s", samples, **more)  # type: ignore[arg-type]


def test_physics_agrees_with_the_textbook_it_is_compared_with(tiny: Settings) -> None:
    measured = list(measure_physics(tiny))
    textbook = [r for r in measured if r.name.endswith(": textbook")]
    assert len(textbook) == len(measured) / 2 == 9
    for found in textbook:
        assert float(found.note.split()[2]) < 1e-5
    assert all(r.floor for r in measured if r not in textbook)


def test_loading_leaves_the_users_cache_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny: Settings) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    names = [r.name for r in measure_loading(tiny)]
    assert names == [
        "3 headers first",
        "3 headers again",
        "one slice of 2 × 40 × 32",
        "one slice of 2 × 40 × 32, mask applied",
    ]
    assert not list(tmp_path.iterdir())


def test_the_parts_of_a_scan_are_all_found_and_add_up(tmp_path: Path, tiny: Settings) -> None:
    path = write_scan(tmp_path / "scan.h5", tiny, 2)
    parts = breakdown(lambda: reconstruct(path, tmp_path / "out", "cs", torch.device("cpu")))
    assert list(parts) == ["reading", "maps", "network", "writing", "preview", "the rest"]
    assert all(seconds > 0 for seconds in parts.values())
    assert {p.name for p in (tmp_path / "out").iterdir()} >= {"reconstruction.h5", "reconstruction.png"}


def test_resident_memory_is_that_of_a_process_of_its_own() -> None:
    torch.zeros(2**27).sum()  # half a gigabyte here is nothing there
    small, large = (peak_resident_bytes(bytearray, size) for size in (1, 2**28))
    assert small < 2**29
    assert large - small == pytest.approx(2**28, rel=0.2)


def test_a_section_that_breaks_off_costs_no_other(monkeypatch: pytest.MonkeyPatch, tiny: Settings) -> None:
    def broken(settings: Settings):
        yield row("espirit", "maps", 1.0)
        raise RuntimeError("out of paper")

    monkeypatch.setitem(SECTIONS, "espirit", ("Maps", broken))
    monkeypatch.setitem(SECTIONS, "cs", ("CS", lambda settings: iter([row("cs", "fine", 1.0)])))
    measured = run(["espirit", "cs"], tiny, lambda name, result: None)
    assert [r.name for r in measured.rows] == ["maps", "Maps", "fine"]
    assert measured.rows[1].note == "broke off: RuntimeError: out of paper"


def test_an_interrupted_section_shows_what_it_has(monkeypatch: pytest.MonkeyPatch, tiny: Settings) -> None:
    def interrupted(settings: Settings):
        yield row("espirit", "maps", 1.0)
        raise KeyboardInterrupt

    monkeypatch.setitem(SECTIONS, "espirit", ("Maps", interrupted))
    shown: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        run(["espirit"], tiny, lambda name, result: shown.extend(r.name for r in result.rows))
    assert shown == ["maps"]


PROGRAM = """
import json, sys
print(json.dumps("ready"), flush=True)
for line in sys.stdin:
    if line == "die\\n":
        sys.exit("of its own will")
    print(json.dumps(line.strip().upper()), flush=True)
"""


def test_a_peer_answers_and_its_end_is_explained(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    with Peer(Path(sys.executable), program) as peer:
        assert peer.call("one") == "ONE"
        assert peer.call("two") == "TWO"
        with pytest.raises(RuntimeError, match="of its own will"):
            peer.call("die")


def test_a_peer_that_does_not_start_costs_its_rows_only(tmp_path: Path, tiny: Settings) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho No module named \\'it\\' >&2\nexit 1\n")
    python.chmod(0o755)
    settings = replace(tiny, peers=python, networks={"cirim": {}, "lpdnet": {}})
    measured = [r for name in ("fastmri", "atommic", "loading") for r in SECTIONS[name][1](settings)]
    failed = [r for r in measured if "fastMRI" in r.name or "ATOMMIC" in r.name]
    assert len(failed) == 4
    for found in failed:
        assert not found.samples
        assert "No module named 'it'" in found.note
    assert sum(bool(r.samples) for r in measured) == 4
