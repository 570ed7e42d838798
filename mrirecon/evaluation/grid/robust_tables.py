"""What corruptions, inserted lesions and shifts did to each method, by subject, with intervals; and their CSV."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from mrirecon.evaluation.evaluate import Setting, Table
from mrirecon.evaluation.grid.results import Cell, GridRun, LesionCell
from mrirecon.evaluation.grid.tables import (
    SSIM,
    Values,
    cell_line,
    difference_text,
    groups,
    median_text,
    p_text,
    values_of,
)
from mrirecon.evaluation.robustness.lesions import Finding
from mrirecon.evaluation.rows import write_table
from mrirecon.evaluation.statistics import mean_interval, paired_changes, paired_differences

#: Kind of corruption → what it is, and the unit of its level.
KINDS = {
    "noise": ("more noise", "× the scan's own"),
    "motion": ("motion during 30 % of the encodes", "pixels"),
    "spike": ("a spike in one sample", "× the largest sample"),
    "shifted_maps": ("shifted coil maps", "pixels"),
    "wrong_gains": ("wrong gains in the maps", "relative"),
    "noisy_maps": ("maps from noisier samples", "× the scan's own"),
    "fewer_lines": ("maps from fewer lines", "share left out"),
    "worst_case": ("worst-case perturbation", "norm, × the noise's"),
}


def by_level(run: GridRun, kind: str, setting: Setting) -> dict[float, list[Cell]]:
    """Level → cells of one kind of corruption in a setting; at 0 those without, of the same volumes and methods."""
    some = [c for c in run.corrupted if c.corruption and c.corruption.kind == kind and c.setting == setting]
    places = {(cell.volume.path, cell.variant) for cell in some}
    clean = [c for c in run.cells if c.setting == setting and (c.volume.path, c.variant) in places]
    return {0.0: clean, **groups(some, lambda cell: cell.corruption and cell.corruption.level)}


def kinds_of(run: GridRun) -> list[tuple[str, Setting]]:
    """Every kind of corruption in every setting that has cells."""
    return list(dict.fromkeys((c.corruption.kind, c.setting) for c in run.corrupted if c.corruption))


def corruption_table(run: GridRun, kind: str, setting: Setting) -> Table:
    """A line for each method: SSIM without and at each level, the loss at the last, and that against the reference."""
    levels = {level: values_of(cells, SSIM) for level, cells in by_level(run, kind, setting).items()}
    last = max(levels)
    losses = paired_changes(levels[0.0], levels[last])
    per_subject: Values = {
        method: {
            subject: value - levels[0.0][method][subject]
            for subject, value in levels[last][method].items()
            if subject in levels[0.0][method]
        }
        for method in losses
    }
    reference = run.grid.reference
    against = paired_differences(per_subject, reference) if reference in per_subject else {}
    headings = ["clean", *(f"{level:g}" for level in levels if level)]
    columns = ["method", "n", *headings, f"loss at {last:g}", f"− that of {reference}", "p (Holm)"]
    lines = []
    for method, loss in losses.items():
        values = [median_text(levels[level].get(method, {}).values(), SSIM.form) for level in levels]
        other = against.get(method)
        beside = difference_text(other, ".3f") if other else "reference" if method == reference else "–"
        lines.append([method, str(loss.n), *values, difference_text(loss, ".3f"), beside, p_text(other)])
    return Table(columns, lines)


def rates(cells: Iterable[LesionCell], falsely: bool = False) -> Values:
    """Per method and subject, the share of lesions that were detected, or that appeared where none was inserted."""
    seen: dict[str, dict[str, list[bool]]] = {}
    for cell in cells:
        where = seen.setdefault(cell.variant.name, {}).setdefault(cell.volume.subject, [])
        where += [_counts(finding, falsely) for finding in cell.findings]
    return {m: {s: float(np.mean(found)) for s, found in subjects.items() if found} for m, subjects in seen.items()}


def only(cells: Sequence[LesionCell], diameter: float, contrast: float) -> list[LesionCell]:
    """The same cells with the lesions of one size and contrast."""
    return [
        replace(cell, findings=tuple(f for f in cell.findings if (f.diameter, f.contrast) == (diameter, contrast)))
        for cell in cells
    ]


def lesion_kinds(cells: Sequence[LesionCell]) -> list[tuple[float, float]]:
    """The sizes and contrasts that there are, smallest first."""
    return sorted({(finding.diameter, finding.contrast) for cell in cells for finding in cell.findings})


def lesion_table(run: GridRun) -> Table:
    """A line for each method: how many lesions, detection and false appearance, and detection against the reference."""
    detected, false = rates(run.lesions), rates(run.lesions, falsely=True)
    reference = run.grid.reference
    against = paired_differences(detected, reference) if reference in detected else {}
    kinds = lesion_kinds(run.lesions)
    per_kind = [rates(only(run.lesions, *kind)) for kind in kinds]
    columns = [
        "method", "lesions", "n", "detected", f"− {reference}", "p (Holm)", "falsely appear",
        *(f"detected: {diameter:g} px, {contrast:+.0%}" for diameter, contrast in kinds),
    ]  # fmt: skip
    lines = []
    for method, subjects in detected.items():
        findings = [f for cell in run.lesions if cell.variant.name == method for f in cell.findings]
        other = against.get(method)
        change = difference_text(other, ".2f") if other else "reference" if method == reference else "–"
        cells = [rate_text(some.get(method, {}).values()) for some in per_kind]
        counts = str(len(findings)), str(len(subjects))
        shown = rate_text(subjects.values()), change, p_text(other), rate_text(false[method].values())
        lines.append([method, *counts, *shown, *cells])
    return Table(columns, lines)


def gap_table(run: GridRun) -> Table:
    """A line for each shift and method: SSIM of the model that knew the data set, of the one that did not, the gap."""
    columns = ["data set", "method", "n", "trained there", "trained elsewhere", "gap", "p (Holm)"]
    lines = []
    for name, cells in run.gap.items():
        places = {(cell.volume.path, cell.variant, cell.setting) for cell in cells}
        there = values_of(cells, SSIM)
        own = values_of((c for c in run.cells if (c.volume.path, c.variant, c.setting) in places), SSIM)
        for method, gap in paired_changes(own, there).items():
            medians = [median_text(values[method].values(), SSIM.form) for values in (there, own)]
            lines.append([name, method, str(gap.n), *medians, difference_text(gap, ".4f"), p_text(gap)])
    return Table(columns, lines)


def rate_text(values: Iterable[float]) -> str:
    """Mean over subjects as a percentage, with its 95 % interval where there are enough."""
    numbers = list(values)
    if not numbers:
        return "–"
    interval = mean_interval(numbers)
    text = f"{np.mean(numbers):.0%}"
    return f"{text} [{interval[0]:.0%}, {interval[1]:.0%}]" if interval else text


def write_robustness(folder: Path, run: GridRun) -> list[Path]:
    """robustness.csv, a line for each corrupted cell; lesions.csv, for each lesion; gap.csv; none empty."""
    corrupted = [
        cell_line(cell) | {"corruption": cell.corruption.kind, "level": cell.corruption.level}
        for cell in run.corrupted
        if cell.corruption
    ]
    found = [
        {
            "subject": cell.volume.subject,
            "contrast_of_volume": cell.volume.contrast,
            "volume": cell.volume.path.name,
            "method": cell.variant.name,
            "training_seed": cell.variant.seed,
            "mask": cell.setting.mask,
            "acceleration_asked": cell.setting.acceleration,
            **asdict(finding),
            "detected": finding.detected,
            "falsely_appears": finding.falsely_appears,
        }
        for cell in run.lesions
        for finding in cell.findings
    ]
    gap = [cell_line(cell) for cells in run.gap.values() for cell in cells]
    written = []
    for name, lines in (("robustness.csv", corrupted), ("lesions.csv", found), ("gap.csv", gap)):
        if lines:
            written.append(folder / name)
            write_table(written[-1], lines, list(lines[0]))
    return written


def _counts(finding: Finding, falsely: bool) -> bool:
    return finding.falsely_appears if falsely else finding.detected
