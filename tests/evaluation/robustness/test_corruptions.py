from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from mrirecon.errors import UsageError
from mrirecon.evaluation.robustness import corruptions
from mrirecon.evaluation.robustness.corruptions import (
    CORRUPTIONS,
    MOVED_SHARE,
    Corruption,
    motion,
    noise,
    spike,
)
from mrirecon.evaluation.robustness.worst_case import measured_noise
from mrirecon.physics.fourier import ifftc
from mrirecon.physics.measurement import Measurement, Reconstructor
from mrirecon.reconstruction.pipeline import SliceData


class Recorder(Reconstructor):
    """Remembers what it was given."""

    def forward(self, measurement: Measurement) -> list[Tensor]:
        self.seen = measurement
        return [measurement.kspace[:, 0]]


def corrupted(kind: str, level: float, data: SliceData, scan: str = "scan") -> Measurement:
    recorder = Recorder()
    Corruption(kind, level).reconstruct(recorder, data, scan)
    return recorder.seen


def same(one: Measurement, other: Measurement) -> bool:
    assert one.sensitivities is not None
    assert other.sensitivities is not None
    near = torch.allclose(one.kspace, other.kspace, atol=1e-6)
    return near and torch.allclose(one.sensitivities, other.sensitivities, atol=1e-6)


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_level_zero_changes_nothing_and_more_does(kind: str, data: SliceData) -> None:
    level = 0.3 if kind == "fewer_lines" else 2.0
    assert same(corrupted(kind, 0, data), data.measurement)
    assert not same(corrupted(kind, level, data), data.measurement)


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_a_corruption_repeats_for_a_scan_and_leaves_what_was_not_measured_alone(kind: str, data: SliceData) -> None:
    level = 0.3 if kind == "fewer_lines" else 2.0
    before = data.measurement.kspace.clone()
    first = corrupted(kind, level, data)
    assert same(first, corrupted(kind, level, data))
    assert (first.kspace[~data.measurement.mask.expand_as(before)] == 0).all()
    assert torch.equal(data.measurement.kspace, before)


def test_other_scans_and_slices_get_other_noise(data: SliceData) -> None:
    first = corrupted("noise", 1, data)
    assert not same(first, corrupted("noise", 1, data, "another"))
    assert not same(first, corrupted("noise", 1, replace(data, index=1)))


def test_a_spike_changes_one_sample_of_every_coil(data: SliceData) -> None:
    measurement = spike(data.measurement, 0.5, np.random.default_rng(0))
    changed = (measurement.kspace != data.measurement.kspace)[0]
    assert changed.sum(dim=(1, 2)).tolist() == [1] * len(changed)
    assert changed.any(dim=0).sum() == 1
    size = (measurement.kspace - data.measurement.kspace)[0].abs().amax(dim=(1, 2))
    torch.testing.assert_close(size, 0.5 * data.measurement.kspace[0].abs().amax(dim=(1, 2)), rtol=1e-4, atol=1e-4)


def test_motion_turns_the_phase_of_a_share_of_the_columns(data: SliceData) -> None:
    before = data.measurement
    after = motion(before, 3.0, np.random.default_rng(0))
    torch.testing.assert_close(after.kspace.abs(), before.kspace.abs())
    changed = ((after.kspace - before.kspace).abs() > 1e-5).any(dim=1)[0].any(dim=0)
    measured = before.mask.expand(1, 1, *before.kspace.shape[-2:])[0, 0].any(dim=0)
    assert changed.sum() == pytest.approx(MOVED_SHARE * measured.sum(), abs=1)
    assert not (changed & ~measured).any()


def test_motion_of_all_encodes_by_whole_pixels_would_move_the_image(
    data: SliceData, monkeypatch: pytest.MonkeyPatch
) -> None:
    class East:
        def uniform(self, low: float, high: float) -> float:
            return 0.0  # the direction: along x

        def choice(self, values: np.ndarray, count: int, replace: bool) -> np.ndarray:
            return values

    monkeypatch.setattr(corruptions, "MOVED_SHARE", 1.0)
    moved = motion(data.measurement, 2, East())  # type: ignore[arg-type]
    expected = ifftc(data.measurement.kspace).roll(2, -1)
    torch.testing.assert_close(ifftc(moved.kspace), expected, atol=1e-4, rtol=1e-4)


def test_motion_is_along_rows_where_the_mask_varies_along_y(data: SliceData) -> None:
    rows = torch.zeros(1, 1, *data.measurement.kspace.shape[-2:], dtype=torch.bool)
    rows[..., ::2, :] = True
    measurement = replace(data.measurement, mask=rows, kspace=torch.ones_like(data.measurement.kspace) * rows)
    after = motion(measurement, 3.0, np.random.default_rng(0))
    changed = ((after.kspace - measurement.kspace).abs() > 1e-5)[0, 0]
    assert 0 < changed.any(dim=1).sum() < rows[0, 0].any(dim=1).sum()


def test_noise_of_level_one_is_as_strong_as_that_in_the_samples(data: SliceData) -> None:
    added = noise(data.measurement, 1, np.random.default_rng(0)).kspace - data.measurement.kspace
    measured = data.measurement.mask.expand_as(added)
    level = added[measured].abs().square().mean().sqrt()
    assert float(level) == pytest.approx(float(measured_noise(data.measurement)), rel=0.1)


def test_wrong_gains_leave_maps_of_length_one(data: SliceData) -> None:
    maps = corrupted("wrong_gains", 0.5, data).sensitivities
    assert maps is not None
    length = maps.abs().square().sum(dim=1).sqrt()[0]
    torch.testing.assert_close(length[data.support], torch.ones_like(length[data.support]))


def test_maps_of_a_corruption_are_worse_the_more_of_it(data: SliceData) -> None:
    def error(kind: str, level: float) -> float:
        maps, right = corrupted(kind, level, data).sensitivities, data.measurement.sensitivities
        assert maps is not None
        assert right is not None
        return float((1 - (maps.conj() * right).sum(dim=1).abs())[0][data.support].mean())

    for kind, low, high in (("shifted_maps", 1, 6), ("wrong_gains", 0.1, 1.0), ("noisy_maps", 1, 20)):
        assert error(kind, low) < error(kind, high)


def test_what_is_no_corruption_is_refused() -> None:
    with pytest.raises(UsageError, match="there is no 'gravity'; there are noise, motion"):
        Corruption("gravity", 1)
    with pytest.raises(UsageError, match="must be 0 or more"):
        Corruption("noise", -1)
