"""What a run of a grid found: cells with their places, lesions, times, what was tuned and what failed."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mrirecon.evaluation.evaluate import Example, Setting
from mrirecon.evaluation.grid.config import Grid, Variant
from mrirecon.evaluation.grid.data import GridVolume
from mrirecon.evaluation.robustness.corruptions import Corruption
from mrirecon.evaluation.robustness.lesions import Finding
from mrirecon.evaluation.rows import Row

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
    """A scored cell: where it stands in the grid, its row, and the file of its images, if they were kept.

    oracle: what was best for this volume alone, as text; empty where nothing was chosen so.
    """

    volume: GridVolume
    variant: Variant
    setting: Setting
    row: Row
    images: Path
    slice_index: int
    oracle: str = ""
    corruption: Corruption | None = None


@dataclass(frozen=True)
class LesionCell:
    """What one method showed of inserted lesions in one volume and setting; images: of them, if they were kept."""

    volume: GridVolume
    variant: Variant
    setting: Setting
    findings: tuple[Finding, ...]
    images: Path


@dataclass
class GridRun:
    """What a run found. failures: what could not be done, in words. tuned: (variant, contrast, setting) → facts.

    corrupted: cells with a corruption. lesions: what was found of inserted ones. gap: shift → cells of that data set,
    of methods that were trained or tuned on it. checkpoints: of those trained on the grid's own data set.
    """

    grid: Grid
    cells: list[Cell] = field(default_factory=list)
    corrupted: list[Cell] = field(default_factory=list)
    lesions: list[LesionCell] = field(default_factory=list)
    gap: dict[str, list[Cell]] = field(default_factory=dict)
    speeds: dict[str, dict[str, Any]] = field(default_factory=dict)
    checkpoints: dict[Variant, Path] = field(default_factory=dict)
    tuned: dict[tuple[str, str, str], dict[str, Any]] = field(default_factory=dict)
    trainings: dict[str, dict[str, Any]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    missing: int = 0


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
