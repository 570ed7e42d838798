from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch

from mrirecon.errors import InputError
from mrirecon.physics.fourier import fftc, ifftc
from mrirecon.simulation.images import (
    TISSUE_OF_LABEL,
    crop_to_measured,
    labels_to_image,
    load_labels,
    load_magnitude,
    load_magnitude_with_lesions,
    load_volume,
    random_contrast,
)
from mrirecon.simulation.phantom import head_phantom
from mrirecon.simulation.scan import simulate_scan


@pytest.fixture(scope="module")
def measured() -> np.ndarray:
    """A noisy magnitude image on the matrix that was measured."""
    images = head_phantom((96, 96), 1, "t2", seed=0).images
    return simulate_scan(images, 4, 25, seed=0)[1]


def zero_filled(image: np.ndarray, height: int, width: int) -> np.ndarray:
    kspace = fftc(torch.from_numpy(image)).numpy()
    top, left = height // 2 - image.shape[-2] // 2, width // 2 - image.shape[-1] // 2
    padded = np.zeros((*image.shape[:-2], height, width), dtype=np.complex64)
    padded[..., top : top + image.shape[-2], left : left + image.shape[-1]] = kspace
    return np.abs(ifftc(torch.from_numpy(padded)).numpy())


def save(path: Path, array: np.ndarray, axes: str = "RAS") -> Path:
    codes = nibabel.orientations.axcodes2ornt(tuple(axes))
    affine = np.zeros((4, 4))
    for column, (row, sign) in enumerate(codes):
        affine[int(row), column] = sign * (column + 1)
    affine[3, 3] = 1
    nibabel.save(nibabel.Nifti1Image(array, affine), path)
    return path


@pytest.mark.parametrize(("height", "width"), [(144, 96), (96, 137), (150, 128)])
def test_zero_filling_is_found_and_undone(measured: np.ndarray, height: int, width: int) -> None:
    cropped = crop_to_measured(zero_filled(measured, height, width))
    assert cropped.shape[1:] == pytest.approx((96, 96), abs=6)


def test_what_was_measured_in_full_is_left_alone(measured: np.ndarray) -> None:
    cropped = crop_to_measured(measured)
    assert cropped.shape == measured.shape
    np.testing.assert_allclose(cropped, measured, atol=1e-4)


def test_cropping_keeps_intensities(measured: np.ndarray) -> None:
    interpolated = zero_filled(measured, 144, 96) * (144 * 96 / measured[0].size) ** 0.5
    assert crop_to_measured(interpolated).mean() == pytest.approx(measured.mean(), rel=0.02)


def test_published_volumes_turn_out_as_their_providers_interpolated_them(shared: Path) -> None:
    folder = shared / "data" / "images"
    images, voxel = load_magnitude(folder / "ms" / "patient01_study1_FLAIR.nii.gz")
    height, width = images.shape[1:]
    assert 0.9 * 320 < height <= 320
    assert 0.6 * 320 < width < 0.72 * 320
    assert voxel[2] == pytest.approx(0.7187 * 320 / width, rel=1e-3)
    volume, _ = load_volume(folder / "other" / "spine_t2star_axial.nii.gz")
    assert crop_to_measured(volume.astype(np.float32)).shape == volume.shape


@pytest.mark.parametrize("axes", ["RAS", "LPS", "LIA", "PSR", "ASL"])
def test_axial_slices_are_oriented_as_radiologists_see_them(tmp_path: Path, axes: str) -> None:
    array = np.zeros((5, 6, 7), dtype=np.int16)
    # Codes name an axis' end: the first voxel of an axis ending at R lies leftmost. Mark right, anterior.
    corner = [n - 1 if code in "RA" else 0 for code, n in zip(axes, array.shape, strict=True)]
    array[tuple(corner)] = 1
    axis = next(i for i, code in enumerate(axes) if code in "SI")
    volume, sizes = load_volume(save(tmp_path / "a.nii", array, axes), axis)
    assert volume.any(axis=0)[0, 0], "the patient's right is on the left of the image, anterior on top"
    assert sizes[0] == pytest.approx(axis + 1)


def test_magnitude_volumes_are_normalised_and_empty_slices_dropped(tmp_path: Path, measured: np.ndarray) -> None:
    stack = np.concatenate([np.zeros_like(measured), 300 * measured, 900 * measured]).transpose(2, 1, 0)
    images, _ = load_magnitude(save(tmp_path / "m.nii.gz", stack))
    assert len(images) == 2
    np.testing.assert_allclose(np.percentile(images, 99.9, axis=(1, 2)), 1, atol=0.01)


def test_lesions_come_with_their_slices_on_the_measured_matrix(tmp_path: Path, measured: np.ndarray) -> None:
    stack = np.concatenate([100 * measured, zero_filled(measured, 96, 96), measured])
    interpolated = zero_filled(stack, 144, 96)
    mask = np.zeros(interpolated.shape, np.int16)
    mask[1:, 60:84, 30:50] = 2
    images = save(tmp_path / "image.nii.gz", interpolated.transpose(2, 1, 0), "LPS")
    found, lesions, voxel = load_magnitude_with_lesions(
        images, save(tmp_path / "l.nii", mask.transpose(2, 1, 0), "LPS")
    )
    assert len(found) == len(lesions) == 2
    assert found.shape == lesions.shape
    height = found.shape[1]
    assert voxel == (3, pytest.approx(2 * 144 / height), 1)
    rows, columns = (np.flatnonzero(lesions[0].any(axis=axis)) for axis in (1, 0))
    assert (rows[0], rows[-1] + 1) == (pytest.approx(60 * height / 144, abs=1), pytest.approx(84 * height / 144, abs=1))
    assert (columns[0], columns[-1]) == (30, 49)


def test_a_lesion_mask_must_fit_and_mark_something(tmp_path: Path, measured: np.ndarray) -> None:
    images = save(tmp_path / "image.nii", np.repeat(measured, 2, axis=0).transpose(2, 1, 0))
    with pytest.raises(InputError, match="shape"):
        load_magnitude_with_lesions(images, save(tmp_path / "other.nii", np.ones((96, 96, 3), np.int16)))
    with pytest.raises(InputError, match="no lesions"):
        load_magnitude_with_lesions(images, save(tmp_path / "none.nii", np.zeros((96, 96, 2), np.int16)))


def test_files_that_are_no_volume_are_explained(tmp_path: Path) -> None:
    (tmp_path / "text.nii").write_text("not an image")
    (tmp_path / "cut.nii.gz").write_bytes(save(tmp_path / "whole.nii.gz", np.ones((40, 40, 9))).read_bytes()[:200])
    save(tmp_path / "flat.nii", np.ones((8, 8)))
    save(tmp_path / "nan.nii", np.full((8, 8, 2), np.nan, dtype=np.float32))
    save(tmp_path / "zero.nii", np.zeros((8, 8, 2), dtype=np.float32))
    for name in ("missing.nii", "text.nii", "cut.nii.gz", "flat.nii", "nan.nii", "zero.nii"):
        with pytest.raises(InputError, match=name):
            load_magnitude(tmp_path / name)


def test_a_label_map_must_hold_integers(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a label map"):
        load_labels(save(tmp_path / "float.nii", np.full((4, 4, 4), 0.5, dtype=np.float32)))
    with pytest.raises(InputError, match="background"):
        load_labels(save(tmp_path / "empty.nii", np.zeros((4, 4, 4), dtype=np.int16)))
    labels, _ = load_labels(save(tmp_path / "good.nii", np.full((4, 4, 4), 41, dtype=np.float32)))
    assert (labels == 41).all()


def test_labels_get_their_tissues_signal_and_unknown_ones_that_of_muscle() -> None:
    image = labels_to_image(np.array([[0, 2, 3, 24, 999, 508]]), "t2")[0]
    air, white, grey, fluid, unknown, muscle = image
    assert air == 0 < muscle < white < grey < fluid == 1
    assert unknown == muscle


def test_the_labels_of_published_maps_are_known(shared: Path) -> None:
    labels, _ = load_labels(shared / "data" / "labels" / "head_labels_03.nii.gz", slice_axis=1)
    assert set(np.unique(labels)) <= set(TISSUE_OF_LABEL)


def test_random_contrasts_differ_and_stay_in_range() -> None:
    labels = np.kron(np.arange(16).reshape(4, 4), np.ones((8, 8), dtype=int))
    first, second = (random_contrast(labels, np.random.default_rng(seed)) for seed in (0, 1))
    assert first.dtype == np.float32
    assert first.shape == labels.shape
    assert 0 <= first.min() < first.max() <= 1
    assert np.abs(first - second).mean() > 0.05
    assert first[0:7, 0:7].max() < 0.1, "background stays dark"
    assert first[labels == 5].std() < 0.25 * first.std() + 0.1
