from itertools import product

import numpy as np
import pytest
from scipy import stats

from mrirecon.evaluation import statistics
from mrirecon.evaluation.statistics import (
    LEAST_UNITS,
    holm,
    mean_interval,
    median_interval,
    paired_changes,
    paired_differences,
    ranks,
    signed_rank_p,
)


def units(values) -> dict[str, float]:
    return {f"subject {number}": float(value) for number, value in enumerate(values)}


def test_the_signed_rank_p_is_that_of_all_sign_patterns() -> None:
    differences = np.array([0.3, -0.1, 0.7, 0.2, 0.5, -0.4, 0.9])
    order = np.argsort(np.argsort(np.abs(differences))) + 1
    seen = order[differences > 0].sum()
    sums = [order[np.array(signs)].sum() for signs in product([True, False], repeat=len(order))]
    middle = order.sum() / 2
    exact = np.mean([abs(total - middle) >= abs(seen - middle) for total in sums])
    assert signed_rank_p(differences) == pytest.approx(exact)
    assert signed_rank_p(differences) == pytest.approx(stats.wilcoxon(differences).pvalue)


def test_six_equal_signs_give_the_smallest_p_that_six_can() -> None:
    assert signed_rank_p([0.1, 0.2, 0.3, 0.4, 0.5, 0.6]) == pytest.approx(2 / 2**6)


def test_no_difference_at_all_gives_a_p_of_one() -> None:
    assert signed_rank_p(np.zeros(8)) == 1


def test_holm_on_a_worked_example() -> None:
    # 0.01·4, 0.02·3, 0.03·2 (may not fall below the one before), 0.04·1 (likewise)
    assert holm([0.03, 0.01, 0.04, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.9, 0.8]) == [1, 1]
    assert holm([]) == []


def test_the_interval_agrees_with_scipys_bootstrap() -> None:
    sample = np.random.default_rng(1).normal(3, 1, 40)
    theirs = stats.bootstrap((sample,), np.median, n_resamples=20_000, method="percentile", rng=2).confidence_interval
    assert median_interval(sample) == pytest.approx((theirs.low, theirs.high), abs=0.03)


def test_the_interval_covers_the_true_median_about_as_often_as_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "DRAWS", 500)
    rng = np.random.default_rng(0)
    covered = []
    for _ in range(60):
        low, high = median_interval(rng.exponential(size=25))
        covered.append(low <= np.log(2) <= high)
    assert 0.88 <= np.mean(covered) <= 1


def test_a_known_shift_is_found_and_noise_is_not() -> None:
    rng = np.random.default_rng(0)
    base = rng.normal(30, 3, 12)
    values = {
        "reference": units(base),
        "better": units(base + 1 + 0.1 * rng.standard_normal(12)),
        "same": units(base + 0.1 * rng.standard_normal(12)),
    }
    found = paired_differences(values, "reference")
    assert set(found) == {"better", "same"}
    assert found["better"].n == 12
    assert found["better"].median == pytest.approx(1, abs=0.1)
    assert found["better"].p == pytest.approx(2 * 2 / 2**12)  # all signs equal, times two methods
    low, high = found["better"].interval
    assert 0.8 < low < 1 < high < 1.2
    assert found["same"].p > 0.05
    low, high = found["same"].interval
    assert low < 0 < high


def test_with_few_units_there_are_values_and_no_p() -> None:
    few = LEAST_UNITS - 1
    found = paired_differences({"a": units(range(few)), "b": units(range(1, few + 1))}, "a")["b"]
    assert found.values == (1.0,) * few
    assert found.n == few
    assert found.p is None
    assert found.interval is None


def test_only_units_that_both_have_and_that_are_finite_count() -> None:
    values = {"a": {"x": 1.0, "y": 2.0, "z": np.inf}, "b": {"x": 1.5, "z": np.inf, "w": 9.0}}
    assert paired_differences(values, "a")["b"].values == (0.5,)
    assert paired_differences({"a": {"x": 1.0}, "b": {}}, "a")["b"].n == 0


def test_overlapping_intervals_are_not_ranked_against_each_other() -> None:
    intervals = {"best": (0.9, 0.95), "close": (0.86, 0.91), "middle": (0.85, 0.88), "poor": (0.5, 0.6), "few": None}
    assert ranks(intervals, higher_is_better=True) == {"best": 1, "close": 1, "middle": 2, "poor": 4, "few": None}
    assert ranks(intervals, higher_is_better=False)["poor"] == 1


def test_the_interval_of_a_mean_agrees_with_scipys_bootstrap() -> None:
    rates = np.random.default_rng(2).integers(0, 5, 20) / 4
    theirs = stats.bootstrap((rates,), np.mean, n_resamples=20_000, method="percentile", rng=2).confidence_interval
    assert mean_interval(rates) == pytest.approx((theirs.low, theirs.high), abs=0.02)
    assert mean_interval(rates[: LEAST_UNITS - 1]) is None


def test_changes_are_paired_by_unit_and_corrected_for_all_methods() -> None:
    rng = np.random.default_rng(3)
    changes = {"a": 1 + 0.1 * rng.normal(size=9), "b": rng.normal(size=9)}
    before = {name: units(rng.normal(size=9)) for name in "ab"}
    after = {
        name: {unit: value + change for (unit, value), change in zip(before[name].items(), changes[name], strict=True)}
        for name in "ab"
    }
    after["c"] = before["a"]
    found = paired_changes(before, after)
    assert list(found) == ["a", "b"]
    assert found["a"].median == pytest.approx(np.median(changes["a"]))
    raw = [stats.wilcoxon(changes[name]).pvalue for name in "ab"]
    assert [found["a"].p, found["b"].p] == pytest.approx(holm(raw))
