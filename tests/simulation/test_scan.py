import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mrirecon.errors import UsageError
from mrirecon.physics.fourier import ifftc
from mrirecon.simulation.scan import object_mean, simulate_scan


def disc(slices: int, height: int, width: int) -> np.ndarray:
    y, x = np.ogrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    return np.repeat(((x**2 + y**2 < 0.6) * 0.7).astype(np.float32)[None], slices, axis=0)


@settings(deadline=None, max_examples=15)
@given(st.integers(1, 3), st.integers(1, 5), st.integers(32, 41), st.integers(32, 41))
def test_shapes_and_types(slices: int, coils: int, height: int, width: int) -> None:
    kspace, target = simulate_scan(disc(slices, height, width), coils, 20, seed=0)
    assert kspace.shape == (slices, coils, height, width)
    assert target.shape == (slices, height, width)
    assert (kspace.dtype, target.dtype) == (np.complex64, np.float32)


def test_without_noise_the_target_is_the_image() -> None:
    images = disc(2, 48, 41)
    _, target = simulate_scan(images, 6, float("inf"), seed=1)
    np.testing.assert_allclose(target, images, atol=1e-5)


@pytest.mark.parametrize("snr", [5, 30])
def test_the_stated_snr_holds_in_each_coil(snr: float) -> None:
    images = disc(3, 64, 64)
    noisy, _ = simulate_scan(images, 8, snr, seed=2)
    clean, _ = simulate_scan(images, 8, float("inf"), seed=2)
    noise = ifftc(torch.from_numpy(noisy - clean)).numpy()
    std = np.sqrt((np.abs(noise) ** 2).mean(axis=(0, 2, 3)))
    np.testing.assert_allclose(object_mean(images) / std, snr, rtol=0.03)


def test_noise_is_correlated_between_neighbouring_coils_only_a_little() -> None:
    images = disc(2, 64, 64)
    noisy, _ = simulate_scan(images, 6, 10, seed=2)
    clean, _ = simulate_scan(images, 6, float("inf"), seed=2)
    samples = (noisy - clean).transpose(1, 0, 2, 3).reshape(6, -1)
    correlation = np.abs(np.corrcoef(samples))
    assert 0.08 < correlation[0, 1] < 0.3
    assert correlation[0, 3] < correlation[0, 1]


def test_a_complex_image_keeps_its_phase_and_a_real_one_gets_a_smooth_one() -> None:
    images = disc(1, 64, 64)
    inside = images[0] > 0
    kspaces = [simulate_scan(image, 4, float("inf"), seed=3)[0][0] for image in (images, images.astype(np.complex64))]
    with_phase, without = (ifftc(torch.from_numpy(k)).numpy() for k in kspaces)
    background = (with_phase * without.conj()).sum(axis=0)
    assert np.angle(background[inside]).std() > 0.2
    step = np.abs(np.angle(background[:, 1:] * background[:, :-1].conj()))
    assert step[inside[:, 1:] & inside[:, :-1]].max() < 1


@pytest.mark.parametrize(("coils", "snr"), [(0, 10), (4, 0), (4, -1), (4, float("nan"))])
def test_impossible_arrays_and_noise_are_refused(coils: int, snr: float) -> None:
    with pytest.raises(UsageError):
        simulate_scan(disc(1, 32, 32), coils, snr, seed=0)


@pytest.mark.parametrize("value", [0, np.nan])
def test_empty_images_are_refused(value: float) -> None:
    with pytest.raises(UsageError, match="nothing to simulate"):
        simulate_scan(np.full((1, 32, 32), value, dtype=np.float32), 2, 10, seed=0)
