"""A whole run: the sections in order, and its result as a file."""

import json
import logging
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

from mrirecon.atomic import atomic_path
from mrirecon.benchmark.atommic import measure_atommic
from mrirecon.benchmark.classical import measure_cs, measure_espirit
from mrirecon.benchmark.fastmri import measure_fastmri
from mrirecon.benchmark.loading import measure_loading
from mrirecon.benchmark.machine import facts, measure_machine
from mrirecon.benchmark.measure import Row, Settings, Unit, reason
from mrirecon.benchmark.networks import measure_networks, measure_quality
from mrirecon.benchmark.physics import measure_physics
from mrirecon.benchmark.scaling import measure_scaling
from mrirecon.benchmark.targets import target_of
from mrirecon.benchmark.whole_scan import measure_scan
from mrirecon.errors import InputError

log = logging.getLogger("mrirecon")

#: Name → title and what measures it, in order.
SECTIONS: dict[str, tuple[str, Callable[[Settings], Iterator[Row]]]] = {
    "machine": ("Rates of the machine", measure_machine),
    "physics": ("Physics", measure_physics),
    "espirit": ("Coil maps (ESPIRiT)", measure_espirit),
    "cs": ("Compressed sensing (L1-wavelet)", measure_cs),
    "networks": ("Networks", measure_networks),
    "quality": ("The shipped model", measure_quality),
    "fastmri": ("fastMRI's networks, same weights", measure_fastmri),
    "atommic": ("ATOMMIC's networks, same weights", measure_atommic),
    "loading": ("Loading for training", measure_loading),
    "scan": ("A whole scan", measure_scan),
    "scaling": ("Growth", measure_scaling),
}
FORMAT = 1
#: What the note of a section that broke off begins with.
BROKEN = "broke off"


@dataclass(frozen=True)
class Result:
    """What a run measured. machine: hardware and versions. when: UTC. size: of the slice. targets: key of a row → its
    target in words and whether it was met, None where it could not be measured."""

    machine: dict[str, Any]
    when: str
    size: str
    rows: list[Row]
    targets: dict[str, tuple[str, bool | None]]


def run(
    sections: Sequence[str],
    settings: Settings,
    show: Callable[[str, Result], None],
    begin: Callable[[str], None] = lambda name: None,
) -> Result:
    """Measure the sections. `begin` gets the name of each, `show` its rows too once it is done or interrupted."""
    result = Result(facts(settings), datetime.now(UTC).isoformat(timespec="seconds"), settings.size, [], {})
    for name in sections:
        begin(name)
        try:
            for row in _rows(name, settings):
                result.rows.append(row)
                if target := target_of(row, settings):
                    result.targets[row.key] = target.text, target.met(row)
        finally:
            show(name, result)
    return result


def _rows(section: str, settings: Settings) -> Iterator[Row]:
    """What the section measures; one that breaks off costs neither what it had nor the sections to come."""
    title, measure = SECTIONS[section]
    try:
        yield from measure(settings)
    except Exception as error:
        log.warning("benchmark: the section %s broke off (%s).", section, reason(error), exc_info=error)
        yield Row(section, title, "s", (), note=f"{BROKEN}: {reason(error)}")


def save(path: Path, result: Result) -> None:
    """Write the result as JSON, atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps({"mrirecon_benchmark": FORMAT, **asdict(result)}, indent=1), encoding="utf-8")


def load(path: Path) -> Result:
    """Read what `save` wrote. Raises InputError for everything else."""
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror}); give a file of 'mrirecon benchmark --json'."
        ) from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: is no JSON, or damaged; give a file of 'mrirecon benchmark --json'.") from error
    try:
        if stored["mrirecon_benchmark"] != FORMAT:
            raise InputError(f"{path}: is of another version of mrirecon benchmark; measure again with this one.")
        rows = [_row(row) for row in stored["rows"]]
        targets = {str(key): (str(text), met) for key, (text, met) in stored["targets"].items()}
        return Result(dict(stored["machine"]), str(stored["when"]), str(stored["size"]), rows, targets)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"{path}: is not what 'mrirecon benchmark --json' writes, or damaged; measure again."
        ) from error


def _row(stored: dict[str, Any]) -> Row:
    row = Row(**{**stored, "samples": tuple(float(sample) for sample in stored["samples"])})
    if row.unit not in get_args(Unit) or not all(math.isfinite(sample) for sample in row.samples):
        raise ValueError("no row of a result")
    return row
