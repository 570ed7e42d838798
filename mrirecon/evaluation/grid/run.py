"""A whole grid, stage by stage: data, training, tuning, scores, speed. What is finished is not done again."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from mrirecon.acquisition.scan import sha256_of
from mrirecon.errors import InputError, UsageError
from mrirecon.evaluation.evaluate import Example, Setting
from mrirecon.evaluation.grid.cells import CellJob, Subject, TuningJob, cell_path, score, speed, tune
from mrirecon.evaluation.grid.config import Grid, Variant
from mrirecon.evaluation.grid.data import GridVolume, of_split, simulate, volumes_of
from mrirecon.evaluation.grid.jobs import run_jobs
from mrirecon.evaluation.grid.store import finished, key_of
from mrirecon.evaluation.grid.training import checkpoint_of, train_network, training_job
from mrirecon.evaluation.rows import Row
from mrirecon.processor import set_up_for_tensors

log = logging.getLogger("mrirecon")

Job = TypeVar("Job")
#: The name of the data set that networks are trained on.
OWN = "own"


@dataclass(frozen=True)
class Machine:
    """What a run may use: kind of device (cpu or cuda), processes, threads of each."""

    device: str = "cpu"
    workers: int = 1
    threads: int = 1


@dataclass(frozen=True)
class Cell:
    """A scored cell: where it stands in the grid, its row, and the file of its images, if they were kept."""

    volume: GridVolume
    variant: Variant
    setting: Setting
    row: Row
    images: Path
    slice_index: int


@dataclass
class GridRun:
    """What a run found. failures: what could not be done, in words. tuned: (variant, contrast, setting) → facts."""

    grid: Grid
    cells: list[Cell] = field(default_factory=list)
    speeds: dict[str, dict[str, Any]] = field(default_factory=dict)
    tuned: dict[tuple[str, str, str], dict[str, Any]] = field(default_factory=dict)
    trainings: dict[str, dict[str, Any]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    missing: int = 0


class Runner:
    """Runs the stages; say(text) is told of the progress."""

    def __init__(self, grid: Grid, folder: Path, machine: Machine, say: Callable[[str], None]):
        self.grid = grid
        self.folder = folder
        self.machine = machine
        self.say = say
        self.result = GridRun(grid)
        self.hashes: dict[Path, str] = {}

    def run(self) -> GridRun:
        """All stages. UsageError and InputError for what no part of the grid can do without."""
        volumes = self.make_data()
        own = [volume for volume in volumes if volume.data == OWN]
        checkpoints = self.train(own)
        tuned = self.tune(own)
        test = of_split(volumes, "test")
        if not test:
            raise InputError("the data set has no volumes of the split test, so there is nothing to compare on.")
        subjects = {
            contrast: list(self.subjects(checkpoints, tuned, contrast)) for contrast in {v.contrast for v in test}
        }
        self.score(test, subjects)
        self.measure_speed(test, subjects)
        return self.result

    def make_data(self) -> list[GridVolume]:
        """The volumes of all data sets; simulated where they are to be and are not there yet."""
        volumes, sources = [], []
        for name, data in {OWN: self.grid.data, **self.grid.shifts}.items():
            some, missing = volumes_of(name, data, self.folder / "data")
            if name != OWN:
                some = of_split(some, "test")
                missing = [source for source in missing if source.volumes[0].split == "test"]
            volumes += some
            sources += missing
        self._each(simulate, sources, "simulating", [source.volumes[0].path.name for source in sources])
        there = [volume for volume in volumes if volume.path.exists()]
        self.hashes = {volume.path: sha256_of(volume.path) for volume in there}
        return there

    def train(self, own: Sequence[GridVolume]) -> dict[Variant, Path]:
        """Checkpoints of the variants that have any; those that the grid does not bring are trained."""
        gpu = self.machine.device == "cuda"
        checkpoints, jobs = {}, {}
        for variant in self.grid.variants():
            if not variant.spec.config:
                continue
            if path := checkpoint_of(self.grid, variant):
                checkpoints[variant] = path
            else:
                jobs[variant] = training_job(self.grid, variant, own, self.hashes, self.folder / "training", gpu)
        missing = {variant: job for variant, job in jobs.items() if not finished(job.done)}
        names = [variant.file_stem for variant in missing]
        self._each(train_network, list(missing.values()), "training", names, workers=1 if gpu else None)
        for variant, job in jobs.items():
            if facts := finished(job.done):
                checkpoints[variant] = job.folder / "best.safetensors"
                self.result.trainings[variant.file_stem] = facts
        return checkpoints

    def tune(self, own: Sequence[GridVolume]) -> dict[tuple[Variant, str, Setting], tuple[str, Any]]:
        """(variant, contrast, setting) → argument and its best value on the validation volumes of that contrast.

        A contrast without validation volumes takes those of all.
        """
        validation = of_split(own, "val")
        contrasts = sorted({volume.contrast for volume in own})
        jobs: dict[tuple[Variant, str, Setting], TuningJob] = {}
        for variant in [variant for variant in self.grid.variants() if variant.spec.tune]:
            if not validation:
                raise UsageError(f"{variant.name}: is tuned on the split val, of which the data set has no volumes.")
            for contrast in contrasts:
                some = [v.path for v in validation if v.contrast == contrast] or [v.path for v in validation]
                for setting in self.grid.settings():
                    spec = variant.spec
                    content = [self.hashes[path] for path in some]
                    key = key_of(
                        spec.tune, variant.arguments, spec.method, asdict(setting), content, self.machine.device
                    )
                    path = self.folder / "tuning" / f"{key}.json"
                    jobs[variant, contrast, setting] = TuningJob(
                        variant, setting, tuple(some), path, self.machine.device
                    )
        missing = {key: job for key, job in jobs.items() if not finished(job.path)}
        self._each(tune, list(missing.values()), "tuning", [f"{v.name}, {c}, {s}" for v, c, s in missing])
        found = {}
        for (variant, contrast, setting), job in jobs.items():
            if facts := finished(job.path):
                found[variant, contrast, setting] = (facts["argument"], facts["value"])
                self.result.tuned[variant.name, contrast, str(setting)] = facts
        return found

    def subjects(
        self,
        checkpoints: dict[Variant, Path],
        tuned: dict[tuple[Variant, str, Setting], tuple[str, Any]],
        contrast: str,
    ) -> list[tuple[Setting, Subject]]:
        """What can be run in each setting. A contrast that was not tuned for takes the values of the first that was."""
        found = []
        for setting in self.grid.settings():
            for variant in self.grid.variants():
                if variant.spec.config and variant not in checkpoints:
                    continue
                if not variant.spec.tune:
                    found.append((setting, Subject(variant, checkpoints.get(variant))))
                    continue
                values = [value for (v, _, s), value in tuned.items() if (v, s) == (variant, setting)]
                value = tuned.get((variant, contrast, setting), values[0] if values else None)
                if value:
                    found.append((setting, Subject(variant, tuned=(value,))))
        return found

    def score(self, test: Sequence[GridVolume], subjects: dict[str, list[tuple[Setting, Subject]]]) -> None:
        """Score every subject on every test volume in every setting."""
        folder, device = self.folder / "cells", self.machine.device
        shown = {(volume.data, volume.contrast): volume for volume in reversed(test)}
        places, jobs = [], []
        for volume in test:
            for setting in self.grid.settings():
                some = [subject for where, subject in subjects[volume.contrast] if where == setting]
                paths = [cell_path(s, self.hashes[volume.path], setting, folder, device) for s in some]
                places += [(volume, setting, subject, path) for subject, path in zip(some, paths, strict=True)]
                left = tuple(subject for subject, path in zip(some, paths, strict=True) if not finished(path))
                if left:
                    images = shown[volume.data, volume.contrast] == volume and setting in self.settings_shown()
                    jobs.append(CellJob(volume, self.hashes[volume.path], setting, left, folder, device, images))
        self._each(score, jobs, "scoring", [f"{job.volume.path.name}, {job.setting}" for job in jobs])
        for volume, setting, subject, path in places:
            if facts := finished(path):
                index = facts.pop("slice_index")
                cell = Cell(volume, subject.variant, setting, Row(**facts), path.with_suffix(".npz"), index)
                self.result.cells.append(cell)
        expected = len(test) * len(self.grid.settings()) * len(self.grid.variants())
        self.result.missing = expected - len(self.result.cells)

    def settings_shown(self) -> list[Setting]:
        """The settings of which pictures are kept: the highest acceleration of each mask."""
        highest: dict[str, Setting] = {}
        for setting in self.grid.settings():
            if setting.mask not in highest or setting.acceleration > highest[setting.mask].acceleration:
                highest[setting.mask] = setting
        return list(highest.values())

    def measure_speed(self, test: Sequence[GridVolume], subjects: dict[str, list[tuple[Setting, Subject]]]) -> None:
        """Time and memory of each variant on the first test volume, alone and after everything else."""
        volume, setting = test[0], self.grid.settings()[0]
        for where, subject in subjects[volume.contrast]:
            name = subject.variant.name
            if where != setting or name in self.result.speeds:
                continue
            facts = [subject.identity, self.hashes[volume.path], asdict(setting), asdict(self.machine)]
            path = self.folder / "speed" / f"{key_of(facts)}.json"
            self.say(f"measuring the speed of {name}")
            try:
                self.result.speeds[name] = speed(subject, volume, setting, path, self.machine.device)
            except Exception as error:
                self._failed(f"speed of {name}", error)

    def _each(
        self,
        work: Callable[[Job], object],
        jobs: Sequence[Job],
        stage: str,
        names: Sequence[str],
        workers: int | None = None,
    ) -> None:
        progress = partial(self._progress, stage)
        errors = run_jobs(work, jobs, workers or self.machine.workers, self.machine.threads, progress)
        for number, error in errors.items():
            self._failed(f"{stage} {names[number]}", error)

    def _progress(self, stage: str, done: int, count: int) -> None:
        self.say(f"{stage}: {done} of {count}")

    def _failed(self, what: str, error: Exception) -> None:
        self.result.failures.append(f"{what}: {error}")
        log.warning("%s: %s", what, error)


def example_of(cells: Sequence[Cell]) -> Example | None:
    """The kept pictures of cells of one volume in one setting, of the first seed of each variant; None without any."""
    with_images: dict[str, Cell] = {}
    for cell in cells:
        if cell.images.exists():
            with_images.setdefault(cell.variant.name, cell)
    images = {}
    for name, cell in with_images.items():
        with np.load(cell.images, allow_pickle=False) as arrays:
            images[name], shared = (
                arrays["image"],
                {key: arrays[key] for key in ("reference", "support", "mask", "lesions")},
            )
    if not images:
        return None
    first = next(iter(with_images.values()))
    return Example(
        volume=f"{first.volume.subject} {first.volume.contrast}",
        setting=first.setting,
        slice_index=first.slice_index,
        images=images,
        rows={name: cell.row for name, cell in with_images.items()},
        **shared,
    )


def run_grid(grid: Grid, folder: Path, machine: Machine, say: Callable[[str], None] = lambda text: None) -> GridRun:
    """Run a grid into a folder, or continue there."""
    set_up_for_tensors()
    torch.set_num_threads(machine.threads)
    return Runner(grid, folder, machine, say).run()
