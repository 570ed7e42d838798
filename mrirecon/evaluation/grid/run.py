"""A whole grid, stage by stage: data, training, tuning, scores, speed. What is finished is not done again."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, TypeVar

import torch

from mrirecon.acquisition.scan import sha256_of
from mrirecon.errors import InputError, UsageError
from mrirecon.evaluation.evaluate import Setting
from mrirecon.evaluation.grid.cells import CellJob, Subject, TuningJob, score, speed, tune
from mrirecon.evaluation.grid.config import Grid, Robustness, Variant
from mrirecon.evaluation.grid.data import GridVolume, of_split, simulate, volumes_of
from mrirecon.evaluation.grid.jobs import run_jobs
from mrirecon.evaluation.grid.lesions import LesionJob, find_lesions
from mrirecon.evaluation.grid.results import OWN, Cell, GridRun, LesionCell, Machine
from mrirecon.evaluation.grid.store import finished, key_of
from mrirecon.evaluation.grid.training import checkpoint_of, train_network, training_job
from mrirecon.evaluation.robustness.corruptions import Corruption
from mrirecon.evaluation.robustness.lesions import Finding
from mrirecon.evaluation.rows import Row
from mrirecon.processor import set_up_for_tensors

log = logging.getLogger("mrirecon")

Job = TypeVar("Job")
#: Contrast and setting → what can be run there.
Subjects = dict[tuple[str, Setting], list[Subject]]


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
        self.result.checkpoints = checkpoints = self.train(own)
        tuned = self.tune(own)
        test = of_split(volumes, "test")
        if not test:
            raise InputError("the data set has no volumes of the split test, so there is nothing to compare on.")
        subjects = self.subjects(checkpoints, tuned, test)
        self.result.cells = self.score(test, self.grid.settings(), subjects, "scoring")
        expected = len(test) * len(self.grid.settings()) * len(self.grid.variants())
        self.result.missing = expected - len(self.result.cells)
        if self.grid.robustness:
            self.withstand(self.grid.robustness, of_split(own, "test"), subjects)
            self.bridge(self.grid.robustness, volumes)
        self.measure_speed(test, subjects)
        return self.result

    def make_data(self) -> list[GridVolume]:
        """The volumes of all data sets; simulated where they are to be and are not there yet."""
        volumes, sources = [], []
        trained = (OWN, *(self.grid.robustness.gap if self.grid.robustness else ()))
        for name, data in {OWN: self.grid.data, **self.grid.shifts}.items():
            some, missing = volumes_of(name, data, self.folder / "data")
            if name not in trained:
                some = of_split(some, "test")
                missing = [source for source in missing if source.volumes[0].split == "test"]
            volumes += some
            sources += missing
        self._each(simulate, sources, "simulating", [source.volumes[0].path.name for source in sources])
        there = [volume for volume in volumes if volume.path.exists()]
        self.hashes = {volume.path: sha256_of(volume.path) for volume in there}
        return there

    def train(self, volumes: Sequence[GridVolume], names: Sequence[str] = ()) -> dict[Variant, Path]:
        """Checkpoints of the variants that have any; those that the grid does not bring are trained on the volumes.

        names: only of these variants; empty = all. What the grid brings was trained on its own data set.
        """
        gpu = self.machine.device == "cuda"
        checkpoints, jobs = {}, {}
        on = volumes[0].data if volumes else OWN
        for variant in self.grid.variants():
            if not variant.spec.config or (names and variant.name not in names):
                continue
            if on == OWN and (path := checkpoint_of(self.grid, variant)):
                checkpoints[variant] = path
            else:
                jobs[variant] = training_job(self.grid, variant, volumes, self.hashes, self.folder / "training", gpu)
        missing = {variant: job for variant, job in jobs.items() if not finished(job.done)}
        stems = [variant.file_stem for variant in missing]
        stage = "training" if on == OWN else f"training on {on}"
        self._each(train_network, list(missing.values()), stage, stems, workers=1 if gpu else None)
        for variant, job in jobs.items():
            if facts := finished(job.done):
                checkpoints[variant] = job.folder / "best.safetensors"
                self.result.trainings[variant.file_stem if on == OWN else f"{on}: {variant.file_stem}"] = facts
        return checkpoints

    def tune(
        self, volumes: Sequence[GridVolume], names: Sequence[str] = ()
    ) -> dict[tuple[Variant, str, Setting], tuple[str, Any]]:
        """(variant, contrast, setting) → argument and its best value on the validation volumes of that contrast.

        A contrast without validation volumes takes those of all. names: as of `train`.
        """
        validation = of_split(volumes, "val")
        contrasts = sorted({volume.contrast for volume in volumes})
        variants = [v for v in self.grid.variants() if v.spec.tune and (not names or v.name in names)]
        jobs: dict[tuple[Variant, str, Setting], TuningJob] = {}
        for variant in variants:
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
                on = "" if volumes[0].data == OWN else f" on {volumes[0].data}"
                self.result.tuned[variant.name + on, contrast, str(setting)] = facts
        return found

    def subjects(
        self,
        checkpoints: dict[Variant, Path],
        tuned: dict[tuple[Variant, str, Setting], tuple[str, Any]],
        volumes: Sequence[GridVolume],
    ) -> Subjects:
        """What can be run on each contrast in each setting.

        A contrast that was not tuned for takes the values of the first that was.
        """
        found: Subjects = {}
        for contrast, setting in product({volume.contrast for volume in volumes}, self.grid.settings()):
            some = found[contrast, setting] = []
            for variant in self.grid.variants():
                if variant.spec.config and variant not in checkpoints:
                    continue
                if not variant.spec.tune:
                    some.append(Subject(variant, checkpoints.get(variant)))
                    continue
                values = [value for (v, _, s), value in tuned.items() if (v, s) == (variant, setting)]
                value = tuned.get((variant, contrast, setting), values[0] if values else None)
                if value:
                    some.append(Subject(variant, tuned=(value,)))
        return found

    def score(
        self,
        volumes: Sequence[GridVolume],
        settings: Sequence[Setting],
        subjects: Subjects,
        stage: str,
        corruptions: Sequence[Corruption | None] = (None,),
    ) -> list[Cell]:
        """The cells of every subject on every volume in every setting with every corruption."""
        shown = {(volume.data, volume.contrast): volume for volume in reversed(volumes)}
        wanted = []
        for volume, setting, corruption in product(volumes, settings, corruptions):
            images = not corruption and shown[volume.data, volume.contrast] == volume
            wanted.append(
                CellJob(
                    volume,
                    self.hashes[volume.path],
                    setting,
                    tuple(subjects[volume.contrast, setting]),
                    self.folder / "cells",
                    self.machine.device,
                    images and setting in self.settings_shown(),
                    corruption,
                )
            )
        jobs = [replace(job, subjects=tuple(s for s in job.subjects if not finished(job.path(s)))) for job in wanted]
        jobs = [job for job in jobs if job.subjects]
        names = [f"{j.volume.path.name}, {j.setting}{f', {j.corruption}' * bool(j.corruption)}" for j in jobs]
        self._each(score, jobs, stage, names)
        cells = []
        for done, subject in [(job, subject) for job in wanted for subject in job.subjects]:
            if facts := finished(path := done.path(subject)):
                index, oracle = facts.pop("slice_index"), facts.pop("oracle")
                place = done.volume, subject.variant, done.setting
                cells.append(Cell(*place, Row(**facts), path.with_suffix(".npz"), index, oracle, done.corruption))
        return cells

    def withstand(self, robustness: Robustness, test: Sequence[GridVolume], subjects: Subjects) -> None:
        """Corruptions and inserted lesions, on the data set that networks were trained on."""
        people = list(dict.fromkeys(volume.subject for volume in test))[: robustness.subjects]
        some = [volume for volume in test if volume.subject in people]
        settings, names = self.grid.robust_settings(), robustness.methods
        chosen = {place: [s for s in who if not names or s.variant.name in names] for place, who in subjects.items()}
        count = sum(len(chosen[volume.contrast, setting]) for volume, setting in product(some, settings))
        corruptions = robustness.all_corruptions()
        self.result.corrupted = self.score(some, settings, chosen, "corruptions", corruptions)
        self.result.missing += count * len(corruptions) - len(self.result.corrupted)
        if not robustness.lesions:
            return
        wanted = [
            LesionJob(
                volume,
                self.hashes[volume.path],
                setting,
                subject,
                self.folder / "lesions",
                self.machine.device,
                robustness.lesions,
                images=volume is some[0],
            )
            for volume, setting in product(some, settings)
            for subject in chosen[volume.contrast, setting]
            if not subject.variant.spec.oracle
        ]
        jobs = [job for job in wanted if not finished(job.path)]
        self._each(
            find_lesions, jobs, "lesions", [f"{j.volume.path.name}, {j.setting}, {j.subject.label}" for j in jobs]
        )
        for job in wanted:
            if facts := finished(job.path):
                findings = tuple(Finding(**finding) for finding in facts["findings"])
                place = job.volume, job.subject.variant, job.setting
                self.result.lesions.append(LesionCell(*place, findings, job.path.with_suffix(".npz")))
        self.result.missing += len(wanted) - len(self.result.lesions)

    def bridge(self, robustness: Robustness, volumes: Sequence[GridVolume]) -> None:
        """Train and tune on the shifts whose gap is asked for, and score there."""
        for name in robustness.gap:
            there = [volume for volume in volumes if volume.data == name]
            checkpoints, tuned = self.train(there, robustness.methods), self.tune(there, robustness.methods)
            test, settings = of_split(there, "test"), self.grid.robust_settings()
            subjects = {
                place: [s for s in who if s.checkpoint or s.tuned]
                for place, who in self.subjects(checkpoints, tuned, test).items()
            }
            self.result.gap[name] = self.score(test, settings, subjects, f"gap to {name}")

    def settings_shown(self) -> list[Setting]:
        """The settings of which pictures are kept: the highest acceleration of each mask."""
        highest: dict[str, Setting] = {}
        for setting in self.grid.settings():
            if setting.mask not in highest or setting.acceleration > highest[setting.mask].acceleration:
                highest[setting.mask] = setting
        return list(highest.values())

    def measure_speed(self, test: Sequence[GridVolume], subjects: Subjects) -> None:
        """Time and memory of each variant on the first test volume, alone and after everything else."""
        volume, setting = test[0], self.grid.settings()[0]
        for subject in subjects[volume.contrast, setting]:
            name = subject.variant.name
            if subject.variant.spec.oracle or name in self.result.speeds:  # nobody can run an oracle
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


def run_grid(grid: Grid, folder: Path, machine: Machine, say: Callable[[str], None] = lambda text: None) -> GridRun:
    """Run a grid into a folder, or continue there."""
    set_up_for_tensors()
    torch.set_num_threads(machine.threads)
    return Runner(grid, folder, machine, say).run()
