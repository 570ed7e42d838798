"""One scan of a batch, from its file to a finished folder: what a child process is asked to do."""

import hashlib
import json
import logging
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mrirecon import __version__
from mrirecon.acquisition.sampling import sampling_of
from mrirecon.acquisition.scan import Scan, sha256_of
from mrirecon.batch.child import Failure
from mrirecon.batch.folder import finish
from mrirecon.batch.inputs import Input
from mrirecon.batch.verdict import worst
from mrirecon.conditioning.opening import open_scans
from mrirecon.conditioning.options import Conditioning
from mrirecon.conditioning.partial_fourier import PartialFourier
from mrirecon.errors import InputError
from mrirecon.export.dicom import required_geometry
from mrirecon.export.hdf5 import DISCLAIMER
from mrirecon.export.reference_dicom import read_reference
from mrirecon.reconstruction.methods import checkpoint_of, method_by_name
from mrirecon.reconstruction.outputs import Outputs, outputs_for
from mrirecon.scratch import Scratch

if TYPE_CHECKING:
    from mrirecon.batch.noise_map import NoiseMap
    from mrirecon.reconstruction.volume import Job

#: Longest part of a file's name that goes into its folder's.
NAME_LENGTH = 60


@dataclass(frozen=True)
class Settings:
    """What decides what a scan's folder holds. noise_map: see `mrirecon.batch.noise_map`; others as of reconstruct."""

    method: str
    formats: tuple[str, ...] = ()
    conditioning: Conditioning = field(default_factory=Conditioning)
    key: str | None = None
    axes: str | None = None
    group: str | None = None
    partial_fourier: PartialFourier = "zero-fill"
    keep_complex: bool = False
    precision: str = "auto"
    noise_map: "NoiseMap" = "auto"

    def model_sha256(self) -> str | None:
        """Of the method's checkpoint; None for classical methods. Errors as of `method_by_name`."""
        path = checkpoint_of(self.method)
        return sha256_of(path) if path else None


@dataclass(frozen=True)
class Machine:
    """Where it is done. memory: bytes that a worker may take, None = its share of what is free; `share` is that."""

    device: str
    threads: int | None = None
    memory: int | None = None
    share: float = 1.0
    allow_packages: tuple[str, ...] = ()


def key_of(content: str, settings: Settings, model_sha256: str | None) -> str:
    """The same for the same content of the input, model, settings and version of the program, and else another."""
    method = Path(settings.method).name
    facts = [content, model_sha256, asdict(replace(settings, method=method)), __version__]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def folder_name(path: Path) -> str:
    """The start of the name of a scan's folder."""
    return re.sub(r"[^\w.-]+", "_", path.name).strip("._-")[:NAME_LENGTH] or "scan"


def hashed(one: Input) -> tuple[str, str]:
    """(hash of the content of an input, its signature from before)."""
    signature = one.signature()
    return one.content(), signature


class Workshop:
    """What stays loaded from one scan to the next."""

    def __init__(self, settings: Settings, machine: Machine):
        import torch

        from mrirecon.processor import set_up_for_tensors
        from mrirecon.reconstruction.precision import chosen_precision

        if machine.threads:
            torch.set_num_threads(machine.threads)
        set_up_for_tensors(keep_memory=machine.memory is None)
        self.settings, self.machine = settings, machine
        self.device = torch.device("cpu" if machine.device == "cpu" or not torch.cuda.is_available() else "cuda")
        self.method = method_by_name(settings.method, machine.allow_packages)
        self.precision = chosen_precision(settings.precision, self.method.reconstructor, self.device)  # type: ignore[arg-type]

    def reconstruct(self, one: Input, work: Path, key: str, signature: str, attempt: int) -> dict[str, Any]:
        """Reconstruct and check all volumes of a file into the new folder `work`; returns what its done.json says.

        signature: that the input had when its key was found. attempt: counts from 0; each takes half the memory of the
        one before, where no budget is asked for.
        """
        from mrirecon.batch.report import write_scan_page

        start = time.perf_counter()
        settings = self.settings
        work.mkdir()
        scratch = Scratch(work, self._room(attempt))
        with _warnings() as warnings:
            conditioning = replace(settings.conditioning, noise=one.noise)
            scans = open_scans(
                one.path, conditioning, key=settings.key, axes=settings.axes, group=settings.group, scratch=scratch
            )
            opened = time.perf_counter() - start
            volumes = [self._volume(scan, one, work, scratch, attempt, len(scans) > 1) for scan in scans]
        if one.signature() != signature:
            reason = f"{one.path}: changed while it was read; is it still being copied?"
            raise Failure(InputError.exit_code, reason, passing="input/output", spoilt=False)
        facts = {
            "key": key,
            "scan": one.path.name,
            "sha256": scans[0].sha256,
            "noise_scan": one.noise and one.noise.name,
            "method": Path(self.method.name).name,
            "model_sha256": self.method.sha256,
            "device": str(self.device),
            "precision": self.precision,
            "attempt": attempt + 1,
            "verdict": worst([volume["verdict"] for volume in volumes]),
            "reasons": list(dict.fromkeys(reason for volume in volumes for reason in volume["reasons"])),
            "volumes": volumes,
            "warnings": warnings,
            "seconds": {"opening": round(opened, 3), "all": round(time.perf_counter() - start, 3)},
            "version": __version__,
            "disclaimer": DISCLAIMER,
        }
        write_scan_page(work, facts)
        return finish(work, facts)

    def _room(self, attempt: int) -> float:
        """Bytes that what must be collected may take in memory; as in `mrirecon reconstruct`."""
        from mrirecon.reconstruction.budget import default_budget

        return 0 if self.machine.memory else int(default_budget() * self.machine.share) >> attempt

    def _volume(
        self, scan: Scan, one: Input, work: Path, scratch: Scratch, attempt: int, several: bool
    ) -> dict[str, Any]:
        from mrirecon.batch.checks import Checks
        from mrirecon.reconstruction.volume import Job, conditioning_steps, reconstruct_volume

        start = time.perf_counter()
        label = scan.volume if several else None
        outputs = outputs_for(work, self.settings.formats, label)
        if outputs.dicom:
            required_geometry(scan)
        sampling = sampling_of(scan)
        checks = Checks(scan, sampling, self.method, self.settings.noise_map)
        job = Job(
            method=self.method,
            device=self.device,
            partial_fourier=self.settings.partial_fourier,
            keep_complex=self.settings.keep_complex,
            reference=read_reference(one.reference) if one.reference else None,
            precision=self.precision,
            scratch=scratch,
            inspection=checks,
            ranges=checks.ranges,
        )
        job = replace(job, block=self._block(scan, job, attempt))
        suffix = f"_{label}" if label else ""
        with checks.writing(work / f"checks{suffix}.h5"):
            outcome = reconstruct_volume(scan, sampling, outputs, job)
        checks.picture(work / f"checks{suffix}.png")
        verdict = checks.verdict()
        if outputs.hdf5:
            _mark(outputs.hdf5, verdict.word, verdict.reasons)
        return {
            "volume": scan.volume,
            "verdict": verdict.word,
            "reasons": list(verdict.reasons),
            "outputs": _names(outputs, work),
            "checks": {"picture": f"checks{suffix}.png", "maps": f"checks{suffix}.h5", **checks.measured()},
            "outside_range": outcome.outside_range,
            "slices": scan.slices,
            "sampling": sampling.source,
            "conditioning": [asdict(step) for step in conditioning_steps(scan, self.settings.partial_fourier)],
            "seconds": round(time.perf_counter() - start, 3),
        }

    def _block(self, scan: Scan, job: "Job", attempt: int) -> int:
        """Slices at a time, see `mrirecon reconstruct`; half as many at each further attempt."""
        from mrirecon.reconstruction.budget import MOST_SLICES, slices_that_fit

        if self.machine.memory is None and self.device.type == "cpu":
            return 1
        budget = self.machine.memory
        if budget is None:
            import torch

            budget = int(self.machine.share * torch.cuda.mem_get_info(self.device)[0] / 2)
        count, left = slices_that_fit(scan, job, budget, MOST_SLICES[self.device.type])
        if self.device.type == "cpu":
            job.scratch.room = left >> attempt
        return max(count >> attempt, 1)


_workshop: Workshop


def set_up(settings: Settings, machine: Machine) -> int:
    """Load in this process what `reconstruct` needs; returns the bytes of memory that are free."""
    global _workshop
    from mrirecon.memory import available_bytes

    _workshop = Workshop(settings, machine)
    return available_bytes()


def reconstruct(one: Input, work: Path, key: str, signature: str, attempt: int) -> dict[str, Any]:
    """`Workshop.reconstruct` in the workshop that `set_up` made."""
    return _workshop.reconstruct(one, work, key, signature, attempt)


def _mark(path: Path, word: str, reasons: Sequence[str]) -> None:
    import h5py

    with h5py.File(path, "r+") as file:
        file.attrs.update(verdict=word, verdict_reasons=json.dumps(reasons))


def _names(outputs: Outputs, folder: Path) -> dict[str, str]:
    return {name: str(path.relative_to(folder)) for name, path in asdict(outputs).items() if path}


@contextmanager
def _warnings() -> Iterator[list[str]]:
    """Collects what is warned about meanwhile, and keeps it off the terminal."""
    messages: list[str] = []

    class Collect(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if (text := record.getMessage()) not in messages:
                messages.append(text)

    handler, log = Collect(logging.WARNING), logging.getLogger("mrirecon")
    log.addHandler(handler)
    try:
        yield messages
    finally:
        log.removeHandler(handler)
