"""Inserted lesions in a grid: what one method shows of them in one volume and setting, kept as soon as it is found."""

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from mrirecon.atomic import atomic_path
from mrirecon.conditioning.opening import open_scans
from mrirecon.evaluation.evaluate import Setting
from mrirecon.evaluation.grid.cells import Subject
from mrirecon.evaluation.grid.data import GridVolume
from mrirecon.evaluation.grid.store import keep, key_of
from mrirecon.evaluation.robustness.lesions import REFERENCE, LesionStudy, study
from mrirecon.evaluation.rows import stored_lesions


@dataclass(frozen=True)
class LesionJob:
    """One volume in one setting with one method. images: keep the pictures of the lesions."""

    volume: GridVolume
    sha256: str
    setting: Setting
    subject: Subject
    folder: Path
    device: str
    lesions: LesionStudy
    images: bool = False

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
    if job.images and found.findings[method.name]:
        with atomic_path(job.path.with_suffix(".npz")) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, image=found.zooms[method.name], reference=found.zooms[REFERENCE])
    keep(job.path, {"findings": [asdict(finding) for finding in found.findings[method.name]]})
