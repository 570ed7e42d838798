"""Cells: one method on one volume in one setting, kept as soon as it is scored; and tuning and speed."""

import statistics
import time
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mrirecon.acquisition.sampling import undersample
from mrirecon.atomic import atomic_path
from mrirecon.conditioning.opening import open_scans
from mrirecon.errors import InputError
from mrirecon.evaluation.evaluate import Example, Setting, evaluate_scan
from mrirecon.evaluation.grid.config import Variant
from mrirecon.evaluation.grid.data import GridVolume
from mrirecon.evaluation.grid.store import finished, keep, key_of
from mrirecon.evaluation.grid.training import trained, untrained, with_arguments
from mrirecon.evaluation.robustness.corruptions import Corruption
from mrirecon.memory import peak_bytes
from mrirecon.reconstruction.methods import Method
from mrirecon.reconstruction.pipeline import measure, reconstruct_slice

#: Runs whose median is the time of a slice, after one that does not count.
TIMED_RUNS = 3


@dataclass(frozen=True)
class Subject:
    """A variant that can be run: with the checkpoint and the tuned arguments that it has, if any."""

    variant: Variant
    checkpoint: Path | None = None
    tuned: tuple[tuple[str, Any], ...] = ()

    def method(self) -> Method:
        """Built, in eval mode, on the CPU."""
        if self.checkpoint:
            return trained(self.variant, self.checkpoint)
        method = untrained(self.variant)
        return with_arguments(method, dict(self.tuned)) if self.tuned else method

    def candidates(self) -> dict[str, Method]:
        """What is run, by name: the one method, or for an oracle one with each value, of which the best will count."""
        methods = {"": self.method()}
        for argument, values in self.variant.spec.oracle.items():
            methods = {f" {argument} = {v}": with_arguments(methods[""], {argument: v}) for v in values}
        return {self.label + value: replace(method, name=self.label + value) for value, method in methods.items()}

    @cached_property
    def identity(self) -> list[Any]:
        """What decides its images; a checkpoint holds its network's arguments."""
        spec = self.variant.spec
        return [spec.method, spec.oracle, self.variant.arguments, list(self.tuned), self.method().sha256]

    @property
    def label(self) -> str:
        """Names it and its seed, where there are several trainings."""
        seed = self.variant.seed
        return self.variant.name if seed is None else f"{self.variant.name} (seed {seed})"


@dataclass(frozen=True)
class CellJob:
    """One volume in one setting, for the subjects whose cells are missing. images: keep those of the middle slice.

    corruption: of the measurement; None leaves it as it is.
    """

    volume: GridVolume
    sha256: str
    setting: Setting
    subjects: tuple[Subject, ...]
    folder: Path
    device: str
    images: bool = False
    corruption: Corruption | None = None

    def path(self, subject: Subject) -> Path:
        """Where a cell's facts are: under the hash of method, weights, scan, setting, corruption, device, versions."""
        facts = [subject.identity, self.sha256, asdict(self.setting), self.device]
        corruption = [asdict(self.corruption)] if self.corruption else []
        return self.folder / f"{key_of(*facts, *corruption)}.json"


def score(job: CellJob) -> None:
    """Score the subjects on the volume, all with the same samples and maps, and keep their cells."""
    device = torch.device(job.device)
    scans = open_scans(job.volume.path)
    if len(scans) > 1:
        raise InputError(f"{job.volume.path}: holds {len(scans)} volumes; a grid takes files of one.")
    candidates = {subject: subject.candidates() for subject in job.subjects}
    methods = [method for named in candidates.values() for method in named.values()]
    for method in methods:
        method.reconstructor.to(device)
    reconstruct = partial(job.corruption.reconstruct, scan=scans[0].name) if job.corruption else reconstruct_slice
    example = evaluate_scan(scans[0], job.setting, methods, seed=None, device=device, reconstruct=reconstruct)
    for subject, named in candidates.items():
        best = min(named, key=lambda name: example.rows[name].nmse or 0.0)
        path = job.path(subject)
        if job.images:
            _keep_images(path.with_suffix(".npz"), example, best)
        facts = asdict(replace(example.rows[best], method=subject.label))
        keep(path, {**facts, "slice_index": example.slice_index, "oracle": best.removeprefix(subject.label).strip()})


def _keep_images(path: Path, example: Example, name: str) -> None:
    assert example.reference is not None
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(
            file,
            image=example.images[name],
            reference=example.reference,
            support=example.support,
            mask=example.mask,
            lesions=np.zeros_like(example.support) if example.lesions is None else example.lesions,
        )


@dataclass(frozen=True)
class TuningJob:
    """One argument of a method, tuned for one contrast in one setting on volumes of the validation split."""

    variant: Variant
    setting: Setting
    volumes: tuple[Path, ...]
    path: Path
    device: str


def tune(job: TuningJob) -> None:
    """Find the value with the lowest mean NMSE over the volumes, and keep it with all values and their NMSE."""
    ((argument, values),) = job.variant.spec.tune.items()
    device = torch.device(job.device)
    method = untrained(job.variant)
    candidates = [replace(with_arguments(method, {argument: value}), name=str(value)) for value in values]
    for candidate in candidates:
        candidate.reconstructor.to(device)
    errors = np.zeros(len(values))
    for path in job.volumes:
        for scan in open_scans(path):
            rows = evaluate_scan(scan, job.setting, candidates, seed=None, device=device).rows
            errors += [rows[str(value)].nmse or 0.0 for value in values]
    keep(
        job.path,
        {
            "argument": argument,
            "value": values[int(errors.argmin())],
            "values": list(values),
            "nmse": (errors / len(job.volumes)).tolist(),
        },
    )


def speed(subject: Subject, volume: GridVolume, setting: Setting, path: Path, device_name: str) -> dict[str, Any]:
    """Seconds for the middle slice, peak memory of tensors beside the data, and parameters; measured once, alone."""
    if facts := finished(path):
        return facts
    device = torch.device(device_name)
    scan = open_scans(volume.path)[0]
    middle = scan.slices // 2
    sampling = undersample(scan, setting.sampling_mask(), None)
    data = next(data for data in measure(scan, sampling, device=device) if data.index == middle)
    reconstructor = subject.method().reconstructor.to(device)

    def run() -> float:
        start = time.perf_counter()
        reconstruct_slice(reconstructor, data)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() - start

    run()
    seconds = [run() for _ in range(TIMED_RUNS)]
    with torch.inference_mode():
        peak = peak_bytes(run)
    facts = {
        "seconds_per_slice": statistics.median(seconds),
        "peak_mb": peak / 1e6,
        "parameters": sum(parameter.numel() for parameter in reconstructor.parameters()),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU",
        "threads": torch.get_num_threads(),
        "slice": list(scan.shape[1:]),
    }
    keep(path, facts)
    return facts
