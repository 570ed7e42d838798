"""The course of a batch, with a reconstruction that takes a moment (see conftest)."""

import json
from collections import Counter
from pathlib import Path

import pytest


def state(out: Path) -> dict[str, str]:
    """Content of all files but the ledger."""
    files = [path for path in sorted(out.rglob("*")) if path.is_file() and path.name != "ledger.jsonl"]
    return {str(path.relative_to(out)): path.read_text() for path in files}


def events(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "ledger.jsonl").read_text().splitlines()]


def test_bad_scans_cost_no_other(stand_in, texts, tmp_path: Path) -> None:
    good = {f"good{n}": f"scan {n}" for n in range(4)}
    stand_in.main(texts(**good), tmp_path / "alone")
    texts(a_hang="hang", b_bad="bad", c_crash="crash", copy="scan 1", d_greedy="greedy", e_once="killed once", empty="")
    batch = stand_in.main(f"{tmp_path}/in/*.dat", tmp_path / "out", seconds=8)
    entries = {Path(entry.scan).stem: entry for entry in batch.entries.values()}
    assert {name: entry.code for name, entry in entries.items() if entry.code} == {
        "a_hang": 9,
        "b_bad": 5,
        "c_crash": 1,
        "d_greedy": 8,
    }
    assert all(entry.reasons for entry in entries.values() if entry.code)
    assert entries["e_once"].state == entries["empty"].state == "done"
    duplicate = next(entry for entry in entries.values() if entry.state == "duplicate")
    assert {Path(duplicate.scan).stem, Path(str(duplicate.of)).stem} == {"copy", "good1"}
    assert batch.exit_code() == 3
    alone, together = state(tmp_path / "alone"), state(tmp_path / "out")
    assert {text for name, text in alone.items() if name.endswith("txt")} <= set(together.values())
    tries = Counter(Path(event["scan"]).stem for event in events(tmp_path / "out") if event["event"] == "begun")
    assert tries["d_greedy"] == 3
    assert tries["e_once"] == 2
    assert tries["a_hang"] == tries["b_bad"] == tries["c_crash"] == 1


def test_a_second_run_does_nothing_again(stand_in, texts, tmp_path: Path) -> None:
    source = texts(one="1", two="2", three="bad")
    first = stand_in.main(source, tmp_path / "out")
    before = state(tmp_path / "out")
    count = len(events(tmp_path / "out"))
    second = stand_in.main(source, tmp_path / "out")
    assert first.exit_code() == second.exit_code() == 3
    assert [entry.state for entry in second.entries.values()] == ["kept", "failed", "kept"]
    assert [entry.reasons for entry in second.entries.values()] == [entry.reasons for entry in first.entries.values()]
    assert state(tmp_path / "out") == before
    assert len(events(tmp_path / "out")) == count


def test_a_changed_scan_and_a_damaged_result_are_done_again(stand_in, texts, tmp_path: Path) -> None:
    stand_in.main(texts(one="1", two="2"), tmp_path / "out")
    next((tmp_path / "out").glob("one*/image.txt")).write_text("damaged")
    batch = stand_in.main(texts(two="3"), tmp_path / "out")
    assert [entry.state for entry in batch.entries.values()] == ["done", "done"]
    assert {p.read_text() for p in (tmp_path / "out").glob("*/image.txt")} == {"1", "2", "3"}


def test_an_input_that_vanished_is_named(stand_in, texts, tmp_path: Path) -> None:
    (texts(one="1") / "list.csv").write_text("scan\none.dat\ngone.dat\n")
    batch = stand_in.main(tmp_path / "in" / "list.csv", tmp_path / "out")
    assert [(entry.state, entry.code) for entry in batch.entries.values()] == [("done", 0), ("failed", 5)]
    assert "gone.dat: there is no such file" in list(batch.entries.values())[1].reasons[0]


def test_an_input_that_vanishes_meanwhile_is_done_when_it_is_back(stand_in, texts, tmp_path: Path) -> None:
    [entry] = stand_in.main(texts(one="vanishing"), tmp_path / "out").entries.values()
    assert (entry.state, entry.code) == ("failed", 5)
    (texts(one="vanishing") / "back.txt").touch()
    [entry] = stand_in.main(tmp_path / "in", tmp_path / "out").entries.values()
    assert entry.state == "done"


def test_a_file_that_changes_meanwhile_is_done_as_it_is_then(stand_in, texts, tmp_path: Path) -> None:
    batch = stand_in.main(texts(one="still growing"), tmp_path / "out")
    [entry] = batch.entries.values()
    assert entry.state == "done"
    assert (tmp_path / "out" / str(entry.folder) / "image.txt").read_text() == "STILL GROWN"


def test_all_failed_is_told_apart_from_some(stand_in, texts, tmp_path: Path) -> None:
    assert stand_in.main(texts(one="bad"), tmp_path / "out").exit_code() == 4


def test_watching_takes_files_that_stay_the_same(stand_in, texts, tmp_path: Path) -> None:
    source, out = texts(one="1"), tmp_path / "out"
    idle = []

    def when_idle() -> None:
        idle.append({Path(entry.scan).stem: entry.state for entry in batch.entries.values()})
        if len(idle) == 2:
            raise KeyboardInterrupt
        texts(two="2")

    with stand_in.Ledger(out) as ledger:
        engine = stand_in.LocalEngine([stand_in.Child(stand_in.ready, seconds=60)])
        batch = stand_in.Batch(ledger, stand_in.Settings("cs"), engine)
        with pytest.raises(KeyboardInterrupt):
            batch.watch(lambda: stand_in.find_inputs([str(source)], None, None), poll=0.3, idle=when_idle)
        engine.close()
    assert idle == [{"one": "done"}, {"one": "done", "two": "done"}]
