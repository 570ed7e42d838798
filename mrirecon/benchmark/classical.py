"""ESPIRiT and compressed sensing beside SigPy and BART, on the same data and, for CS, with the same maps."""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mrirecon.benchmark import bart
from mrirecon.benchmark.measure import Row, Settings, reason, rows, take_turns, threads
from mrirecon.benchmark.subjects import Subject, centre, head, masks
from mrirecon.classical.compressed_sensing import CompressedSensing
from mrirecon.classical.sigpy_compressed_sensing import SigpyCompressedSensing
from mrirecon.metrics import psnr
from mrirecon.physics.coils import espirit
from mrirecon.physics.measurement import Measurement

#: As published; FISTA needs fewer.
ITERATIONS = 60
#: Tried in this order until the quality is reached.
STEPS = (5, 6, 8, 10, 12, 15, 20, 25, 30, 40, 60)
#: How near in dB is equal.
EQUAL_DB = 0.05


@dataclass(frozen=True)
class Solver:
    """A program's compressed sensing: weight and iterations → image (1, y, x); and the weights that are tried for it.

    BART divides the data by a scale of its own, so weights do not compare between programs.
    """

    name: str
    solve: Callable[[float, int], NDArray[np.complex64]]
    weights: Sequence[float]


@dataclass(frozen=True)
class Quality:
    """PSNR in dB by number of iterations with the weight that is best for this solver, or why it failed."""

    weight: float
    decibels: dict[int, float]

    @property
    def best(self) -> float:
        return max(self.decibels.values())

    def least(self, target: float) -> int | None:
        """The least iterations that come within EQUAL_DB of the target; None if none do."""
        return next((steps for steps, value in self.decibels.items() if value >= target - EQUAL_DB), None)


def measure_espirit(settings: Settings) -> Iterator[Row]:
    """Maps of one fully sampled slice, calibrated on its centre. The floor: writing each pixel's C × C matrix once."""
    from sigpy.mri.app import EspiritCalib

    subject, width = head(settings), centre(settings)
    height, columns = settings.matrix
    block = torch.zeros(1, 1, height, columns, dtype=torch.bool)
    rows_, columns_ = (slice(n // 2 - width // 2, n // 2 - width // 2 + width) for n in settings.matrix)
    block[..., rows_, columns_] = True
    matrices = torch.empty(2, height * columns, settings.coils, settings.coils, dtype=torch.complex64)
    matrices = matrices.to(settings.device)
    kspace = subject.kspace[0].cpu().numpy()

    def sigpy() -> object:
        return EspiritCalib(kspace, calib_width=width, show_pbar=False).run()

    with tempfile.TemporaryDirectory() as name, threads(settings.threads):
        folder = Path(name)
        methods: dict[str, Callable[[], object]] = {
            "maps": lambda: espirit(subject.kspace, block),
            "floor": lambda: matrices[0].copy_(matrices[1]),
        }
        if bart.available():
            bart.write_cfl(folder / "kspace", kspace)
            arguments = ["ecalib", "-m1", f"-r{width}", "-k6", "kspace", "maps"]
            methods["maps: bart ecalib"] = lambda: bart.run(arguments, folder, settings.threads)
        turns = take_turns(methods | {"maps: sigpy EspiritCalib": sigpy}, settings)
    floor = turns.pop("floor").median
    yield from rows("espirit", turns, floor)


def measure_cs(settings: Settings) -> Iterator[Row]:
    """L1-wavelet CS of one slice: equal iterations, then to equal PSNR against the true image, each at its best weight.

    The floor is as many bare pairs of FFTs of the coils as there are iterations.
    """
    subject = head(settings)
    measurement = subject.measured(masks(settings)["2D mask"])
    with tempfile.TemporaryDirectory() as folder, threads(settings.threads):
        ours, *others = _solvers(measurement, Path(folder), settings)
        pair = _fft_pair(measurement.kspace)
        name = f"{ITERATIONS} iterations"
        methods: dict[str, Callable[[], object]] = {
            name: partial(ours.solve, ours.weights[0], ITERATIONS),
            "floor": pair,
        }
        for other in others:
            methods[f"{name}: {other.name}"] = partial(other.solve, other.weights[0], ITERATIONS)
        turns = take_turns(methods, settings)
        floor = turns.pop("floor").median
        yield from rows("cs", turns, ITERATIONS * floor)
        own = _quality(ours, subject, measurement, settings)
        for other in others:
            yield from _to_equal_quality(ours, own, other, subject, measurement, floor, settings)


def _to_equal_quality(
    ours: Solver,
    own: Quality,
    other: Solver,
    subject: Subject,
    measurement: Measurement,
    pair_s: float,
    settings: Settings,
) -> Iterator[Row]:
    """Time to the other's best quality, ours and its own."""
    name = f"to the best of {other.name}"
    try:
        theirs = _quality(other, subject, measurement, settings)
    except Exception as error:  # whatever the peer throws
        yield Row("cs", f"{name}: {other.name}", "s", (), note=f"failed: {reason(error)}")
        return
    steps, their_steps = own.least(theirs.best), theirs.least(theirs.best)
    assert their_steps is not None
    if steps is None:
        note = f"ours reaches {own.best:.2f} dB at weight {own.weight:g}, theirs {theirs.best:.2f} dB"
        yield Row("cs", name, "s", (), note=note)
        return
    their_name = f"{name}: {other.name}"
    turns = take_turns(
        {
            name: partial(ours.solve, own.weight, steps),
            their_name: partial(other.solve, theirs.weight, their_steps),
        },
        settings,
    )
    notes = {
        name: f"{steps} iterations, weight {own.weight:g}: {own.decibels[steps]:.2f} dB; at best {own.best:.2f} dB",
        their_name: f"{their_steps} iterations, weight {theirs.weight:g}: {theirs.decibels[their_steps]:.2f} dB; "
        f"at best {theirs.best:.2f} dB",
    }
    yield from rows("cs", turns, steps * pair_s, notes)


def _quality(solver: Solver, subject: Subject, measurement: Measurement, settings: Settings) -> Quality:
    """PSNR by iterations at the weight that is best after half of ITERATIONS."""
    assert measurement.sensitivities is not None
    support = (measurement.sensitivities != 0).any(dim=1).cpu().numpy()

    def decibels(weight: float, steps: int) -> float:
        settings.say(f"quality of {solver.name}, weight {weight:g}, {steps} iterations")
        return psnr(subject.truth.numpy(), np.abs(solver.solve(weight, steps)), support)

    weights = solver.weights[:2] if settings.quick else solver.weights
    best = max(weights, key=lambda weight: decibels(weight, 20))
    return Quality(best, {steps: decibels(best, steps) for steps in (STEPS[::3] if settings.quick else STEPS)})


def _solvers(measurement: Measurement, folder: Path, settings: Settings) -> list[Solver]:
    """Ours first; each with its best weight on such data first."""

    def ours(weight: float, steps: int) -> NDArray[np.complex64]:
        image: NDArray[np.complex64] = CompressedSensing(weight, steps)(measurement)[-1].cpu().numpy()
        return image

    def sigpy(weight: float, steps: int) -> NDArray[np.complex64]:
        image: NDArray[np.complex64] = SigpyCompressedSensing(weight, steps)(measurement)[-1].cpu().numpy()
        return image

    def pics(weight: float, steps: int) -> NDArray[np.complex64]:
        arguments = ["pics", "-S", "-l1", "-r", f"{weight:g}", "-i", str(steps), "kspace", "maps", "image"]
        bart.run(arguments, folder, settings.threads)
        return bart.read_image(folder / "image", settings.matrix)

    solvers = [Solver("mrirecon", ours, (0.005, 0.003, 0.004, 0.006, 0.008))]
    if bart.available():
        assert measurement.sensitivities is not None
        bart.write_cfl(folder / "kspace", measurement.kspace[0].cpu().numpy())
        bart.write_cfl(folder / "maps", measurement.sensitivities[0].cpu().numpy())
        solvers.append(Solver("bart pics", pics, (0.008, 0.004, 0.006, 0.012)))
    return [*solvers, Solver("sigpy L1WaveletRecon", sigpy, (0.003, 0.002, 0.004, 0.006))]


def _fft_pair(kspace: Tensor) -> Callable[[], Tensor]:
    return lambda: torch.fft.ifft2(torch.fft.fft2(kspace))
