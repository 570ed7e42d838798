"""Inserted lesions in a grid: what one method shows of them in one volume and setting, kept as soon as it is found."""

from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from mrirecon.conditioning.opening import open_scans
from mrirecon.evaluation.evaluate import Setting
from mrirecon.evaluation.grid.cells import Subject
from mrirecon.evaluation.grid.data import GridVolume
from mrirecon.evaluation.grid.store import keep, key_of
from mrirecon.evaluation.robustness.lesions import LesionStudy, study
from mrirecon.evaluation.rows import stored_lesions


@dataclass(frozen=True)
class LesionJob:
    """One volume in one setting with one method."""

    volume: GridVolume
    sha256: str
    setting: Setting
    subject: Subject
    folder: Path
    device: str
    lesions: LesionStudy

    @property
    def path(self) -> Path:
        """Where the findings are."""
        facts = [self.subject.identity, self.sha256, asdict(self.setting), self.device, asdict(self.lesions)]
        return self.folder / f"{key_of(*facts)}.json"


def find_lesions(job: LesionJob) -> None:
    """Insert, reconstruct, and keep the findings."""
    scan = open_scans(job.volume.path)[0]
    known = stored_lesions(scan.path, (scan.slices, *scan.shape[2:]))
    method = job.subject.method()
    method.reconstructor.to(job.device)
    found = study(scan, job.setting.sampling_mask(), [method], job.lesions, known, torch.device(job.device))
    keep(job.path, {"findings": [asdict(finding) for finding in found[method.name]]})
