import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.signal import fftconvolve

from mrirecon.metrics import (
    HFEN_SIGMA,
    HFEN_SIGMA_DIRECT,
    SSIM_WINDOW,
    contrast_to_noise,
    flat_region,
    foreground,
    hfen,
    lesion_contrast,
    lesion_regions,
    log_kernel,
    nmse,
    psnr,
    psnr_slices,
    ssim,
    ssim_map,
    ssim_slices,
    unevenness,
)

METRICS = [nmse, psnr, ssim, hfen, psnr_slices, ssim_slices]


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


def test_ssim_and_psnr_agree_with_scikit_image(volumes: tuple[NDArray, NDArray]) -> None:
    skimage = pytest.importorskip("skimage.metrics")
    target, prediction = volumes
    peak = target.max()
    theirs = [skimage.structural_similarity(t, p, data_range=peak) for t, p in zip(target, prediction, strict=True)]
    # Theirs averages the map without the rim of half a window, as ours does.
    assert ssim(target, prediction) == pytest.approx(np.mean(theirs), abs=1e-9)
    assert psnr(target, prediction) == pytest.approx(
        skimage.peak_signal_noise_ratio(target, prediction, data_range=peak)
    )
    root = skimage.normalized_root_mse(target, prediction, normalization="euclidean")
    assert nmse(target, prediction) == pytest.approx(root**2)


def test_slice_wise_variants_use_each_slices_own_maximum(volumes: tuple[NDArray, NDArray]) -> None:
    skimage = pytest.importorskip("skimage.metrics")
    target, prediction = (v * np.array([1, 2, 3])[:, None, None] for v in volumes)
    pairs = list(zip(target, prediction, strict=True))
    similarity = [skimage.structural_similarity(t, p, data_range=t.max()) for t, p in pairs]
    peaks = [skimage.peak_signal_noise_ratio(t, p, data_range=t.max()) for t, p in pairs]
    assert ssim_slices(target, prediction) == pytest.approx(np.mean(similarity), abs=1e-9)
    assert psnr_slices(target, prediction) == pytest.approx(np.mean(peaks))
    assert ssim_slices(target, prediction) != pytest.approx(ssim(target, prediction))


def test_hfen_agrees_with_a_filter_by_fourier_transform(volumes: tuple[NDArray, NDArray]) -> None:
    target, prediction = volumes
    for sigma in (HFEN_SIGMA, HFEN_SIGMA_DIRECT):
        filtered = [[fftconvolve(s, log_kernel(sigma), mode="same") for s in v] for v in (target, prediction)]
        expected = np.linalg.norm(np.subtract(*filtered)) / np.linalg.norm(filtered[0])
        assert hfen(target, prediction, sigma=sigma) == pytest.approx(expected)


def test_the_laplacian_of_gaussian_is_that_of_the_analytic_second_derivatives() -> None:
    y, x = np.mgrid[-7:8, -7:8]
    impulse = np.zeros((15, 15))
    impulse[7, 7] = 1
    for sigma in (HFEN_SIGMA, HFEN_SIGMA_DIRECT):
        gaussian = gaussian_filter(impulse, sigma, truncate=7 / sigma)
        analytic = gaussian * (x**2 + y**2 - 2 * sigma**2) / sigma**4
        np.testing.assert_allclose(log_kernel(sigma), analytic - analytic.mean(), atol=1e-12)


def test_the_foreground_is_the_object_with_its_dark_inside() -> None:
    y, x = np.mgrid[-32:32, -32:32]
    head = ((y**2 + x**2 < 24**2) & ~(y**2 + x**2 < 6**2)).astype(float)[None]
    noisy = head + 0.01 * np.random.default_rng(0).random(head.shape)
    np.testing.assert_array_equal(foreground(noisy)[0], y**2 + x**2 < 24**2)


@pytest.fixture
def two_lesions() -> tuple[NDArray, NDArray]:
    """Tissue of 1 with two lesions of 1.5, five pixels apart; and their mask."""
    image, mask = np.ones((1, 40, 40)), np.zeros((1, 40, 40), dtype=bool)
    mask[0, 10:14, 10:14] = mask[0, 10:14, 18:22] = True
    mask[0, 30, 30] = True  # too small to count
    image[mask] = 1.5
    return image, mask


def test_a_lesions_contrast_is_against_a_ring_without_other_lesions(two_lesions: tuple[NDArray, NDArray]) -> None:
    image, mask = two_lesions
    regions = lesion_regions(mask, np.ones_like(mask))
    assert [region.inside.sum() for region in regions] == [16, 16]
    for region in regions:
        assert not region.ring[mask[0]].any()
        assert lesion_contrast(image, region) == pytest.approx(0.5)
    # Row 11 left of the first lesion, whose edge is at column 10: 2, 3 and 4 pixels away.
    np.testing.assert_array_equal(np.flatnonzero(regions[0].ring[11, :10]), [6, 7, 8])


def test_the_ring_stays_inside_the_support(two_lesions: tuple[NDArray, NDArray]) -> None:
    _, mask = two_lesions
    support = np.zeros_like(mask)
    support[0, :, 10:] = True
    assert not lesion_regions(mask, support)[0].ring[:, :10].any()
    assert lesion_regions(mask, mask) == []


def test_contrast_to_noise_falls_with_the_noise_and_contrast_does_not(two_lesions: tuple[NDArray, NDArray]) -> None:
    image, mask = two_lesions
    region = lesion_regions(mask, np.ones_like(mask))[0]
    noise = np.random.default_rng(0).standard_normal(image.shape)
    for level in (0.01, 0.05):
        noisy = image + level * noise
        assert contrast_to_noise(noisy, region) == pytest.approx(0.5 / level, rel=0.3)
        assert lesion_contrast(noisy, region) == pytest.approx(0.5, abs=0.03)


def test_noise_is_measured_in_the_most_even_part_of_the_object() -> None:
    rng = np.random.default_rng(0)
    image = 1 + 0.3 * rng.random((40, 40))
    image[20:29, 5:14] = 1 + 0.02 * rng.standard_normal((9, 9))
    support = np.ones((40, 40), dtype=bool)
    region = flat_region(image, support)
    assert region.sum() == 49
    assert region[20:29, 5:14].sum() == 49
    assert unevenness(image, region) == pytest.approx(0.02, rel=0.3)
    assert not flat_region(image, support & False).any()
    assert np.isnan(unevenness(image, support & False))
