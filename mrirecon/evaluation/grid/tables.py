"""What a run's cells say: values by subject, with intervals, differences and ranks; and the CSV behind it all."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from mrirecon.evaluation.evaluate import Setting, Table
from mrirecon.evaluation.figures import mask_label
from mrirecon.evaluation.grid.results import OWN, Cell, GridRun
from mrirecon.evaluation.rows import write_table
from mrirecon.evaluation.statistics import Difference, Interval, median_interval, paired_differences, ranks

T = TypeVar("T")


@dataclass(frozen=True)
class Measure:
    """A column of a table: the field of a row, its heading, its format, and which way is better."""

    name: str
    heading: str
    form: str
    higher_is_better: bool


SSIM = Measure("ssim", "SSIM ↑", ".3f", True)
PSNR = Measure("psnr", "PSNR (dB) ↑", ".1f", True)
MEASURES = (
    SSIM,
    PSNR,
    Measure("ssim_foreground", "SSIM in tissue ↑", ".3f", True),
    Measure("nmse", "NMSE ↓", ".4f", False),
    Measure("complex_nmse", "complex NMSE ↓", ".4f", False),
    Measure("hfen", "HFEN ↓", ".3f", False),
    Measure("lesion_contrast_error", "lesion contrast error ↓", ".3f", False),
)
#: Columns that time decides: not in results.csv, which repeats to the last digit.
TIMES = ("seconds", "seconds_per_slice_median", "device", "method", "volume", "seed")
#: method → subject → value.
Values = dict[str, dict[str, float]]


def values_of(cells: Iterable[Cell], measure: Measure) -> Values:
    """Per method and subject, the mean over the subject's volumes, settings and seeds of training.

    Subjects of different data sets are different. Rows without the value are left out.
    """
    collected: dict[str, dict[str, list[float]]] = {}
    for cell in cells:
        value = getattr(cell.row, measure.name)
        if value is not None:
            subjects = collected.setdefault(cell.variant.name, {})
            subjects.setdefault(f"{cell.volume.data} {cell.volume.subject}", []).append(value)
    return {
        method: {subject: float(np.mean(numbers)) for subject, numbers in subjects.items()}
        for method, subjects in collected.items()
    }


def intervals_of(values: Mapping[str, Mapping[str, float]]) -> dict[str, Interval | None]:
    """The interval of each method's median."""
    return {method: median_interval(list(subjects.values())) for method, subjects in values.items()}


def trained_for(run: GridRun) -> list[Cell]:
    """The cells of the data set and the settings that networks are trained for."""
    return [cell for cell in run.cells if cell.volume.data == OWN and not is_unseen(run, cell.setting)]


def is_unseen(run: GridRun, setting: Setting) -> bool:
    """Whether the setting was never trained for."""
    return (setting.mask, setting.acceleration) in run.grid.unseen


def groups(cells: Iterable[T], by: Callable[[T], Any]) -> dict[Any, list[T]]:
    """Cells by what `by` says of them, in order of appearance."""
    found: dict[Any, list[T]] = {}
    for cell in cells:
        found.setdefault(by(cell), []).append(cell)
    return found


def ranked_table(cells: Sequence[Cell], reference: str) -> Table:
    """All methods by their median SSIM, with rank, interval, and difference to the reference; other measures beside."""
    by_measure = {measure: values_of(cells, measure) for measure in MEASURES}
    shown = [measure for measure in MEASURES if by_measure[measure]]
    ssim = by_measure[SSIM]
    places = ranks(intervals_of(ssim), higher_is_better=True)
    differences = paired_differences(ssim, reference) if reference in ssim else {}
    others = shown[1:]
    columns = ["rank", "method", "n", SSIM.heading, f"SSIM − {reference}", "p (Holm)", *(m.heading for m in others)]
    lines = []
    for method in sorted(ssim, key=lambda method: -median(ssim[method].values())):
        difference = differences.get(method)
        change = difference_text(difference, ".4f") if difference else "reference" if method == reference else "–"
        beside = [median_text(by_measure[measure].get(method, {}).values(), measure.form) for measure in others]
        middle = median_text(ssim[method].values(), SSIM.form)
        n = str(len(ssim[method]))
        lines.append([str(places[method] or "–"), method, n, middle, change, p_text(difference), *beside])
    return Table(columns, lines)


def setting_table(cells: Sequence[Cell], measure: Measure) -> Table:
    """A line for each method, a column for each setting: the median with its interval or range, and n."""
    by_setting = groups(cells, lambda cell: cell.setting)
    values = {setting: values_of(some, measure) for setting, some in by_setting.items()}
    methods = dict.fromkeys(cell.variant.name for cell in cells)
    columns = ["method", *(setting_label(setting) for setting in by_setting), "n"]
    lines = []
    for method in methods:
        numbers = [values[setting].get(method, {}).values() for setting in by_setting]
        counts = sorted({len(some) for some in numbers})
        lines.append([method, *(median_text(some, measure.form) for some in numbers), "–".join(map(str, counts))])
    return Table(columns, lines)


def speed_table(run: GridRun) -> Table:
    """Time, memory and parameters of each method."""
    lines = [
        [
            method,
            f"{facts['parameters']:,}",
            f"{facts['seconds_per_slice']:.3f}",
            f"{facts['peak_mb']:.0f}",
            f"{facts['device']}, {facts['threads']} thread{'s' * (facts['threads'] != 1)}",
        ]
        for method, facts in run.speeds.items()
    ]
    return Table(["method", "parameters", "s / slice", "peak (MB)", "on"], lines)


def tuning_table(run: GridRun) -> Table:
    """The values that were chosen on the validation split."""
    lines = [
        [method, contrast, setting, f"{facts['argument']} = {facts['value']}", ", ".join(map(str, facts["values"]))]
        for (method, contrast, setting), facts in run.tuned.items()
    ]
    return Table(["method", "contrast", "setting", "chosen", "tried"], lines)


def consistency_pairs(cells: Sequence[Cell], measure: Measure) -> dict[str, Difference]:
    """For each network with several forms of data consistency: each later form minus its first, by subject."""
    values = values_of(cells, measure)
    found: dict[str, Difference] = {}
    for method, some in groups(cells, lambda cell: cell.variant.method).items():
        forms = list(dict.fromkeys(cell.variant.name for cell in some))
        consistencies = {cell.variant.name: cell.variant.consistency for cell in some}
        differences = paired_differences({form: values[form] for form in forms}, forms[0])
        for form, difference in differences.items():
            found[f"{method}: {consistencies[form]} − {consistencies[forms[0]]}"] = difference
    return found


def setting_label(setting: Setting) -> str:
    """Mask and acceleration as a heading."""
    return f"{mask_label(setting.mask)} {setting.acceleration:g}×"


def median(values: Iterable[float]) -> float:
    """Median; NaN of nothing."""
    numbers = list(values)
    return float(np.median(numbers)) if numbers else float("nan")


def median_text(values: Iterable[float], form: str) -> str:
    """Median with its 95 % interval in square brackets; with few values, the values."""
    numbers = sorted(values)
    if not numbers:
        return "–"
    if interval := median_interval(numbers):
        return f"{median(numbers):{form}} [{interval[0]:{form}}, {interval[1]:{form}}]"
    return "; ".join(format(number, form) for number in numbers)


def difference_text(difference: Difference, form: str) -> str:
    """Median difference with its interval; with few values, the values."""
    if difference.interval:
        low, high = difference.interval
        return f"{difference.median:+{form}} [{low:+{form}}, {high:+{form}}]"
    return "; ".join(f"{value:+{form}}" for value in sorted(difference.values)) or "–"


def p_text(difference: Difference | None) -> str:
    """The corrected p, or why there is none."""
    if difference is None:
        return "–"
    if difference.p is None:
        return f"n = {difference.n}"
    return "< 0.001" if difference.p < 0.001 else f"{difference.p:.3f}"


def write_results(folder: Path, run: GridRun) -> list[Path]:
    """results.csv, a line for each cell, the same to the last digit for the same seeds; and speed.csv."""
    lines = [cell_line(cell) for cell in run.cells]
    results, speed = folder / "results.csv", folder / "speed.csv"
    write_table(results, lines, list(lines[0]))
    speeds = [{"method": method, **facts} for method, facts in run.speeds.items()]
    columns = list(speeds[0]) if speeds else ["method"]
    write_table(speed, speeds, columns)
    return [results, speed]


def cell_line(cell: Cell) -> dict[str, Any]:
    """A cell as a line of a CSV, without what time decides."""
    volume, variant = cell.volume, cell.variant
    place = {
        "data": volume.data,
        "subject": volume.subject,
        "contrast": volume.contrast,
        "volume": volume.path.name,
        "method": variant.name,
        "network": variant.method,
        "data_consistency": variant.consistency,
        "training_seed": variant.seed,
        "oracle": cell.oracle,
    }
    return place | {name: value for name, value in asdict(cell.row).items() if name not in TIMES}
