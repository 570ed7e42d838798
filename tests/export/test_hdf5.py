import json
import resource
from pathlib import Path

import h5py
import numpy as np
import pytest

from mrirecon.errors import ResourceError
from mrirecon.export.hdf5 import reconstruction_file

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
        with pytest.raises(ResourceError, match=r"out\.h5: writing failed"):
            write_all(tmp_path / "out.h5")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []
