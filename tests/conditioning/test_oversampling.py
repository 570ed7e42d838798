"""Removal of readout oversampling: the same image, without its empty margins."""

import pickle
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from mrirecon.acquisition.scan import Header, Scan
from mrirecon.conditioning.oversampling import remove_readout_oversampling


@dataclass(frozen=True)
class Stored:
    """Slice index → k-space (coils, y, x)."""

    kspace: NDArray[np.complex64]

    def __call__(self, index: int) -> NDArray[np.complex64]:
        return self.kspace[index]


def to_image(kspace: NDArray) -> NDArray:
    axes = (-2, -1)
    return np.fft.fftshift(np.fft.ifft2(np.fft.ifftshift(kspace, axes=axes), norm="ortho"), axes=axes)


def to_kspace(image: NDArray) -> NDArray:
    axes = (-2, -1)
    shifted = np.fft.fft2(np.fft.ifftshift(image, axes=axes), norm="ortho")
    return np.fft.fftshift(shifted, axes=axes).astype(np.complex64)


def scan_of(kspace: NDArray[np.complex64], **header: object) -> Scan:
    kept = {"readout_axis": "x", "readout_kept": 16, **header}
    return Scan(Path("scan.h5"), "test", kspace.shape, Stored(kspace), header=Header(**kept))  # type: ignore[arg-type]


@pytest.fixture
def images() -> NDArray:
    rng = np.random.default_rng(0)
    return rng.normal(size=(2, 3, 12, 33)) + 1j * rng.normal(size=(2, 3, 12, 33))


@pytest.mark.parametrize("kept", [15, 16, 17])
@pytest.mark.parametrize("length", [32, 33])
def test_the_image_is_cropped_about_its_centre(images: NDArray, length: int, kept: int) -> None:
    images = images[..., :length]
    scan = remove_readout_oversampling(scan_of(to_kspace(images), readout_kept=kept))
    start = length // 2 - kept // 2
    assert scan.shape == (2, 3, 12, kept)
    for index in range(2):
        np.testing.assert_allclose(to_image(scan.kspace(index)), images[index, ..., start : start + kept], atol=1e-5)
    assert scan.header.readout_kept is None
    assert [step.name for step in scan.steps] == ["oversampling"]


def test_the_readout_may_be_y(images: NDArray) -> None:
    turned = images.swapaxes(2, 3)
    scan = remove_readout_oversampling(scan_of(to_kspace(turned), readout_axis="y"))
    assert scan.shape == (2, 3, 16, 12)
    np.testing.assert_allclose(to_image(scan.kspace(0)), turned[0, :, 8:24], atol=1e-5)


def test_noise_keeps_its_level() -> None:
    rng = np.random.default_rng(0)
    noise = (rng.normal(size=(1, 2, 64, 128)) + 1j * rng.normal(size=(1, 2, 64, 128))).astype(np.complex64)
    cropped = remove_readout_oversampling(scan_of(noise, readout_kept=64)).kspace(0)
    assert np.abs(cropped).std() == pytest.approx(np.abs(noise).std(), rel=0.03)


def test_lines_that_were_not_measured_stay_exactly_zero(images: NDArray) -> None:
    kspace = to_kspace(images)
    kspace[:, :, ::2] = 0
    cropped = remove_readout_oversampling(scan_of(kspace)).kspace(0)
    assert not cropped[:, ::2].any()
    assert cropped[:, 1::2].all()


def test_calibration_is_cropped_alike(images: NDArray) -> None:
    scan = scan_of(to_kspace(images))
    separate = Scan(scan.path, "test", scan.shape, scan.read_slice, scan.header, read_calibration=scan.read_slice)
    cropped = remove_readout_oversampling(separate)
    assert cropped.read_calibration is not None
    np.testing.assert_array_equal(cropped.read_calibration(1), cropped.read_slice(1))


@pytest.mark.parametrize(("kept", "axis"), [(None, "x"), (33, "x"), (40, "x"), (16, None)])
def test_nothing_is_done_where_nothing_is_oversampled(images: NDArray, kept: int | None, axis: str | None) -> None:
    scan = scan_of(to_kspace(images), readout_kept=kept, readout_axis=axis)
    assert remove_readout_oversampling(scan) is scan


@pytest.mark.parametrize(
    ("measured", "expected"),
    [((0, 64), (0, 32)), ((16, 64), (8, 32)), ((17, 64), (9, 32)), ((0, 49), (0, 25)), ((0, 48), (0, 24))],
)
def test_what_an_asymmetric_echo_left_out_stays_outside(measured: tuple[int, int], expected: tuple[int, int]) -> None:
    scan = scan_of(np.ones((1, 1, 4, 64), np.complex64), acquired=((1, 4), measured), readout_kept=32)
    assert remove_readout_oversampling(scan).header.acquired == ((1, 4), expected)


def test_the_stored_mask_follows() -> None:
    mask = np.zeros((12, 33), dtype=bool)
    mask[::3, 10:] = True
    scan = scan_of(np.ones((1, 1, 12, 33), np.complex64))
    masked = remove_readout_oversampling(
        Scan(scan.path, "test", scan.shape, scan.read_slice, scan.header, stored_mask=mask)
    )
    assert masked.stored_mask is not None
    assert masked.stored_mask.shape == (12, 16)
    np.testing.assert_array_equal(masked.stored_mask[1], False)
    # Sample 10 lies 6 before the centre of 33, that is 2.9 of 16.
    np.testing.assert_array_equal(masked.stored_mask[0], np.arange(16) >= 8 - 3)


def test_the_scan_crosses_process_borders(images: NDArray) -> None:
    scan = remove_readout_oversampling(scan_of(to_kspace(images)))
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(scan)).kspace(0), scan.kspace(0))
