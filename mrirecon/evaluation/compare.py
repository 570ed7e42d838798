"""Did a change help? Two runs of `mrirecon evaluate`, paired by everything that both have."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mrirecon.errors import InputError, UsageError
from mrirecon.evaluation.evaluate import Table
from mrirecon.evaluation.grid.tables import MEASURES, Measure, difference_text, p_text
from mrirecon.evaluation.statistics import Difference, paired_differences

#: What makes two lines comparable, beside the method: the same volume, undersampled in the same way.
PLACE = ("data", "subject", "contrast", "volume", "mask", "acceleration_asked", "acs", "slices")
NEEDED = ("volume", "method", "mask", "acceleration_asked", "ssim")

Line = Mapping[str, str]


@dataclass(frozen=True)
class Comparison:
    """Method → measure → B minus A, over subjects; and what only one of the runs has."""

    differences: dict[str, dict[Measure, Difference]]
    unmatched: int

    def table(self) -> Table:
        """A line for each method."""
        columns = ["method", "n"]
        for measure in self._measures():
            columns += [f"{measure.heading}: B − A", "p"]
        lines = []
        for method, found in self.differences.items():
            cells = []
            for measure in self._measures():
                difference = found.get(measure)
                text = difference_text(difference, _finer(measure)) if difference else "–"
                cells += [text, p_text(difference)]
            n = sorted({difference.n for difference in found.values()})
            lines.append([method, "–".join(map(str, n)), *cells])
        return Table(columns, lines)

    def verdicts(self) -> list[str]:
        """For each method a sentence on its SSIM: better, worse, or nothing that can be claimed."""
        return [_verdict(method, found) for method, found in self.differences.items()]

    def _measures(self) -> list[Measure]:
        return [measure for measure in MEASURES if any(measure in found for found in self.differences.values())]


def compare(first: Path, second: Path) -> Comparison:
    """Compare two runs: folders with results.csv, or such files.

    Values are paired by volume, setting and method, and averaged over the settings of a subject before they are
    tested; p is corrected for the number of methods. Where a run holds one method and the other another, these two are
    paired. InputError for a file that is no such table, UsageError if nothing is in both.
    """
    a, b = read_results(first), read_results(second)
    methods_a, methods_b = (list(dict.fromkeys(line["method"] for line in lines)) for lines in (a, b))
    if len(methods_a) == len(methods_b) == 1:
        pairs = {methods_a[0]: methods_b[0]}
    else:
        pairs = {method: method for method in methods_a if method in methods_b}
    names = {own: own if own == other else f"{own} → {other}" for own, other in pairs.items()}
    found: dict[str, dict[Measure, Difference]] = {}
    matched = 0
    for measure in MEASURES:
        values_a, values_b = _values(a, measure), _values(b, measure)
        means: dict[str, dict[str, float]] = {"A": {}}
        for own, other in pairs.items():
            places = values_a.get(own, {}).keys() & values_b.get(other, {}).keys()
            matched += len(places) if measure.name == "ssim" else 0
            subjects: dict[str, list[float]] = {}
            for place in sorted(places):
                subjects.setdefault(_subject(place), []).append(values_b[other][place] - values_a[own][place])
            if subjects:
                means[names[own]] = {subject: float(np.mean(values)) for subject, values in subjects.items()}
                means["A"] |= dict.fromkeys(subjects, 0.0)
        for name, difference in paired_differences(means, "A").items():
            found.setdefault(name, {})[measure] = difference
    if not found:
        raise UsageError(
            f"{first} and {second} have no method, volume and setting in common; "
            f"the first has {', '.join(methods_a)}, the second {', '.join(methods_b)}."
        )
    return Comparison(found, len(a) + len(b) - 2 * matched)


def read_results(path: Path) -> list[Line]:
    """The lines of a results.csv, given itself or by its folder."""
    file = path / "results.csv" if path.is_dir() else path
    try:
        with file.open(newline="", encoding="utf-8") as table:
            lines: list[Line] = list(csv.DictReader(table))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{file}: cannot be read ({error}); give the folder of a run of mrirecon evaluate.") from error
    if missing := [name for name in NEEDED if not lines or name not in lines[0]]:
        raise InputError(f"{file}: has no lines with '{missing[0]}', so it is no results.csv of mrirecon evaluate.")
    return lines


def _values(lines: Sequence[Line], measure: Measure) -> dict[str, dict[tuple[str, ...], float]]:
    """Method → place → value; the mean over seeds of training."""
    collected: dict[str, dict[tuple[str, ...], list[float]]] = {}
    for line in lines:
        try:
            value = float(line.get(measure.name) or "nan")
        except ValueError:
            value = float("nan")
        if np.isfinite(value):
            place = tuple(line.get(name) or "" for name in PLACE)
            collected.setdefault(line["method"], {}).setdefault(place, []).append(value)
    return {
        method: {place: float(np.mean(values)) for place, values in places.items()}
        for method, places in collected.items()
    }


def _subject(place: tuple[str, ...]) -> str:
    """The unit that a place belongs to: the subject of its data set, or the volume where no subject is known."""
    data, subject, _, volume, *_ = place
    return f"{data} {subject or volume}"


def _finer(measure: Measure) -> str:
    """Differences are small: one more digit than the values have."""
    return f".{int(measure.form[1]) + 1}f"


def _verdict(method: str, found: Mapping[Measure, Difference]) -> str:
    measure, difference = next(iter(found.items()))
    text = f"{method}: {measure.heading[:-2]} {difference_text(difference, _finer(measure))}, n = {difference.n}"
    if difference.interval is None:
        return f"{text}: too few subjects for a claim."
    low, high = difference.interval
    if not (low > 0 or high < 0):
        return f"{text}: no difference can be claimed."
    better = (low > 0) == measure.higher_is_better
    return f"{text}: B is {'better' if better else 'worse'} (p = {p_text(difference)})."
