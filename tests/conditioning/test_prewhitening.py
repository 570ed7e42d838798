"""Prewhitening: the noise afterwards is what is stated, and the images are less noisy for it."""

import logging
import pickle
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.io import loadmat

from mrirecon.acquisition.scan import Header, Noise, Scan
from mrirecon.conditioning.prewhitening import background_noise, noise_from_file, prewhiten
from mrirecon.errors import InputError
from mrirecon.simulation.phantom import head_phantom
from mrirecon.simulation.scan import simulate_slices

COILS = 4


@dataclass(frozen=True)
class Stored:
    """Slice index → k-space (coils, y, x)."""

    kspace: NDArray[np.complex64]

    def __call__(self, index: int) -> NDArray[np.complex64]:
        return self.kspace[index]


def scan_of(kspace: NDArray[np.complex64], **facts: object) -> Scan:
    given = {"header": Header(readout_axis="x"), **facts}
    return Scan(Path("scan.h5"), "test", kspace.shape, Stored(kspace), **given)  # type: ignore[arg-type]


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture
def mixing(rng: np.random.Generator) -> NDArray:
    """Noise = mixing @ white noise: strongly correlated and of unequal strength."""
    shared = 0.8 * np.ones((COILS, COILS)) + np.eye(COILS)
    return 1e-3 * shared * np.array([1, 3, 0.5, 8])[:, None] * np.exp(1j * rng.normal(size=(COILS, 1)))


def white(rng: np.random.Generator, *shape: int) -> NDArray:
    """E|n|² = 1."""
    return (rng.normal(size=shape) + 1j * rng.normal(size=shape)) / np.sqrt(2)


def covariance(samples: NDArray) -> NDArray:
    """Of samples (coils, ...)."""
    flat = samples.reshape(len(samples), -1).astype(complex)
    return flat @ flat.conj().T / flat.shape[1]


def error(found: NDArray, truth: NDArray) -> float:
    return float(np.linalg.norm(found - truth) / np.linalg.norm(truth))


def noise_of(samples: NDArray, sample_time_us: float = 0) -> Noise:
    return Noise(samples.astype(np.complex64), sample_time_us, "a noise scan")


def test_whitened_noise_has_unit_variance_in_both_parts(rng: np.random.Generator, mixing: NDArray) -> None:
    kspace = np.einsum("cd,sdyx->scyx", mixing, white(rng, 2, COILS, 96, 96)).astype(np.complex64)
    scan = prewhiten(scan_of(kspace), noise_of(mixing @ white(rng, COILS, 40000)))
    whitened = np.concatenate([k.reshape(COILS, -1) for k in scan], axis=1)
    np.testing.assert_allclose(covariance(whitened), 2 * np.eye(COILS), atol=0.05)
    np.testing.assert_allclose([whitened.real.var(), whitened.imag.var()], 1, atol=0.02)
    assert scan.noise_std == pytest.approx(np.sqrt(2))
    assert whitened.dtype == np.complex64


@pytest.mark.parametrize("bandwidth", [None, 0.9])
def test_noise_at_another_bandwidth_is_scaled_to_the_imaging_readouts(
    rng: np.random.Generator, mixing: NDArray, bandwidth: float | None
) -> None:
    # Density of noise per hertz d: a sample of dwell time t has variance d / t. The receiver's filter takes its share
    # away at the edges of the noise scan's band, and nothing inside the imaging band.
    imaging_us, noise_us = 8.0, 2.0
    kspace = (mixing @ white(rng, COILS, 96 * 96)).reshape(1, COILS, 96, 96) / np.sqrt(imaging_us)
    samples = np.sqrt(bandwidth or 0.793) * mixing @ white(rng, COILS, 40000) / np.sqrt(noise_us)
    scan = scan_of(kspace.astype(np.complex64), sample_time_us=imaging_us, noise_bandwidth=bandwidth)
    whitened = prewhiten(scan, noise_of(samples, noise_us))
    np.testing.assert_allclose(covariance(whitened.kspace(0)), 2 * np.eye(COILS), atol=0.08)
    assert "dwell time ratio 4," in whitened.steps[0].done


@pytest.mark.parametrize(("imaging_us", "noise_us"), [(None, 5.0), (8.0, 0.0)])
def test_without_both_dwell_times_the_noise_is_taken_as_it_is(
    rng: np.random.Generator, mixing: NDArray, imaging_us: float | None, noise_us: float
) -> None:
    kspace = (mixing @ white(rng, COILS, 96 * 96)).reshape(1, COILS, 96, 96).astype(np.complex64)
    scan = scan_of(kspace, sample_time_us=imaging_us, noise_bandwidth=0.5)
    whitened = prewhiten(scan, noise_of(mixing @ white(rng, COILS, 40000), noise_us))
    np.testing.assert_allclose(covariance(whitened.kspace(0)), 2 * np.eye(COILS), atol=0.08)


def test_averages_make_the_noise_weaker_than_the_unit(rng: np.random.Generator, mixing: NDArray) -> None:
    kspace = (mixing @ white(rng, COILS, 96 * 96)).reshape(1, COILS, 96, 96) / 2
    scan = prewhiten(scan_of(kspace.astype(np.complex64), averages=4.0), noise_of(mixing @ white(rng, COILS, 40000)))
    assert scan.noise_std is not None
    assert scan.kspace(0).std() == pytest.approx(scan.noise_std, rel=0.02)


def test_calibration_gets_the_same_matrix(rng: np.random.Generator, mixing: NDArray) -> None:
    kspace = white(rng, 1, COILS, 16, 16).astype(np.complex64)
    scan = prewhiten(scan_of(kspace, read_calibration=Stored(kspace)), noise_of(mixing @ white(rng, COILS, 400)))
    assert scan.read_calibration is not None
    np.testing.assert_array_equal(scan.read_calibration(0), scan.kspace(0))


def test_the_combined_image_is_less_noisy(rng: np.random.Generator) -> None:
    """SENSE at full sampling, S^H y with Σ|S|² = 1, of coils with unequal and correlated noise."""
    maps = np.stack([np.exp(1j * c) * np.full((64, 64), 0.5) for c in range(COILS)])
    mixing = (0.7 * np.ones((COILS, COILS)) + np.eye(COILS)) * np.array([1, 3, 1, 6])[:, None]
    noise = np.tensordot(mixing, white(rng, COILS, 64, 64), axes=1)
    scan = prewhiten(scan_of((maps + noise)[None].astype(np.complex64)), noise_of(mixing @ white(rng, COILS, 20000)))

    def spread(images: NDArray, maps: NDArray) -> float:
        combined = (maps.conj() * images).sum(axis=0) / (np.abs(maps) ** 2).sum(axis=0)
        return float((combined - 1).std())

    whitening = scan.read_slice.matrix  # type: ignore[attr-defined]
    whitened = spread(scan.kspace(0), np.tensordot(whitening, maps, axes=1))
    assert whitened < 0.5 * spread(maps + noise, maps)


def test_dead_and_dependent_coils_are_zero_and_named(
    rng: np.random.Generator, mixing: NDArray, caplog: pytest.LogCaptureFixture
) -> None:
    samples = np.concatenate([mixing @ white(rng, COILS, 4000), np.zeros((2, 4000))])
    samples[5] = 2 * samples[1] - 1j * samples[2]
    samples = samples[[4, 0, 1, 2, 3, 5]]
    scan = prewhiten(scan_of(white(rng, 1, 6, 16, 16).astype(np.complex64)), noise_of(samples))
    kspace = scan.kspace(0)
    np.testing.assert_array_equal(kspace.any(axis=(1, 2)), [False, True, True, True, True, False])
    assert "0, 5 of 6" in caplog.text
    assert "coils 0, 5" in scan.steps[0].done


def test_a_scan_without_noise_stays_as_it_is(rng: np.random.Generator, caplog: pytest.LogCaptureFixture) -> None:
    scan = scan_of(white(rng, 1, COILS, 16, 16).astype(np.complex64))
    same = prewhiten(scan, noise_of(np.zeros((COILS, 100))))
    assert same.read_slice is scan.read_slice
    assert same.noise_std is None
    assert "left out" in same.steps[0].done
    assert "not prewhitened" in caplog.text


def test_noise_of_another_coil_array_is_refused(rng: np.random.Generator) -> None:
    scan = scan_of(np.ones((1, COILS, 8, 8), np.complex64))
    with pytest.raises(InputError, match=r"4 coils.* 6"):
        prewhiten(scan, noise_of(white(rng, 6, 100)))


@pytest.mark.parametrize("correlated", [False, True])
def test_chance_correlations_of_few_samples_are_not_whitened(
    rng: np.random.Generator, mixing: NDArray, correlated: bool
) -> None:
    colour = mixing if correlated else np.eye(COILS)
    truth, coils = colour @ colour.conj().T, np.eye(COILS, dtype=np.complex64).reshape(1, COILS, 1, COILS)
    ours, plain = [], []
    for _ in range(50):
        samples = colour @ white(rng, COILS, 3 * COILS)
        matrix = prewhiten(scan_of(coils), noise_of(samples)).kspace(0)[:, 0]
        inverse = np.sqrt(2) * np.linalg.inv(np.linalg.cholesky(covariance(samples)))
        for whitening, found in ((matrix, ours), (inverse, plain)):
            found.append(np.linalg.cond(whitening @ truth @ whitening.conj().T))
    assert np.median(ours) < (1 if correlated else 0.6) * np.median(plain)


@pytest.mark.parametrize("samples", [0, 1, 2 * COILS - 1])
def test_too_little_noise_is_refused(rng: np.random.Generator, samples: int) -> None:
    scan = scan_of(np.ones((1, COILS, 8, 8), np.complex64))
    with pytest.raises(InputError, match="too few"):
        prewhiten(scan, noise_of(white(rng, COILS, samples)))


def test_the_scan_crosses_process_borders(rng: np.random.Generator) -> None:
    scan = prewhiten(scan_of(np.ones((1, COILS, 8, 8), np.complex64)), noise_of(white(rng, COILS, 100)))
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(scan)).kspace(0), scan.kspace(0))


# Noise from a file.


@pytest.mark.parametrize("shape", [(4, 500), (500, 4), (4, 20, 30), (20, 30, 4), (20, 4, 30), (1, 4, 500)])
def test_noise_arrays_are_taken_in_any_order(rng: np.random.Generator, tmp_path: Path, shape: tuple[int, ...]) -> None:
    samples = white(rng, *shape).astype(np.complex64)
    np.save(tmp_path / "noise.npy", samples)
    noise = noise_from_file(tmp_path / "noise.npy")
    assert noise.samples.shape == (4, samples.size // 4)
    assert noise.source == "noise file noise.npy"
    flat = np.moveaxis(samples, shape.index(4), 0).reshape(4, -1)
    np.testing.assert_array_equal(noise.samples, flat)


def test_noise_is_read_from_hdf5(rng: np.random.Generator, tmp_path: Path) -> None:
    samples = white(rng, 4, 500).astype(np.complex64)
    with h5py.File(tmp_path / "noise.h5", "w") as file:
        file["noise"] = samples
    np.testing.assert_array_equal(noise_from_file(tmp_path / "noise.h5").samples, samples)


@pytest.mark.parametrize("shape", [(50, 50), (4, 6, 100), (70, 200, 300)])
def test_noise_arrays_of_unclear_axes_are_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    np.save(tmp_path / "noise.npy", np.ones(shape, np.complex64))
    with pytest.raises(InputError, match="unclear"):
        noise_from_file(tmp_path / "noise.npy")


def test_what_holds_no_complex_array_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "noise.npy", np.ones((4, 100)))
    with pytest.raises(InputError, match="not complex"):
        noise_from_file(tmp_path / "noise.npy")


# Noise from the background.


@cache
def head(snr: float, oversampled: bool) -> NDArray[np.complex64]:
    """K-space (slices 2, coils 8, y, x) of a head."""
    images = head_phantom((128, 112), 2, "t2", seed=3).images
    if oversampled:
        images = np.pad(images, ((0, 0), (0, 0), (56, 56)))
    return np.stack(list(simulate_slices(images, 8, snr, seed=0)))


def simulated(snr: float, oversampled: bool) -> tuple[NDArray[np.complex64], NDArray[np.complex128]]:
    """K-space of a head and the covariance of its noise."""
    return head(snr, oversampled), covariance((head(snr, oversampled) - head(np.inf, oversampled)).swapaxes(0, 1))


def lines_of(rows: int, undersampled: bool) -> NDArray[np.bool_]:
    number = np.arange(rows)
    return (number % 4 == 0) | (np.abs(number - rows // 2) < 10) if undersampled else number >= 0


@pytest.mark.parametrize("snr", [10, 50])
@pytest.mark.parametrize("oversampled", [False, True], ids=["tight", "oversampled"])
@pytest.mark.parametrize("undersampled", [False, True], ids=["full", "undersampled"])
def test_background_has_the_covariance_of_the_noise(
    snr: float, oversampled: bool, undersampled: bool, caplog: pytest.LogCaptureFixture
) -> None:
    kspace, truth = simulated(snr, oversampled)
    kspace = kspace * lines_of(128, undersampled)[:, None]
    header = Header(readout_axis="x", readout_kept=112 if oversampled else None)
    noise = background_noise(scan_of(kspace, header=header))
    assert error(covariance(noise.samples), truth) < 0.15
    assert "no noise scan" in caplog.text


@pytest.mark.parametrize("readout", ["x", "y"])
def test_background_is_found_along_the_complete_lines_where_the_readout_is_unknown(readout: str) -> None:
    kspace, truth = simulated(30, False)
    kspace = kspace * lines_of(128, True)[:, None]
    kspace = np.ascontiguousarray(kspace.swapaxes(2, 3)) if readout == "y" else kspace
    noise = background_noise(scan_of(kspace, header=Header()))
    assert error(covariance(noise.samples), truth) < 0.15


def test_background_of_2d_undersampled_data_is_its_outermost_samples(rng: np.random.Generator) -> None:
    kspace, truth = simulated(8, False)
    mask = rng.random((128, 112)) < 0.3
    mask[54:74, 46:66] = True
    noise = background_noise(scan_of(kspace * mask, header=Header()))
    assert noise.samples.any(axis=0).all()
    assert error(covariance(noise.samples), truth) < 0.2


def test_background_of_a_3d_scan_is_read_from_its_outer_partitions(rng: np.random.Generator, mixing: NDArray) -> None:
    kspace = np.einsum("cd,sdyx->scyx", mixing, white(rng, 24, COILS, 24, 32)).astype(np.complex64)
    kspace[8:17] += 10  # whatever is in the middle must not be looked at
    kspace[:2] = 0
    noise = background_noise(scan_of(kspace, stack="partitions"))
    assert error(covariance(noise.samples), mixing @ mixing.conj().T) < 0.15


def test_the_unmeasured_part_of_a_readout_does_not_count(rng: np.random.Generator, mixing: NDArray) -> None:
    kspace = (mixing @ white(rng, COILS, 96 * 96)).reshape(1, COILS, 96, 96).astype(np.complex64)
    kspace[..., :32] = 0
    noise = background_noise(scan_of(kspace))
    assert error(covariance(noise.samples), mixing @ mixing.conj().T) < 0.15


def test_background_of_averaged_lines_is_scaled_to_one_readout(rng: np.random.Generator, mixing: NDArray) -> None:
    kspace = (mixing @ white(rng, COILS, 96 * 96)).reshape(1, COILS, 96, 96).astype(np.complex64) / 2
    scan = scan_of(kspace, averages=4.0, sample_time_us=5.0, noise_bandwidth=0.5)
    whitened = prewhiten(scan, background_noise(scan))
    assert whitened.kspace(0).std() == pytest.approx(np.sqrt(2) / 2, rel=0.05)
    assert whitened.noise_std == pytest.approx(np.sqrt(2) / 2)


@pytest.mark.parametrize("oversampled", [False, True])
@pytest.mark.parametrize("undersampled", [False, True])
def test_a_noiseless_scan_is_not_whitened(oversampled: bool, undersampled: bool) -> None:
    scan = scan_of(head(np.inf, oversampled) * lines_of(128, undersampled)[:, None])
    same = prewhiten(scan, background_noise(scan))
    assert same.read_slice is scan.read_slice
    assert "left out" in same.steps[0].done


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_a_tiny_scan_is_not_whitened(rng: np.random.Generator, size: int) -> None:
    scan = scan_of(white(rng, 1, 8, size, size).astype(np.complex64))
    assert "left out" in prewhiten(scan, background_noise(scan)).steps[0].done


@pytest.mark.parametrize("undersampled", [False, True])
@pytest.mark.parametrize("readout", ["y", "x"])
def test_background_of_a_real_scan_is_that_of_the_corners_of_its_image(
    shared: Path, undersampled: bool, readout: str
) -> None:
    stored = loadmat(shared / "data/kspace/brain_pd_8ch_256x256.mat")["full_kspace_data"].transpose(2, 0, 1)
    axes = (1, 2)
    image = np.fft.fftshift(np.fft.ifft2(np.fft.ifftshift(stored, axes=axes), norm="ortho"), axes=axes)
    edge = np.r_[12:32, 224:244]  # further out, the receiver's filter takes the noise away
    corners = covariance(image[:, edge][:, :, edge])
    lines = lines_of(256, undersampled)
    kspace = stored * (lines[:, None] if readout == "x" else lines)
    kspace = np.ascontiguousarray(kspace[None], dtype=np.complex64)
    noise = background_noise(scan_of(kspace, header=Header(readout_axis=readout)))
    assert error(covariance(noise.samples), corners) < 0.3


def test_one_coil_is_scaled_to_unit_noise(rng: np.random.Generator) -> None:
    scan = scan_of((3 * white(rng, 1, 1, 64, 64)).astype(np.complex64))
    whitened = prewhiten(scan, background_noise(scan))
    assert whitened.kspace(0).std() == pytest.approx(np.sqrt(2), rel=0.1)


def test_noise_that_is_not_finite_is_refused(rng: np.random.Generator) -> None:
    samples = white(rng, COILS, 100)
    samples[1, 5] = np.nan
    with pytest.raises(InputError, match="not finite"):
        prewhiten(scan_of(np.ones((1, COILS, 8, 8), np.complex64)), noise_of(samples))


def test_a_dwell_time_that_gives_no_whitening_is_refused(rng: np.random.Generator) -> None:
    scan = scan_of(np.ones((1, COILS, 8, 8), np.complex64), sample_time_us=5.0, noise_bandwidth=1e300)
    with pytest.raises(InputError, match="noise bandwidth 1e"):
        prewhiten(scan, noise_of(white(rng, COILS, 100), sample_time_us=5.0))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("largest", [1e30, 3e38])
def test_samples_that_are_too_large_for_single_precision_make_no_noise_on_the_terminal(
    rng: np.random.Generator, largest: float
) -> None:
    kspace = white(rng, 1, COILS, 16, 16).astype(np.complex64)
    kspace[0, 0, 3, 3] = largest
    assert not background_noise(scan_of(kspace)).samples.any()


def test_nan_in_the_k_space_is_refused_when_it_is_read(rng: np.random.Generator) -> None:
    kspace = np.ones((1, COILS, 8, 8), np.complex64)
    kspace[0, 1, 2, 3] = np.inf
    scan = prewhiten(scan_of(kspace), noise_of(white(rng, COILS, 100)))
    with pytest.raises(InputError, match="NaN or infinite"):
        replace(scan).kspace(0)


def test_warnings_are_for_people_not_for_every_scan(
    rng: np.random.Generator, mixing: NDArray, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        prewhiten(scan_of(np.ones((1, COILS, 8, 8), np.complex64)), noise_of(mixing @ white(rng, COILS, 400)))
    assert not caplog.records
