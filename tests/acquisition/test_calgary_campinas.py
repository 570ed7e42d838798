"""The Calgary-Campinas layout, written as published: (x, ky, kz, 2 × coils), images by plain ifft2, 85 % of kz."""

import pickle

import h5py
import numpy as np
import pytest

from mrirecon.acquisition.array_files import open_arrays
from mrirecon.acquisition.sampling import sampling_of
from mrirecon.errors import InputError

RNG = np.random.default_rng(3)


def phantom(height, width, positions=5, coils=6):
    """Complex coil images (positions, y, x, coils) of an ellipsoid that lies off the centre, darker at one side."""
    z, y, x = np.mgrid[-1 : 1 : positions * 1j, -1 : 1 : height * 1j, -1 : 1 : width * 1j]
    body = (z**2 / 2 + (y / 0.8) ** 2 + ((x - 0.2) / 0.6) ** 2 < 1) * (1 + 0.5 * y + 0.3 * z)
    centres = RNG.uniform(-1, 1, (coils, 2))
    return np.stack([body * np.exp(-((y - a) ** 2) - (x - b) ** 2 + 1j * (a * x + b)) for a, b in centres], axis=-1)


def write(path, kspace, **others):
    """K-space (positions, ky, kz, coils), real and imaginary parts interleaved."""
    with h5py.File(path, "w") as file:
        file["kspace"] = np.stack([kspace.real, kspace.imag], axis=-1).reshape(*kspace.shape[:3], -1).astype("f4")
        for name, item in others.items():
            file[name] = item
    return path


def stored_kspace(images, *, cornered=False):
    """K-space of which the plain ifft2 of the first 85 % of kz gives these images back, but for the missing part."""
    kspace = np.fft.fftshift(np.fft.fft2(images, axes=(1, 2)), axes=(1, 2))
    kept = int(np.ceil(images.shape[2] * 0.85))
    kspace[:, :, kept:] = 0
    return np.fft.ifftshift(kspace, axes=(1, 2)) if cornered else kspace


def centred_images(scan):
    kspace = np.fft.ifftshift(np.stack(list(scan)), axes=(2, 3))
    return np.fft.fftshift(np.fft.ifft2(kspace, norm="ortho"), axes=(2, 3))


@pytest.mark.parametrize("cornered", [False, True])
@pytest.mark.parametrize(("height", "width"), [(32, 20), (31, 27), (32, 33)])
def test_the_centred_image_is_the_data_sets_plain_ifft2(tmp_path, height, width, cornered):
    kspace = stored_kspace(phantom(height, width), cornered=cornered)
    (scan,) = open_arrays(write(tmp_path / "e1.h5", kspace))

    theirs = np.abs(np.fft.ifft2(kspace, axes=(1, 2), norm="ortho")).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(np.abs(centred_images(scan)), theirs, atol=1e-5 * theirs.max())
    assert np.abs(theirs - np.roll(theirs, 3, axis=-1)).max() > 0.1 * theirs.max()  # a shift would be seen
    assert any(f"in the {'corner' if cornered else 'centre'} of the array" in note for note in scan.notes)


def test_facts(tmp_path):
    (scan,) = open_arrays(write(tmp_path / "e1.h5", stored_kspace(phantom(32, 20))))
    assert (scan.format, scan.shape, scan.stack) == ("Calgary-Campinas HDF5", (5, 6, 32, 20), "readouts")
    assert (scan.header.readout_axis, scan.header.acquired) == (None, ((0, 32), (0, 17)))
    assert scan.stored_dtype == "float32"
    assert "by documentation" in scan.notes[0]
    assert scan.doubt is None
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(scan)).kspace(2), scan.kspace(2))


def test_the_last_15_percent_of_kz_are_no_samples_even_if_they_are_not_zero(tmp_path):
    kspace = stored_kspace(phantom(32, 20)) + 1e-3 * RNG.normal(size=(5, 32, 20, 6))
    (scan,) = open_arrays(write(tmp_path / "e1.h5", kspace))
    assert not scan.kspace(1)[..., 17:].any()
    assert scan.kspace(1)[..., :17].all()
    sampling = sampling_of(scan)
    assert (sampling.source, sampling.acceleration) == ("fully sampled", 1.0)
    assert not sampling.mask[..., 17:].any()


def test_test_files_are_undersampled_by_their_zeros(tmp_path):
    noise = 1e-3 * RNG.normal(size=(5, 32, 20, 6))
    mask = RNG.random((32, 20)) < 0.3
    mask[12:20, 7:13] = True
    (scan,) = open_arrays(write(tmp_path / "e1.h5", (stored_kspace(phantom(32, 20)) + noise) * mask[..., None]))
    sampling = sampling_of(scan)
    assert sampling.source == "zeros in the k-space"
    np.testing.assert_array_equal(sampling.mask[0, :, :17], mask[:, :17])


@pytest.mark.parametrize("channels", [2, 7, 130])
def test_other_real_arrays_are_not_this_layout(tmp_path, channels):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["kspace"] = np.ones((4, 16, 12, channels), dtype=np.float32)
    with pytest.raises(InputError, match="is not complex"):
        open_arrays(tmp_path / "a.h5")


def test_named_axes_and_a_fastmri_header_rule_it_out(tmp_path):
    kspace = stored_kspace(phantom(16, 12))
    with pytest.raises(InputError, match="is not complex"):
        open_arrays(write(tmp_path / "a.h5", kspace), axes="slice,y,x,coil")
    with pytest.raises(InputError, match="is not complex"):
        open_arrays(write(tmp_path / "b.h5", kspace, ismrmrd_header=b"<ismrmrdHeader/>"))


def test_nan_dead_coils_and_empty_positions(tmp_path):
    kspace = stored_kspace(phantom(32, 20))
    kspace[..., 4] = 0
    kspace[2] = 0
    (scan,) = open_arrays(write(tmp_path / "a.h5", kspace))
    assert (scan.survey.dead_coils, scan.survey.empty_slices) == ([4], [2])
    kspace[3, 0, 0, 0] = np.nan
    (scan,) = open_arrays(write(tmp_path / "b.h5", kspace, extra=np.ones(3)))
    with pytest.raises(InputError, match="slice 3 holds NaN"):
        scan.kspace(3)
