"""Results for people: tables for a terminal, Markdown for the documentation, and one run beside another."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from mrirecon.benchmark.measure import Row, Unit
from mrirecon.benchmark.run import SECTIONS, Result

if TYPE_CHECKING:
    from rich.table import Table

HEAD = ("what", "median", "min – max", "floor", "× floor", "× ours", "target", "note")
#: Facts of the machine that make times comparable.
HARDWARE = ("processor", "cores", "memory_bytes", "device", "threads")
PREFIXES = {9: "G", 6: "M", 3: "k", 0: "", -3: "m", -6: "µ"}


def table(section: str, result: Result) -> "Table":
    """One section for a terminal; notes and failures stand below their rows."""
    from rich.table import Table

    table = Table(title=f"{SECTIONS[section][0]}", title_justify="left", box=None, pad_edge=False)
    for column in HEAD[:-1]:
        table.add_column(column, justify="left" if column in ("what", "target") else "right", overflow="fold")
    for row in result.rows:
        if row.section == section:
            name, *cells, note = _cells(row, result)
            # Another program stands below ours, by its own name.
            ours = _escaped(ours) if (ours := row.name.partition(": ")[0]) != row.name else ""
            name = f"  {name.removeprefix(f'{ours}: ')}" if ours else name
            table.add_row(f"{name}\n  [dim]{_escaped(note)}[/dim]" if note else name, *cells)
    return table


def markdown(result: Result) -> str:
    """All sections, with the machine named, for docs/performance.md."""
    lines = [f"Measured {result.when[:10]} on {machine_text(result)}.", ""]
    for section in dict.fromkeys(row.section for row in result.rows):
        rows = [_cells(row, result) for row in result.rows if row.section == section]
        kept = [n for n in range(len(HEAD)) if any(cells[n] for cells in rows)]
        lines += [f"### {SECTIONS[section][0]}", "", _line([HEAD[n] for n in kept])]
        lines += [_line(["---" if n in (0, 6, 7) else "---:" for n in kept])]
        lines += [_line([cells[n].replace("|", "\\|") for n in kept]) for cells in rows] + [""]
    return "\n".join(lines)


def machine_text(result: Result) -> str:
    """The hardware and the versions in one sentence."""
    m = result.machine
    device = "" if m["device"] == "cpu" else f"{m['device']}, with "
    programs = [f"mrirecon {m['mrirecon']}", f"torch {m['torch']}", f"sigpy {m['sigpy']}"]
    programs += [f"BART {m['bart']}"] if m["bart"] else []
    return (
        f"{device}{m['processor']}, {m['cores']} cores, {_number(m['memory_bytes'], 'B')} of memory; {m['threads']} "
        f"threads, load {m['load']:g} at the start; {', '.join(programs)}; slice {result.size}"
    )


def summary(result: Result) -> str:
    """How many targets were met, and which were not."""
    missed = [key for key, (_, met) in result.targets.items() if met is False]
    unknown = [key for key, (_, met) in result.targets.items() if met is None]
    if not result.targets:
        return "No targets apply to what was measured."
    lines = [f"{len(result.targets) - len(missed) - len(unknown)} of {len(result.targets)} targets met"]
    lines += [f"missed: {key} ({result.targets[key][0]})" for key in missed]
    lines += [f"not measured: {key}" for key in unknown]
    return "\n".join(lines)


def comparison(new: Result, old: Result) -> "Table":
    """Rows that both runs have: the medians, and how many times better the new one is."""
    from rich.table import Table

    table = Table(title=f"beside the run of {old.when[:16]}", title_justify="left", box=None, pad_edge=False)
    for column in ("what", "old", "new", "better"):
        table.add_column(column, justify="left" if column == "what" else "right", overflow="fold")
    for now, before, gain in gains(new, old):
        table.add_row(
            _escaped(now.key), _number(before.median, now.unit), _number(now.median, now.unit), f"{gain:.2f}×"
        )
    return table


def gains(new: Result, old: Result) -> Iterator[tuple[Row, Row, float]]:
    """New row, old row, and how many times faster, smaller or higher in rate the new one is."""
    before = {row.key: row for row in old.rows if row.samples}
    for row in new.rows:
        other = before.get(row.key)
        if other and row.samples and other.unit == row.unit and row.median > 0 and other.median > 0:
            more_is_better = row.unit in ("1/s", "FLOP/s", "B/s")
            yield row, other, row.median / other.median if more_is_better else other.median / row.median


def differences(new: Result, old: Result) -> list[str]:
    """What makes two runs hard to compare: hardware, threads, sizes."""
    found = [
        f"{name.replace('_', ' ')}: {old.machine.get(name)} then, {new.machine.get(name)} now"
        for name in HARDWARE
        if old.machine.get(name) != new.machine.get(name)
    ]
    return found + ([f"size: {old.size} then, {new.size} now"] if old.size != new.size else [])


def _cells(row: Row, result: Result) -> list[str]:
    """As HEAD."""
    text, met = result.targets.get(row.key, ("", None))
    verdict = {True: " met", False: " missed", None: ""}[met]
    return [
        _escaped(row.name),
        _number(row.median, row.unit) if row.samples else "–",
        _range(row) if len(row.samples) > 1 else "",
        _number(row.floor, row.unit) if row.floor else "",
        f"{row.over_floor:.2f}" if row.over_floor else "",
        f"{row.ratio:.2f}" if row.ratio else "",
        text + verdict,
        row.note,
    ]


def _escaped(text: str) -> str:
    """Square brackets are markup to rich."""
    return text.replace("[", "\\[")


def _range(row: Row) -> str:
    low, high = min(row.samples), max(row.samples)
    power = _power(high, row.unit)
    return f"{_digits(low / 10.0**power)} – {_digits(high / 10.0**power)} {PREFIXES[power]}{row.unit}"


def _number(value: float, unit: Unit) -> str:
    """Three digits and a prefix, such as 8.91 ms."""
    if unit in ("dB", "×"):
        return f"{value:.2g}" + (" dB" if unit == "dB" else "")
    power = _power(value, unit)
    return f"{_digits(value / 10.0**power)} {PREFIXES[power]}{unit}"


def _power(value: float, unit: Unit) -> int:
    power = next((p for p in PREFIXES if abs(value) >= 10.0**p), 0)
    return min(power, 0) if unit == "s" else power


def _digits(value: float) -> str:
    return f"{value:.{0 if value >= 99.95 else 1 if value >= 9.995 else 2}f}"


def _line(cells: Sequence[Any]) -> str:
    return f"| {' | '.join(cells)} |"
