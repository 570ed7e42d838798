import numpy as np
import pytest

from mrirecon.acquisition.scan import Scan
from mrirecon.errors import InputError


def scan_of(kspace, tmp_path):
    return Scan(tmp_path / "memory", "memory", kspace.shape, lambda index: kspace[index])


def test_scale_is_the_brightness_of_the_image(kspace, tmp_path):
    full = np.fft.ifft2(np.fft.ifftshift(kspace, axes=(2, 3)), norm="ortho")
    brightest = np.percentile(np.sqrt((abs(full) ** 2).sum(axis=1)), 99)
    assert scan_of(kspace, tmp_path).survey.scale == pytest.approx(brightest, rel=0.15)


def test_scale_follows_the_data_and_ignores_high_frequencies(kspace, tmp_path):
    scale = scan_of(kspace, tmp_path).survey.scale
    undersampled = kspace.copy()
    undersampled[..., ::2, :10] = 0
    assert scan_of(undersampled, tmp_path).survey.scale == pytest.approx(scale)
    assert scan_of(1e-6 * kspace, tmp_path).survey.scale == pytest.approx(1e-6 * scale)


def test_matrices_smaller_than_the_block_have_a_scale(tmp_path):
    assert scan_of(np.ones((1, 1, 7, 5), dtype=np.complex64), tmp_path).survey.scale > 0


@pytest.mark.parametrize("shape", [(0, 4, 8, 8), (1, 0, 8, 8), (1, 4, 8, 0)])
def test_empty_kspace_is_refused(shape, tmp_path):
    with pytest.raises(InputError, match="holds no k-space"):
        scan_of(np.zeros(shape, dtype=np.complex64), tmp_path)


@pytest.mark.parametrize("value", [np.nan, np.inf, complex(0, np.nan)])
def test_nan_and_infinity_are_refused_with_the_slice(kspace, tmp_path, value):
    kspace = kspace.copy()
    kspace[1, 0, 5, 5] = value
    with pytest.raises(InputError, match="slice 1 holds NaN"):
        _ = scan_of(kspace, tmp_path).survey
