"""How time and memory grow with coils, matrix, batch, cascades and slices; a straight line is what to expect."""

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from mrirecon.benchmark.measure import Row, Settings, Turns, take_turns, threads
from mrirecon.benchmark.networks import repeated
from mrirecon.benchmark.subjects import head, masks
from mrirecon.benchmark.whole_scan import reconstruct, write_scan
from mrirecon.memory import peak_bytes
from mrirecon.models.cirim import CIRIM
from mrirecon.physics.coils import espirit
from mrirecon.physics.measurement import Measurement
from mrirecon.physics.sense import SenseOperator

#: Shares of `Settings.coils` and `Settings.matrix`, numbers of slices and of cascades.
COILS = (1 / 3, 2 / 3, 4 / 3, 8 / 3)
SIDES = (0.5, 0.75, 1.0, 1.25)
COUNTS = (1, 2, 4, 8)


def measure_scaling(settings: Settings) -> Iterator[Row]:
    """Each series beside the straight line through it; rows tell how far off the line they lie."""
    with threads(settings.threads), torch.inference_mode():
        yield from _coils(settings)
        yield from _matrix(settings)
        yield from _network(settings)
        yield from _slices(settings)


def _coils(settings: Settings) -> Iterator[Row]:
    gradients, maps = {}, {}
    for coils in [max(2, round(settings.coils * share)) for share in COILS]:
        measurement = _measurement(settings, coils, settings.matrix)
        gradients[coils] = _gradient(measurement)
        maps[coils] = partial(espirit, measurement.kspace, measurement.mask)
    yield from _series("gradient", "coils", gradients, settings)
    yield from _series("coil maps", "coils", maps, settings)


def _matrix(settings: Settings) -> Iterator[Row]:
    gradients, networks = {}, {}
    network = CIRIM(cascades=1).to(settings.device).eval()
    for share in SIDES:
        height, width = (16 * round(n * share / 16) for n in settings.matrix)
        measurement = _measurement(settings, settings.coils, (height, width))
        gradients[height * width] = _gradient(measurement)
        networks[height * width] = partial(network, measurement)
    yield from _series("gradient", "pixels", gradients, settings)
    yield from _series("one cascade of CIRIM", "pixels", networks, settings)


def _network(settings: Settings) -> Iterator[Row]:
    measurement = _measurement(settings, settings.coils, settings.matrix)
    batches, cascades = {}, {}
    single = CIRIM(cascades=1).to(settings.device).eval()
    for count in COUNTS[:3]:
        network = CIRIM(cascades=count).to(settings.device).eval()
        cascades[count] = partial(network, measurement)
        batches[count] = partial(single, repeated(measurement, count))
    yield from _series("one cascade of CIRIM", "slices in a batch", batches, settings)
    yield from _series("CIRIM", "cascades", cascades, settings)


def _slices(settings: Settings) -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        scans = {}
        for count in COUNTS[1:]:
            path = write_scan(folder / f"{count}.h5", settings, count)
            scans[count] = partial(reconstruct, path, folder / "out", "zero-filled", settings.device)
        yield from _series("zero-filled scan, file to file", "slices", scans, settings)


def _series(what: str, unit: str, methods: Mapping[int, Callable[[], object]], settings: Settings) -> Iterator[Row]:
    """Rows of time and of the memory of tensors for each size."""
    names = {size: f"{what}, {size:,} {unit}" for size in methods}
    turns = take_turns({names[size]: method for size, method in methods.items()}, replace(settings, rounds=3))
    sizes = list(methods)
    times = [turns[names[size]] for size in sizes]
    memory = [peak_bytes(method) for method in methods.values()]
    for size, taken, off in zip(sizes, times, off_line(sizes, [t.median for t in times]), strict=True):
        yield Row("scaling", names[size], "s", taken.seconds, note=_note(taken, off))
    for size, peak, off in zip(sizes, memory, off_line(sizes, memory), strict=True):
        yield Row("scaling", f"{names[size]}, tensors", "B", (peak,), note=_note(Turns(), off))


def off_line(sizes: Sequence[float], values: Sequence[float]) -> list[float]:
    """How many times the values are what the straight line through them (least squares) says."""
    slope, start = np.polyfit(sizes, values, 1)
    return [float(value / (start + slope * size)) for size, value in zip(sizes, values, strict=True)]


def _note(taken: Turns, off: float) -> str:
    return f"failed: {taken.failure}" if taken.failure else f"{off:.2f} × the straight line"


def _measurement(settings: Settings, coils: int, matrix: tuple[int, int]) -> Measurement:
    mask = masks(settings, matrix)["lines along y"]
    return head(settings, coils, matrix).measured(mask)


def _gradient(measurement: Measurement) -> Callable[[], object]:
    operator = SenseOperator(measurement)
    image = operator.adjoint_data
    return lambda: operator.gradient(image)
