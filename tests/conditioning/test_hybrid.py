"""3D scans as stacks over the readout, and back to the images that are delivered."""

import gc
import pickle
import tracemalloc
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from mrirecon.acquisition.scan import Header, Scan
from mrirecon.conditioning.hybrid import delivered, to_hybrid
from mrirecon.errors import InputError

PARTITIONS, COILS, ROWS, READOUT = 10, 3, 12, 17


@dataclass
class Stored:
    """Partition index → k-space (coils, y, x); counts the reads."""

    kspace: NDArray[np.complex64]
    reads: int = 0

    def __call__(self, index: int) -> NDArray[np.complex64]:
        self.reads += 1
        return self.kspace[index]


def fourier(image: NDArray, axes: tuple[int, ...]) -> NDArray:
    shifted = np.fft.fftn(np.fft.ifftshift(image, axes=axes), axes=axes, norm="ortho")
    return np.fft.fftshift(shifted, axes=axes).astype(np.complex64)


def inverse(kspace: NDArray, axes: tuple[int, ...]) -> NDArray:
    shifted = np.fft.ifftn(np.fft.ifftshift(kspace, axes=axes), axes=axes, norm="ortho")
    return np.fft.fftshift(shifted, axes=axes)


@pytest.fixture
def volume() -> NDArray:
    """Coil images (partitions, coils, rows, readout)."""
    rng = np.random.default_rng(0)
    shape = (PARTITIONS, COILS, ROWS, READOUT)
    return rng.normal(size=shape) + 1j * rng.normal(size=shape)


def scan_of(kspace: NDArray[np.complex64], **header: object) -> Scan:
    known = Header(**{"readout_axis": "x", **header})  # type: ignore[arg-type]
    return Scan(Path("scan.h5"), "test", kspace.shape, Stored(kspace), header=known, stack="partitions")


def coil_images(scan: Scan) -> Iterator[tuple[int, NDArray]]:
    """Images of coil 1."""
    return ((index, inverse(kspace, (1, 2))[1]) for index, kspace in enumerate(scan))


def test_partitions_become_positions_along_the_readout(volume: NDArray) -> None:
    scan = to_hybrid(scan_of(fourier(volume, (0, 2, 3))))
    assert (scan.stack, scan.shape) == ("readouts", (READOUT, COILS, ROWS, PARTITIONS))
    for index, kspace in enumerate(scan):
        assert kspace.flags.c_contiguous
        assert kspace.dtype == np.complex64
        np.testing.assert_allclose(kspace, fourier(volume[..., index], (0, 2)).transpose(1, 2, 0), atol=1e-5)
    assert scan.header.readout_axis is None
    assert [step.name for step in scan.steps] == ["hybrid"]


def test_the_delivered_images_are_the_partitions_again(volume: NDArray) -> None:
    scan = to_hybrid(scan_of(fourier(volume, (0, 2, 3))))
    images = dict(delivered(coil_images(scan), scan))
    assert list(images) == list(range(PARTITIONS))
    for index, image in images.items():
        np.testing.assert_allclose(image, volume[index, 1], atol=1e-5)


@pytest.mark.parametrize(("rows", "readouts", "partitions"), [(6, 8, 6), (7, 9, 5), (12, 17, 10)])
def test_oversampled_partitions_and_readout_are_cropped_about_their_centre(
    volume: NDArray, rows: int, readouts: int, partitions: int
) -> None:
    header = {"recon_size": (rows, readouts), "recon_partitions": partitions}
    scan = to_hybrid(scan_of(fourier(volume, (0, 2, 3)), **header))
    assert scan.header.recon_size == (rows, partitions)
    assert scan.slices == readouts
    images = np.stack([image for _, image in delivered(coil_images(scan), scan)])
    part, read = PARTITIONS // 2 - partitions // 2, READOUT // 2 - readouts // 2
    expected = volume[part : part + partitions, 1, :, read : read + readouts]
    np.testing.assert_allclose(images, expected, atol=1e-5)


def test_a_stack_that_was_read_as_hybrid_is_delivered_as_partitions() -> None:
    scan = Scan(Path("scan.h5"), "test", (5, 1, 4, 3), Stored(np.zeros((5, 1, 4, 3), np.complex64)), stack="readouts")
    stack = np.arange(60.0).reshape(5, 4, 3)
    images = dict(delivered(iter(enumerate(stack)), scan))
    assert [image.shape for image in images.values()] == [(4, 5)] * 3
    np.testing.assert_array_equal(images[2][1], stack[:, 1, 2])


def test_positions_without_an_image_are_zero() -> None:
    scan = Scan(Path("scan.h5"), "test", (5, 1, 4, 3), Stored(np.zeros((5, 1, 4, 3), np.complex64)), stack="readouts")
    images = dict(delivered(iter([(1, np.ones((4, 3))), (4, np.ones((4, 3)))]), scan))
    np.testing.assert_array_equal(images[0].any(axis=0), [False, True, False, False, True])


def test_slices_pass_through() -> None:
    scan = replace(scan_of(np.zeros((2, 1, 4, 4), np.complex64)), stack="slices")
    images = [(0, np.ones((4, 4))), (1, np.zeros((4, 4)))]
    assert list(delivered(iter(images), scan)) == images


def test_samples_that_were_not_measured_stay_exactly_zero(volume: NDArray) -> None:
    kspace = fourier(volume, (0, 2, 3))
    kspace[::2, :, ::3] = 0
    kspace[3] = 0
    measured = (kspace != 0).any(axis=(1, 3))
    scan = to_hybrid(scan_of(kspace))
    np.testing.assert_array_equal((scan.kspace(7) != 0).all(axis=0), measured.T)
    np.testing.assert_array_equal((scan.kspace(7) != 0).any(axis=0), measured.T)


def test_noise_keeps_its_level() -> None:
    rng = np.random.default_rng(0)
    noise = (rng.normal(size=(20, 2, 20, 32)) + 1j * rng.normal(size=(20, 2, 20, 32))).astype(np.complex64)
    hybrid = np.stack(list(to_hybrid(scan_of(noise))))
    assert np.abs(hybrid).std() == pytest.approx(np.abs(noise).std(), rel=0.02)


def test_the_measured_range_is_that_of_the_phase_encodes(volume: NDArray) -> None:
    scan = to_hybrid(scan_of(fourier(volume, (0, 2, 3)), acquired=((2, 12), (5, 17))))
    assert scan.header.acquired == ((2, 12), (0, PARTITIONS))
    assert "not measured" in scan.steps[0].done


def test_calibration_of_a_part_of_the_partitions_is_transformed_too(volume: NDArray) -> None:
    kspace = fourier(volume, (0, 2, 3))
    calibration = np.zeros_like(kspace)
    calibration[4:7, :, 5:8] = kspace[4:7, :, 5:8]
    scan = scan_of(kspace)
    scan = to_hybrid(replace(scan, read_calibration=Stored(calibration)))
    assert scan.read_calibration is not None
    found = scan.read_calibration(3)
    np.testing.assert_allclose(found[:, 5:8, 4:7], scan.kspace(3)[:, 5:8, 4:7], atol=1e-6)
    found[:, 5:8, 4:7] = 0
    assert not found.any()


def test_the_volume_is_transformed_once(volume: NDArray) -> None:
    stored = scan_of(fourier(volume, (0, 2, 3)))
    scan = to_hybrid(stored)
    for _ in range(2):
        for index in range(scan.slices):
            scan.kspace(index)
    assert stored.read_slice.reads == PARTITIONS  # type: ignore[attr-defined]


def test_scans_of_the_same_file_do_not_share_a_volume(volume: NDArray) -> None:
    one, other = (scan_of(scale * fourier(volume, (0, 2, 3))) for scale in (1, 2))
    first, second = to_hybrid(one), to_hybrid(other)
    np.testing.assert_allclose(2 * first.kspace(1), second.kspace(1), rtol=1e-5)
    np.testing.assert_allclose(2 * first.kspace(2), second.kspace(2), rtol=1e-5)


def test_memory_holds_one_copy_of_the_volume() -> None:
    kspace = np.ones((32, 4, 48, 64), np.complex64)
    scans = [to_hybrid(scan_of(kspace)) for _ in range(2)]
    gc.collect()
    tracemalloc.start()
    for scan in scans:
        scan.kspace(0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1.4 * kspace.nbytes


def test_the_scan_crosses_process_borders(volume: NDArray) -> None:
    scan = to_hybrid(scan_of(fourier(volume, (0, 2, 3))))
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(scan)).kspace(3), scan.kspace(3))


def test_a_readout_that_is_not_the_last_axis_is_refused(volume: NDArray) -> None:
    with pytest.raises(InputError, match="readout"):
        to_hybrid(scan_of(fourier(volume, (0, 2, 3)), readout_axis="y"))
