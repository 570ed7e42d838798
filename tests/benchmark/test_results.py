"""Results: stored and read again, shown, and compared with older ones."""

from dataclasses import replace
from pathlib import Path

import pytest

from mrirecon.benchmark.measure import Row
from mrirecon.benchmark.report import differences, gains, markdown, summary, table
from mrirecon.benchmark.run import Result, load, save
from mrirecon.cli.main import main
from mrirecon.errors import InputError


def result(*measured: Row, **changes: object) -> Result:
    machine = {"processor": "p", "cores": 2, "memory_bytes": 8e9, "device": "cpu", "threads": 2, "load": 0.1}
    machine |= {"mrirecon": "1", "torch": "2", "sigpy": "0.1", "bart": None}
    made = Result(machine, "2026-01-02T03:04:05+00:00", "12 × 256²", list(measured), {})
    return replace(made, **changes)  # type: ignore[arg-type]


def row(section: str, name: str, *samples: float, **more: object) -> Row:
    return Row(section, name, "s", samples, **more)  # type: ignore[arg-type]


def test_json_comes_back_as_it_was(tmp_path: Path) -> None:
    made = result(
        row("cs", "a", 1.0, 2.0, floor=0.5, note="n"),
        row("cs", "a: peer", 3.0, ratio=2.0),
        row("cs", "b"),
        targets={"cs/a: peer": ("≥ 3.5×", False), "cs/b": ("≤ 1", None)},
    )
    save(tmp_path / "r.json", made)
    assert load(tmp_path / "r.json") == made


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "3",
        '{"rows": []}',
        "[" * 100_000,
        '{"mrirecon_benchmark": 99}',
        '{"mrirecon_benchmark": 1, "rows": {"a": 1}, "targets": {}, "machine": {}, "when": "", "size": ""}',
        '{"mrirecon_benchmark": 1, "rows": [{"samples": [1]}], "targets": {}, "machine": {}, "when": "", "size": ""}',
        '{"mrirecon_benchmark": 1, "rows": [], "targets": 3, "machine": {}, "when": "", "size": ""}',
        '{"mrirecon_benchmark": 1, "rows": [{"section": "cs", "name": "a", "unit": "m", "samples": [1]}], '
        '"targets": {}, "machine": {}, "when": "", "size": ""}',
        '{"mrirecon_benchmark": 1, "rows": [{"section": "cs", "name": "a", "unit": "s", "samples": [NaN]}], '
        '"targets": {}, "machine": {}, "when": "", "size": ""}',
    ],
)
def test_what_is_no_result_is_refused(text: str, tmp_path: Path, capsys) -> None:
    path = tmp_path / "old.json"
    path.write_text(text)
    with pytest.raises(InputError, match=r"old\.json"):
        load(path)
    assert main(["benchmark", "--compare", str(path)]) == 5
    assert "old.json" in capsys.readouterr().err


def test_comparison_says_what_became_better_and_what_differs() -> None:
    old = result(row("cs", "a", 2.0), row("cs", "gone", 1.0), row("cs", "b"), Row("machine", "copy", "B/s", (1e9,)))
    new = result(row("cs", "a", 1.0), row("cs", "new", 1.0), row("cs", "b", 1.0), Row("machine", "copy", "B/s", (2e9,)))
    assert [(now.name, gain) for now, _, gain in gains(new, old)] == [("a", 2.0), ("copy", 2.0)]
    assert differences(new, old) == []
    moved = replace(new, machine=new.machine | {"processor": "q"}, size="4 × 64²")
    assert differences(moved, old) == ["processor: p then, q now", "size: 12 × 256² then, 4 × 64² now"]


def test_tables_show_verdicts_and_failures(capsys) -> None:
    from rich.console import Console

    made = result(
        row("cs", "60 iterations", 0.0065, 0.0071, 0.009, floor=0.0035),
        row("cs", "60 iterations: bart pics", 0.02, ratio=2.0),
        row("cs", "60 iterations: sigpy", note="failed: [no] luck"),
        targets={"cs/60 iterations: bart pics": ("≥ 3.5×", False), "cs/60 iterations: sigpy": ("≥ 5×", None)},
    )
    for width in (100, 60):
        console = Console(width=width)
        console.print(table("cs", made))
        text = capsys.readouterr().out
        assert max(map(len, text.splitlines())) <= width
    Console(width=100).print(table("cs", made))
    text = capsys.readouterr().out
    for part in ("7.10 ms", "6.50 – 9.00 ms", "2.03", "≥ 3.5× missed", "failed: [no] luck"):
        assert part in text
    assert "0 of 2 targets met\nmissed: cs/60 iterations: bart pics (≥ 3.5×)\nnot measured:" in summary(made)
    document = markdown(made)
    assert "| 60 iterations: bart pics | 20.0 ms |" in document
    assert "### Compressed sensing" in document
    assert len({line.count("|") for line in document.splitlines() if line.startswith("|")}) == 1
