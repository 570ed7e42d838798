import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from mrirecon.metrics import SSIM_WINDOW, hfen, log_kernel, nmse, psnr, ssim, ssim_map

METRICS = [nmse, psnr, ssim, hfen]


@pytest.fixture
def volumes() -> tuple[NDArray, NDArray]:
    generator = np.random.default_rng(0)
    target = generator.random((3, 32, 31))
    return target, np.abs(target + 0.1 * generator.standard_normal(target.shape))


def test_fastmri_definitions_are_reproduced(golden: Path) -> None:
    reference = np.load(golden / "fastmri_losses_metrics.npz")
    target, prediction = reference["in/target"], reference["in/pred"]
    assert nmse(target, prediction) == pytest.approx(float(reference["out/nmse"]), rel=1e-6)
    assert psnr(target, prediction) == pytest.approx(float(reference["out/psnr"]), abs=1e-5)
    assert ssim(target, prediction) == pytest.approx(float(reference["out/ssim"][0]), abs=1e-6)


def test_ssim_map_is_the_one_of_fastmris_loss(golden: Path) -> None:
    reference = np.load(golden / "fastmri_losses_metrics.npz")
    for index in range(3):
        data_range = float(reference["in/data_range"][index])
        similarity = ssim_map(
            reference["in/target"][index].astype(float), reference["in/pred"][index].astype(float), data_range
        )
        # Theirs is in single precision, where the variances cancel.
        np.testing.assert_allclose(1 - similarity, reference["out/ssim_loss_map"][index, 0], atol=2e-4)


def test_equal_volumes_are_perfect(volumes: tuple[NDArray, NDArray]) -> None:
    target, _ = volumes
    assert nmse(target, target) == 0
    assert psnr(target, target) == float("inf")
    assert ssim(target, target) == pytest.approx(1)
    assert hfen(target, target) == 0


@pytest.mark.parametrize("metric", METRICS)
def test_an_all_zero_target_gives_nan(metric, volumes: tuple[NDArray, NDArray]) -> None:
    assert np.isnan(metric(np.zeros_like(volumes[0]), volumes[1]))


@pytest.mark.parametrize("metric", METRICS)
def test_an_empty_support_gives_nan(metric, volumes: tuple[NDArray, NDArray]) -> None:
    assert np.isnan(metric(*volumes, np.zeros(volumes[0].shape, dtype=bool)))


@pytest.mark.parametrize("metric", METRICS)
def test_an_empty_slice_in_a_good_volume_stays_finite(metric, volumes: tuple[NDArray, NDArray]) -> None:
    target, prediction = (np.concatenate([v, np.zeros_like(v[:1])]) for v in volumes)
    assert np.isfinite(metric(target, prediction))


@pytest.mark.parametrize("metric", METRICS)
def test_a_common_scale_changes_nothing(metric, volumes: tuple[NDArray, NDArray]) -> None:
    target, prediction = volumes
    assert metric(1e-6 * target, 1e-6 * prediction) == pytest.approx(metric(target, prediction))


@pytest.mark.parametrize("metric", [nmse, psnr])
def test_errors_outside_the_support_do_not_count(metric, volumes: tuple[NDArray, NDArray]) -> None:
    target, prediction = volumes
    support = np.zeros(target.shape[1:], dtype=bool)
    support[8:20, 8:20] = True
    spoiled = np.where(support, prediction, 5.0)
    assert metric(target, spoiled, support) == metric(target, prediction, support) != metric(target, spoiled)


def test_ssim_and_hfen_see_the_support_through_their_windows(volumes: tuple[NDArray, NDArray]) -> None:
    target, prediction = volumes
    target[:, 4, 4] = 2.0  # the data range stays the volume's
    support = np.zeros(target.shape[1:], dtype=bool)
    support[16:20, 16:20] = True
    spoiled = prediction.copy()
    spoiled[:, :8] = 5.0
    for metric in (ssim, hfen):
        assert metric(target, spoiled, support) == pytest.approx(metric(target, prediction, support))
        assert metric(target, spoiled) != pytest.approx(metric(target, prediction))


def test_slices_without_support_do_not_count_in_ssim(volumes: tuple[NDArray, NDArray]) -> None:
    target, prediction = volumes
    support = np.ones(target.shape, dtype=bool)
    support[0] = False
    per_slice = [ssim_map(target[i], prediction[i], target.max()).mean() for i in (1, 2)]
    assert ssim(target, prediction, support) == pytest.approx(np.mean(per_slice))


def test_complex_nmse_sees_the_phase(volumes: tuple[NDArray, NDArray]) -> None:
    target = volumes[0].astype(complex)
    assert nmse(target, -target) == pytest.approx(4)
    assert nmse(np.abs(target), np.abs(-target)) == 0


def test_hfen_ignores_a_constant_offset_but_not_lost_detail(volumes: tuple[NDArray, NDArray]) -> None:
    target, _ = volumes
    middle = np.zeros(target.shape[1:], dtype=bool)
    middle[8:-8, 8:-8] = True  # away from the zero padding
    assert log_kernel(1.5).sum() == pytest.approx(0, abs=1e-12)
    assert hfen(target, target + 1, middle) == pytest.approx(0, abs=1e-9)
    assert hfen(target, np.full_like(target, target.mean()), middle) == pytest.approx(1)


@pytest.mark.parametrize("metric", METRICS)
def test_volumes_of_unlike_shape_and_single_slices_are_refused(metric, volumes: tuple[NDArray, NDArray]) -> None:
    target, prediction = volumes
    with pytest.raises(ValueError, match="volumes"):
        metric(target, prediction[:2])
    with pytest.raises(ValueError, match="volumes"):
        metric(target[0], prediction[0])


def test_slices_smaller_than_the_ssim_window_give_nan() -> None:
    tiny = np.ones((1, SSIM_WINDOW - 1, SSIM_WINDOW - 1))
    assert np.isnan(ssim(tiny, tiny))


def test_metrics_do_not_import_torch() -> None:
    code = "import sys, mrirecon.metrics; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
