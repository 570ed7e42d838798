"""Paired statistics over volumes: what may be said of a difference, and what may not.

The unit is the subject, never the slice. Differences to a reference method are tested by Wilcoxon's signed ranks
(Biometrics Bulletin 1:80, 1945), corrected by Holm's procedure (Scand. J. Statist. 6:65, 1979), and shown with a
bootstrap interval of their median (Efron, Ann. Statist. 7:1, 1979). With fewer than 6 units the values are all there
is: not even six equal signs would reach 5 % with fewer.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

#: Fewer units than this give neither a p nor an interval.
LEAST_UNITS = 6
DRAWS = 10_000
CONFIDENCE = 0.95

Interval = tuple[float, float]


@dataclass(frozen=True)
class Difference:
    """Values of a method minus those of the reference, over the units that both have.

    values: one per unit. median: NaN without units. interval: 95 %, of the median; p: of no difference, corrected for
    the number of methods compared. Both None with fewer than LEAST_UNITS.
    """

    values: tuple[float, ...]
    median: float
    interval: Interval | None = None
    p: float | None = None

    @property
    def n(self) -> int:
        return len(self.values)


def median_interval(values: ArrayLike, seed: int = 0) -> Interval | None:
    """Bootstrap 95 % interval (percentiles) of the median of `values` (n,); None with fewer than LEAST_UNITS."""
    return _bootstrap_interval(values, np.median, seed)


def mean_interval(values: ArrayLike, seed: int = 0) -> Interval | None:
    """The same of the mean: for rates, whose median says little."""
    return _bootstrap_interval(values, np.mean, seed)


def _bootstrap_interval(values: ArrayLike, statistic: Callable[..., NDArray], seed: int) -> Interval | None:
    sample = np.asarray(values, dtype=np.float64)
    if sample.size < LEAST_UNITS:
        return None
    drawn = np.random.default_rng(seed).integers(sample.size, size=(DRAWS, sample.size))
    low, high = np.quantile(statistic(sample[drawn], axis=1), [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


def signed_rank_p(differences: ArrayLike) -> float:
    """Two-sided p of Wilcoxon's signed ranks; differences of zero are left out, and if all are zero it is 1."""
    from scipy.stats import wilcoxon

    values = np.asarray(differences, dtype=np.float64)
    return float(wilcoxon(values).pvalue) if np.any(values != 0) else 1.0


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p, in the order given: the k-th smallest of m times m − k + 1, never falling, at most 1."""
    order = np.argsort(p_values, kind="stable")
    factors = len(p_values) - np.arange(len(p_values))
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.minimum(np.maximum.accumulate(np.asarray(p_values)[order] * factors), 1)
    return adjusted.tolist()


def paired_differences(values: Mapping[str, Mapping[str, float]], reference: str) -> dict[str, Difference]:
    """Every other method against `reference`. values: method → unit → number.

    Units that either lacks, or whose difference is not finite, are left out. KeyError if there is no such reference.
    """
    return paired_changes(
        {method: values[reference] for method in values if method != reference},
        {method: theirs for method, theirs in values.items() if method != reference},
    )


def paired_changes(
    before: Mapping[str, Mapping[str, float]], after: Mapping[str, Mapping[str, float]]
) -> dict[str, Difference]:
    """What changed for each method that both have: `after` minus `before`, of method → unit → number.

    Units that either lacks, or whose difference is not finite, are left out.
    """
    found = {}
    for method in [method for method in before if method in after]:
        both = [after[method][unit] - before[method][unit] for unit in before[method] if unit in after[method]]
        finite = tuple(difference for difference in both if np.isfinite(difference))
        median = float(np.median(finite)) if finite else float("nan")
        p = signed_rank_p(finite) if len(finite) >= LEAST_UNITS else None
        found[method] = Difference(finite, median, median_interval(finite), p)
    tested = [method for method, difference in found.items() if difference.p is not None]
    corrected = holm([found[method].p or 0.0 for method in tested])
    return found | {method: replace(found[method], p=p) for method, p in zip(tested, corrected, strict=True)}


def ranks(intervals: Mapping[str, Interval | None], *, higher_is_better: bool) -> dict[str, int | None]:
    """Rank of each method: 1 + the number of methods whose interval lies wholly on the better side of its own.

    So methods with overlapping intervals are not ranked against each other. None without an interval.
    """

    def better(a: Interval, b: Interval) -> bool:
        return a[0] > b[1] if higher_is_better else a[1] < b[0]

    known = [interval for interval in intervals.values() if interval is not None]
    return {
        method: None if own is None else 1 + sum(better(other, own) for other in known)
        for method, own in intervals.items()
    }
