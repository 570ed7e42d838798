"""How things are measured: settings of a run, methods in turns, rows of results."""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Literal

import torch

#: s and B(ytes): less is better. 1/s, FLOP/s, B/s and dB: more is.
Unit = Literal["s", "B", "1/s", "FLOP/s", "B/s", "dB", "×"]

#: What a turn lasts at least, in seconds: shorter calls are repeated.
TURN_S = 0.05
#: Shorter first calls do not count, and are made once more before the first round.
WARM_S = 1.0
LEAST_ROUNDS = 2
#: After as many seconds, no more than the least number of rounds is done.
PATIENCE_S, QUICK_PATIENCE_S = 20.0, 1.0
#: If the first call of a method takes as long, the first calls of all are the only round.
SLOW_S = 10.0

STANDARD = (12, 256, 256)
#: A slice of fastMRI's knee scans: coils, rows, columns.
KNEE = (15, 640, 368)


@dataclass(frozen=True)
class Settings:
    """What a run measures with.

    device: where ours runs. threads: CPU threads, of others too. coils, matrix (y, x): of the simulated slice. rounds:
    turns of each method, fewer where they take long. quick: few rounds, and no training. networks: name → the part
    `model` of a training configuration. peers: Python of an environment with fastMRI and ATOMMIC. say: progress, one
    line at a time. knee: coils, y, x of the large slices. files: of the header scan. slices: of the whole scan.
    """

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    threads: int = field(default_factory=torch.get_num_threads)
    coils: int = STANDARD[0]
    matrix: tuple[int, int] = STANDARD[1:]
    rounds: int = 5
    quick: bool = False
    networks: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    peers: Path | None = None
    say: Callable[[str], None] = lambda text: None
    knee: tuple[int, int, int] = KNEE
    files: int = 1000
    slices: int = 4

    @property
    def standard(self) -> bool:
        """Whether the sizes are those of the targets and of recorded figures."""
        return (self.coils, *self.matrix) == STANDARD and self.knee == KNEE

    @property
    def size(self) -> str:
        """The slice's size, for reading."""
        height, width = self.matrix
        return f"{self.coils} × {height}²" if height == width else f"{self.coils} × {height} × {width}"


@dataclass(frozen=True)
class Row:
    """One measured quantity, median and range of `samples` in `unit`; without samples it could not be measured.

    section and name identify it in every run. floor: what the hardware allows at best, in the same unit. ratio: of
    another program's row, how many times ours fits into it (median over the rounds). note: what it is, in few words.
    """

    section: str
    name: str
    unit: Unit
    samples: tuple[float, ...]
    floor: float | None = None
    ratio: float | None = None
    note: str = ""

    @property
    def key(self) -> str:
        return f"{self.section}/{self.name}"

    @property
    def median(self) -> float:
        return median(self.samples) if self.samples else math.nan

    @property
    def over_floor(self) -> float | None:
        """The median in multiples of the floor."""
        return self.median / self.floor if self.floor and self.samples else None


@dataclass(frozen=True)
class Turns:
    """Seconds of one method in each round, or why it failed."""

    seconds: tuple[float, ...] = ()
    failure: str = ""

    @property
    def median(self) -> float:
        return median(self.seconds) if self.seconds else math.nan


def take_turns(methods: Mapping[str, Callable[[], object]], settings: Settings) -> dict[str, Turns]:
    """Time the methods one after the other in every round, so that the machine's drift meets all alike.

    Each is called once before, which counts only where calls are so long that warming up does not matter. A method that
    raises then costs only its own row. Waits for the GPU at the end of each turn.
    """
    first, failures = {}, {}
    start = time.perf_counter()
    for name, method in methods.items():
        settings.say(name)
        try:
            first[name] = _timed(method, 1, settings.device)
            if first[name] < WARM_S:  # the first call may have made plans and buffers
                first[name] = _timed(method, 1, settings.device)
        except Exception as error:  # whatever a peer, or a lack of memory, throws
            failures[name] = Turns(failure=reason(error))
            first.pop(name, None)
    if max(first.values(), default=0) > SLOW_S:
        return {name: failures.get(name) or Turns((first[name],)) for name in methods}
    seconds: dict[str, list[float]] = {name: [] for name in first}
    least, patience = (1, QUICK_PATIENCE_S) if settings.quick else (LEAST_ROUNDS, PATIENCE_S)
    for done in range(settings.rounds):
        if done >= least and time.perf_counter() - start > patience:
            break
        for name, taken in first.items():
            settings.say(f"{name}, round {done + 1}")
            count = max(1, min(100, math.ceil(TURN_S / taken)))
            seconds[name].append(_timed(methods[name], count, settings.device) / count)
    return {name: failures.get(name) or Turns(tuple(seconds[name])) for name in methods}


def rows(
    section: str,
    turns: Mapping[str, Turns],
    floor: float | None = None,
    notes: Mapping[str, str] | None = None,
) -> Iterator[Row]:
    """Rows of methods that took turns; the first is ours, and the others are compared with it."""
    ours, *_ = turns.values()
    for name, taken in turns.items():
        note = f"failed: {taken.failure}" if taken.failure else (notes or {}).get(name, "")
        if taken is ours:
            yield Row(section, name, "s", taken.seconds, floor, note=note)
        else:
            yield Row(section, name, "s", taken.seconds, ratio=ratio(taken, ours), note=note)


def ratio(other: Turns, ours: Turns) -> float | None:
    """How many times ours fits into the other: median of the rounds' ratios."""
    pairs = list(zip(other.seconds, ours.seconds, strict=False))
    return median(a / b for a, b in pairs) if pairs else None


def reason(error: Exception) -> str:
    """An exception in a few words."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:200]


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Within this context torch uses `count` CPU threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _timed(method: Callable[[], object], calls: int, device: torch.device) -> float:
    start = time.perf_counter()
    for _ in range(calls):
        method()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start
