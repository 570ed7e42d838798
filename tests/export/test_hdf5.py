import json
import resource
from pathlib import Path

import h5py
import numpy as np
import pytest

from mrirecon.errors import InputError, ResourceError
from mrirecon.export.hdf5 import reconstruction_file
from mrirecon.export.images import StoredImages

SHAPE = (3, 16, 12)
MASK = np.ones((1, 16, 12), dtype=bool)


def images() -> np.ndarray:
    generator = np.random.default_rng(0)
    return (generator.standard_normal(SHAPE) + 1j * generator.standard_normal(SHAPE)).astype(np.complex64)


def write_all(path: Path, **options) -> None:
    with reconstruction_file(
        path, SHAPE, mask=MASK, scale=2.5, provenance={"method": {"name": "cs"}, "seed": None}, **options
    ) as write:
        for index, image in enumerate(images()):
            write(index, image)


def test_the_file_is_what_fastmri_reads(tmp_path: Path) -> None:
    write_all(tmp_path / "out.h5")
    with h5py.File(tmp_path / "out.h5") as file:
        assert set(file) == {"reconstruction", "mask"}
        assert file["reconstruction"].dtype == np.float32
        assert file["reconstruction"].chunks == (1, 16, 12)
        np.testing.assert_allclose(file["reconstruction"][()], np.abs(images()), rtol=1e-6)
        assert file.attrs["max"] == pytest.approx(np.abs(images()).max())
        np.testing.assert_array_equal(file["mask"][()], MASK)


def test_it_says_where_it_comes_from_and_what_it_is_not(tmp_path: Path) -> None:
    write_all(tmp_path / "out.h5")
    with h5py.File(tmp_path / "out.h5") as file:
        assert json.loads(file.attrs["provenance"]) == {"method": {"name": "cs"}, "seed": None}
        assert file.attrs["scale"] == 2.5
        assert file.attrs["units"] == "arbitrary"
        assert "not a medical device" in file.attrs["disclaimer"]


def test_the_complex_image_is_kept_when_asked(tmp_path: Path) -> None:
    write_all(tmp_path / "out.h5", keep_complex=True)
    with h5py.File(tmp_path / "out.h5") as file:
        np.testing.assert_array_equal(file["complex"][()], images())


def fail_midway(path: Path, error: type[BaseException]) -> None:
    with reconstruction_file(path, SHAPE, mask=MASK, scale=1, provenance={}) as write:
        write(0, images()[0])
        raise error


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, OSError])
def test_an_error_midway_passes_through_and_leaves_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    with pytest.raises(error):
        fail_midway(tmp_path / "out.h5", error)
    assert list(tmp_path.iterdir()) == []


def test_an_error_midway_keeps_the_previous_file(tmp_path: Path) -> None:
    write_all(tmp_path / "out.h5")
    before = (tmp_path / "out.h5").read_bytes()
    with pytest.raises(KeyboardInterrupt):
        fail_midway(tmp_path / "out.h5", KeyboardInterrupt)
    assert (tmp_path / "out.h5").read_bytes() == before


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("bytes_left", [100, 2500, 6000])
def test_a_full_disk_is_explained(tmp_path: Path, bytes_left: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_left, hard))
    try:
        with pytest.raises(ResourceError, match=r"out\.h5: writing failed \([^=]*\); is"):
            write_all(tmp_path / "out.h5")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []


def test_known_geometry_gives_an_affine(tmp_path: Path, make_geometry) -> None:
    write_all(tmp_path / "out.h5", geometry=make_geometry(convention="As stored", proven=False))
    with h5py.File(tmp_path / "out.h5") as file:
        # Voxel (6, 8, 0) is the centre, (10, -20, 30) in LPS; the first one lies 6 × 1.5 and 8 × 2 mm before it.
        expected = [[-1.5, 0, 0, -1], [0, -2, 0, 36], [0, 0, 4, 30], [0, 0, 0, 1]]
        np.testing.assert_allclose(file.attrs["affine"], expected)
        assert file.attrs["geometry"].startswith("As stored. Not proven")
        assert file.attrs["axes"] == "slice,y,x"


def test_unevenly_spaced_slices_have_an_affine_each(tmp_path: Path, make_geometry) -> None:
    write_all(tmp_path / "out.h5", geometry=make_geometry(spacing_mm=(0.0, 4.0, 11.0)))
    with h5py.File(tmp_path / "out.h5") as file:
        assert file.attrs["affine"].shape == (3, 4, 4)
        np.testing.assert_allclose(file.attrs["affine"][:, 2, 3], [30, 34, 41])


def test_unknown_geometry_gives_none(tmp_path: Path) -> None:
    write_all(tmp_path / "out.h5")
    with h5py.File(tmp_path / "out.h5") as file:
        assert "affine" not in file.attrs
        assert "unknown" in file.attrs["geometry"]


@pytest.mark.parametrize("stack", ["slices", "readouts"])
def test_maps_and_noise_are_kept_when_asked(tmp_path: Path, make_origin, stack: str) -> None:
    scan = make_origin(None, stack=stack).scan
    maps = np.random.default_rng(0).standard_normal((3, 2, 12, 10, 2)).astype(np.float32).view(np.complex64)[..., 0]
    covariance = np.array([[1, 1j], [-1j, 2]], dtype=np.complex64)
    with reconstruction_file(
        tmp_path / "out.h5",
        SHAPE,
        mask=MASK,
        scale=1,
        provenance={},
        maps_of=scan,
        noise_std=0.5,
        noise_covariance=covariance,
    ) as write:
        for index, image in enumerate(images()):
            write(index, image)
            write.maps(index, maps[index])
    with h5py.File(tmp_path / "out.h5") as file:
        np.testing.assert_array_equal(file["sensitivity_maps"][()], maps)
        assert file["sensitivity_maps"].attrs["axes"].startswith(stack[:-1])
        assert file["noise_std"][()] == 0.5
        np.testing.assert_array_equal(file["noise_covariance"][()], covariance)


def test_stored_images_are_read_back_slice_by_slice(tmp_path: Path) -> None:
    for keep_complex in (False, True):
        write_all(tmp_path / "out.h5", keep_complex=keep_complex)
        stored = StoredImages(tmp_path / "out.h5")
        assert (stored.shape, stored.complex) == (SHAPE, keep_complex)
        assert stored.maximum == pytest.approx(np.abs(images()).max())
        for index, image in enumerate(images()):
            np.testing.assert_allclose(stored.slice(index), image if keep_complex else np.abs(image), rtol=1e-6)


def test_what_is_no_result_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.h5").write_text("no HDF5")
    h5py.File(tmp_path / "other.h5", "w").close()
    for name, message in (("text.h5", "cannot be read"), ("other.h5", "is no result")):
        with pytest.raises(InputError, match=message):
            _ = StoredImages(tmp_path / name).shape
