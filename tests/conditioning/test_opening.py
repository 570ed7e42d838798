"""From a file to conditioned scans: which steps are done, in which order, and which options change them."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ismrmrd
import ismrmrd.xsd as xsd
import numpy as np
import pytest
from numpy.typing import NDArray

from mrirecon.conditioning.hybrid import delivered
from mrirecon.conditioning.opening import open_scan, open_scans
from mrirecon.conditioning.options import Conditioning
from mrirecon.errors import InputError, UsageError

COILS, ROWS, COLUMNS = 4, 24, 20
NOISE_STD = 0.02
AXES = "slice,coil,ky,kx"


def fourier(image: NDArray, axes: tuple[int, ...]) -> NDArray[np.complex64]:
    shifted = np.fft.fftn(np.fft.ifftshift(image, axes=axes), axes=axes, norm="ortho")
    return np.fft.fftshift(shifted, axes=axes).astype(np.complex64)


def inverse(kspace: NDArray, axes: tuple[int, ...]) -> NDArray:
    shifted = np.fft.ifftn(np.fft.ifftshift(kspace, axes=axes), axes=axes, norm="ortho")
    return np.fft.fftshift(shifted, axes=axes)


def white(*shape: int) -> NDArray:
    rng = np.random.default_rng(sum(shape))
    return NOISE_STD * (rng.normal(size=shape) + 1j * rng.normal(size=shape)) / np.sqrt(2)


def coil_images(slices: int) -> NDArray:
    """(slices, coils, rows, columns) with an oversampled, empty margin along the columns, different in each slice."""
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in (slices, ROWS, 2 * COLUMNS)), indexing="ij")
    phantom = ((y / 0.7) ** 2 + (x / 0.35) ** 2 < 1) * (1 + 0.5 * y + 0.2 * z)
    corners = [(a, b) for a in (-1, 1) for b in (-1, 1)]
    return np.stack([phantom * np.exp(-((y - a) ** 2) - (2 * x - b) ** 2 + 1j * a * x) for a, b in corners], axis=1)


@pytest.fixture
def array_file(tmp_path: Path) -> Path:
    kspace = fourier(coil_images(2), (2, 3)) + white(2, COILS, ROWS, 2 * COLUMNS)
    np.save(tmp_path / "scan.npy", kspace.astype(np.complex64))
    return tmp_path / "scan.npy"


@pytest.fixture
def raw_file(tmp_path: Path) -> Callable[..., Path]:
    """Writes an MRD file of slices or of partitions, readout oversampled, with the ismrmrd package."""

    def write(images: NDArray, *, three_d: bool = False, noise: bool = True) -> Path:
        def space(x: int) -> xsd.encodingSpaceType:
            depth = len(images) if three_d else 1
            return xsd.encodingSpaceType(
                matrixSize=xsd.matrixSizeType(x=x, y=ROWS, z=depth),
                fieldOfView_mm=xsd.fieldOfViewMm(x=10.0 * x, y=10.0 * ROWS, z=5.0 * depth),
            )

        def limit(n: int) -> xsd.limitType:
            return xsd.limitType(minimum=0, maximum=n - 1, center=n // 2)

        limits = xsd.encodingLimitsType(
            kspace_encoding_step_1=limit(ROWS), kspace_encoding_step_2=limit(len(images) if three_d else 1)
        )
        encoding = xsd.encodingType(
            encodedSpace=space(2 * COLUMNS),
            reconSpace=space(COLUMNS),
            encodingLimits=limits,
            trajectory=xsd.trajectoryType.CARTESIAN,
        )
        header = xsd.ismrmrdHeader(
            acquisitionSystemInformation=xsd.acquisitionSystemInformationType(relativeReceiverNoiseBandwidth=1.0),
            experimentalConditions=xsd.experimentalConditionsType(H1resonanceFrequency_Hz=63870000),
            encoding=[encoding],
        )
        kspace = fourier(images, (0, 2, 3) if three_d else (2, 3))
        kspace = kspace + white(*kspace.shape)
        with ismrmrd.Dataset(tmp_path / "raw.h5", "dataset") as file:
            file.write_xml_header(xsd.ToXML(header))
            if noise:
                scan = ismrmrd.Acquisition.from_array(white(COILS, 4000).astype(np.complex64))
                scan.setFlag(ismrmrd.ACQ_IS_NOISE_MEASUREMENT)
                scan.sample_time_us = 5.0
                file.append_acquisition(scan)
            for number, row in np.ndindex(len(images), ROWS):
                line = ismrmrd.Acquisition.from_array(np.ascontiguousarray(kspace[number, :, row], np.complex64))
                line.center_sample = COLUMNS
                line.sample_time_us = 5.0
                line.idx.kspace_encode_step_1 = row
                line.idx.kspace_encode_step_2, line.idx.slice = (number, 0) if three_d else (0, number)
                line.position[2] = 0.0 if three_d else 5.0 * number
                line.read_dir[0] = line.phase_dir[1] = line.slice_dir[2] = 1.0
                file.append_acquisition(line)
        return tmp_path / "raw.h5"

    return write


def names(steps: tuple) -> list[str]:
    return [step.name for step in steps]


def test_arrays_are_left_as_they_are(array_file: Path) -> None:
    scan = open_scan(array_file, axes=AXES)
    np.testing.assert_array_equal(scan.kspace(1), np.load(array_file)[1])
    assert scan.steps == ()
    assert scan.noise_std is None


def test_a_noise_file_whitens_arrays(array_file: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "noise.npy", white(5000, COILS))
    scan = open_scan(array_file, Conditioning(noise=tmp_path / "noise.npy"), axes=AXES)
    ratio = np.linalg.norm(scan.kspace(0)) / np.linalg.norm(np.load(array_file)[0])
    assert ratio == pytest.approx(np.sqrt(2) / NOISE_STD, rel=0.05)
    assert "noise file noise.npy" in scan.steps[0].done


def test_background_noise_is_taken_when_asked_for(array_file: Path) -> None:
    scan = open_scan(array_file, Conditioning(background_noise=True), axes="slice,coil,phase,readout")
    assert names(scan.steps) == ["prewhitening"]
    assert scan.noise_std == pytest.approx(np.sqrt(2))


@pytest.mark.parametrize(("coils", "kind"), [(2, "svd"), (0.5, "svd"), (2, "geometric")])
def test_coils_are_compressed_when_asked_for(array_file: Path, coils: float, kind: str) -> None:
    conditioning = Conditioning(coils=coils, compression=kind)  # type: ignore[arg-type]
    scan = open_scan(array_file, conditioning, axes="slice,coil,phase,readout")
    assert scan.coils == scan.kspace(0).shape[0] <= 2
    assert names(scan.steps) == ["compression"]


def test_a_noise_file_of_another_array_is_refused(array_file: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "noise.npy", white(COILS + 1, 5000))
    with pytest.raises(InputError, match="has 4 coils"):
        open_scan(array_file, Conditioning(noise=tmp_path / "noise.npy"), axes=AXES)


@pytest.mark.parametrize("options", [{"skip": ("prewhitening",)}, {"noise": Path("noise.h5")}])
def test_the_backgrounds_noise_and_what_contradicts_it_are_not_both_asked_for(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="leave one option out"):
        Conditioning(background_noise=True, **options)


@pytest.mark.parametrize("coils", [0, -1, 2.5, np.inf, np.nan])
def test_impossible_numbers_of_coils_are_refused(coils: float) -> None:
    with pytest.raises(UsageError, match="coils"):
        Conditioning(coils=coils)


def test_raw_data_is_whitened_and_cropped(raw_file: Callable[..., Path]) -> None:
    images = coil_images(2)
    scan = open_scan(raw_file(images))
    assert scan.shape == (2, COILS, ROWS, COLUMNS)
    assert [name for name in names(scan.steps) if name in ("prewhitening", "oversampling")] == [
        "prewhitening",
        "oversampling",
    ]
    expected = images[0, ..., COLUMNS // 2 : COLUMNS // 2 + COLUMNS]
    found = np.linalg.norm(inverse(scan.kspace(0), (1, 2)), axis=0) * NOISE_STD / np.sqrt(2)
    assert np.linalg.norm(found - np.linalg.norm(expected, axis=0)) < 0.2 * np.linalg.norm(expected)


def test_steps_of_raw_data_are_left_out_when_asked(raw_file: Callable[..., Path]) -> None:
    images = coil_images(2)
    scan = open_scan(raw_file(images), Conditioning(skip=("prewhitening", "oversampling")))
    assert scan.shape == (2, COILS, ROWS, 2 * COLUMNS)
    assert scan.noise_std is None
    np.testing.assert_allclose(inverse(scan.kspace(1), (1, 2)), images[1], atol=6 * NOISE_STD)


def test_raw_data_without_a_noise_scan_is_whitened_by_its_background(
    raw_file: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    scan = open_scan(raw_file(coil_images(2), noise=False))
    assert scan.noise_std == pytest.approx(np.sqrt(2))
    assert "no noise scan" in caplog.text


def test_3d_raw_data_becomes_a_stack_over_the_readout_and_is_delivered_as_partitions(
    raw_file: Callable[..., Path],
) -> None:
    images = coil_images(6)
    scan = open_scan(raw_file(images, three_d=True), Conditioning(skip=("prewhitening",)))
    assert (scan.stack, scan.shape) == ("readouts", (COLUMNS, COILS, ROWS, 6))
    found = delivered(((index, inverse(kspace, (1, 2))[2]) for index, kspace in enumerate(scan)), scan)
    expected = images[:, 2, :, COLUMNS // 2 : COLUMNS // 2 + COLUMNS]
    np.testing.assert_allclose(np.stack([image for _, image in found]), expected, atol=6 * NOISE_STD)


@pytest.mark.parametrize("three_d", [False, True])
def test_conditioned_scans_cross_process_borders(raw_file: Callable[..., Path], three_d: bool) -> None:
    (scan,) = open_scans(raw_file(coil_images(3), three_d=three_d), Conditioning(coils=3, compression="geometric"))
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(scan)).kspace(1), scan.kspace(1))


def test_without_the_scale_methods_see_k_space_as_it_is(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    kspace = 40 * (rng.standard_normal((3, 32, 24)) + 1j * rng.standard_normal((3, 32, 24))).astype(np.complex64)
    np.save(tmp_path / "scan.npy", kspace)
    scaled = open_scan(tmp_path / "scan.npy", axes="coil,ky,kx")
    plain = open_scan(tmp_path / "scan.npy", Conditioning(skip=("scale",)), axes="coil,ky,kx")
    assert scaled.survey.scale > 2
    assert plain.survey.scale == 1
    assert plain.steps[-1].name == "scale"
