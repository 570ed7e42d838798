"""Methods take turns; floors are those of a count by hand; targets are judged as they are written."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from mrirecon.benchmark import measure, networks
from mrirecon.benchmark.classical import Quality
from mrirecon.benchmark.measure import Row, Settings, Turns, ratio, rows, take_turns
from mrirecon.benchmark.networks import Training, convolution_flops, count_flops
from mrirecon.benchmark.scaling import off_line
from mrirecon.benchmark.subjects import head, masks
from mrirecon.benchmark.targets import TARGETS, Target, target_of

NETWORK = {
    "model": {"class_path": "mrirecon.models.cirim.CIRIM", "init_args": {"cascades": 1, "channels": 4, "time_steps": 2}}
}


def row(section: str, name: str, *samples: float, **more: object) -> Row:
    return Row(section, name, "s", samples, **more)  # type: ignore[arg-type]


def test_flops_of_a_convolution_are_two_per_weight_and_output() -> None:
    layers = nn.Sequential(nn.Conv2d(2, 8, 5, padding=2), nn.ReLU(), nn.Conv2d(8, 3, 3, stride=2, padding=1))
    by_hand = 2 * (5 * 5 * 2) * 8 * 16 * 20 + 2 * (3 * 3 * 8) * 3 * 8 * 10
    assert count_flops(lambda: layers(torch.zeros(1, 2, 16, 20))) == by_hand


def test_flops_of_cirim_are_its_convolutions_whatever_the_coils(tiny: Settings) -> None:
    """Two time steps of 5 × 5, 1 × 1, 3 × 3, 1 × 1 and 3 × 3; backward as often for the inputs and for the weights."""
    pixels, layers = 48 * 48, (25 * 4 * 4, 4 * 4, 9 * 4 * 4, 4 * 4, 9 * 4 * 2)
    forward = 2 * 2 * pixels * sum(layers)
    backward = 2 * forward - 2 * pixels * layers[0]  # the first image needs no gradient
    for coils in (2, 3):
        settings = replace(tiny, coils=coils)
        subject = head(settings)
        training = Training(NETWORK, subject, subject.measured(masks(settings)["lines along y"]))
        assert convolution_flops(training) == (forward, forward + backward)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_floor_is_flops_over_the_rate_of_the_product_in_the_same_precision(
    precision: str, monkeypatch: pytest.MonkeyPatch, tiny: Settings
) -> None:
    def turns(methods, settings: Settings) -> dict[str, Turns]:
        return {name: Turns(({"fp32": 4.0, "bf16": 1.0}.get(name, 8.0),)) for name in methods}

    monkeypatch.setattr(networks, "take_turns", turns)
    monkeypatch.setattr(networks, "product_flops", lambda settings: 1000)
    measured = networks.measure_networks(replace(tiny, networks={"c": NETWORK}))
    found = next(r for r in measured if r.name == f"c, inference {precision}")
    flops = 2 * 2 * 48 * 48 * 648
    assert found.floor == pytest.approx(flops / 1000 * {"fp32": 4.0, "bf16": 1.0}[precision])
    assert found.note == f"{flops / 1e9:.4g} GFLOP of convolution"


def test_the_ratio_is_the_median_of_the_rounds_ratios_so_that_drift_cancels() -> None:
    assert ratio(Turns((2.0, 30.0, 4.0)), Turns((1.0, 10.0, 2.0))) == 2.0
    ours, theirs = rows("s", {"a": Turns((1.0, 10.0)), "a: peer": Turns((3.0, 30.0))}, floor=0.5)
    assert (ours.floor, ours.ratio, theirs.floor, theirs.ratio) == (0.5, None, None, 3.0)


def test_methods_take_turns(tiny: Settings) -> None:
    order = []
    methods = {name: lambda name=name: order.append(name) or torch.ones(10**7).sum() for name in "ab"}
    take_turns(methods, replace(tiny, rounds=3, quick=False))
    changes = "".join(name for name, before in zip(order, ["", *order], strict=False) if name != before)
    assert changes == "abababab"[: len(changes)]
    assert len(changes) >= 8


def test_slow_methods_are_neither_warmed_up_nor_repeated(monkeypatch: pytest.MonkeyPatch, tiny: Settings) -> None:
    for name in ("WARM_S", "SLOW_S"):
        monkeypatch.setattr(measure, name, 0)
    order: list[str] = []
    methods = {name: lambda name=name: order.append(name) for name in "ab"}
    turns = take_turns(methods, replace(tiny, rounds=5, quick=False))
    assert order == ["a", "b"]
    assert all(len(taken.seconds) == 1 for taken in turns.values())


def test_a_method_that_fails_costs_only_its_row(tiny: Settings) -> None:
    def broken() -> None:
        raise ValueError("no such thing")

    turns = take_turns({"a": lambda: None, "a: peer": broken}, tiny)
    ours, theirs = rows("s", turns)
    assert ours.samples
    assert (theirs.samples, theirs.ratio, theirs.note) == ((), None, "failed: ValueError: no such thing")


def test_an_interruption_is_not_taken_for_a_failure(tiny: Settings) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        take_turns({"a": interrupted}, tiny)


def test_least_iterations_to_a_quality() -> None:
    quality = Quality(0.01, {5: 29.0, 10: 30.0, 20: 30.96, 30: 31.0})
    assert quality.best == 31.0
    assert quality.least(31.0) == 20
    assert quality.least(29.5) == 10
    assert quality.least(31.2) is None


def test_points_of_a_straight_line_are_on_it_and_a_cliff_is_not() -> None:
    assert off_line([1, 2, 4], [3.0, 5.0, 9.0]) == pytest.approx([1, 1, 1])
    assert max(off_line([1, 2, 3, 4], [1.0, 2.0, 3.0, 40.0])) > 1.2


@pytest.mark.parametrize(
    ("target", "measured", "met"),
    [
        (Target("ratio", 4), row("s", "n", 1.0, ratio=4.0), True),
        (Target("ratio", 4), row("s", "n", 1.0, ratio=3.9), False),
        (Target("ratio", 4), row("s", "n"), None),
        (Target("floor", 1.15), row("s", "n", 1.1, 1.2, 1.3, floor=1.1), True),
        (Target("floor", 1.15), row("s", "n", 1.3, floor=1.1), False),
        (Target("value", 0.05), row("s", "n", 0.04), True),
        (Target("value", 0.05), row("s", "n", 0.06), False),
        (Target("value", 0.05), row("s", "n"), None),
    ],
)
def test_targets_are_judged(target: Target, measured: Row, met: bool | None) -> None:
    assert target.met(measured) is met


def test_targets_hold_for_the_standard_sizes_and_their_device_only() -> None:
    measured = row("espirit", "maps: bart ecalib", 1.0, ratio=3.0)
    assert target_of(measured, Settings()) == TARGETS[measured.key]
    assert target_of(measured, Settings(coils=4)) is None
    assert target_of(measured, Settings(device=torch.device("cuda"))) is None


def test_every_target_is_in_the_documentation() -> None:
    text = (Path(__file__).parents[2] / "docs" / "performance.md").read_text(encoding="utf-8")
    for target in TARGETS.values():
        if target.of == "ratio":
            assert target.text in text
