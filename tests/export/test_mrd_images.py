import h5py
import ismrmrd
import numpy as np
import pytest

from mrirecon.acquisition.scan import Header
from mrirecon.export.mrd_images import HEADER, write_mrd_images


def read_back(path) -> list[ismrmrd.Image]:
    with ismrmrd.Dataset(path, "dataset", mode="r") as dataset:
        return [dataset.read_image("image_0", i) for i in range(dataset.number_of_images("image_0"))]


def test_the_header_is_the_standards() -> None:
    assert ismrmrd.hdf5.image_header_dtype == HEADER


@pytest.mark.parametrize("complex_images", [True, False])
def test_the_reference_package_reads_the_images(
    tmp_path, images, array_images, make_geometry, make_origin, complex_images
) -> None:
    if not complex_images:
        images = array_images(np.abs(images.array))
    write_mrd_images(tmp_path / "out.h5", images, make_origin(make_geometry()))
    for index, image in enumerate(read_back(tmp_path / "out.h5")):
        assert image.data.dtype == images.array.dtype
        np.testing.assert_array_equal(image.data[0, 0], images.array[index])
        assert image.image_type == (ismrmrd.IMTYPE_COMPLEX if complex_images else ismrmrd.IMTYPE_MAGNITUDE)
        assert (image.slice, image.image_index) == (index, index + 1)


def test_the_header_says_where_the_images_lie(tmp_path, images, make_geometry, make_origin) -> None:
    directions = np.linalg.qr(np.random.default_rng(1).standard_normal((3, 3)))[0]
    geometry = make_geometry(directions=directions)
    write_mrd_images(tmp_path / "out.h5", images, make_origin(geometry))
    for index, image in enumerate(read_back(tmp_path / "out.h5")):
        np.testing.assert_allclose(image.position, geometry.position_mm(index, 6, 5, (12, 10)), rtol=1e-6)
        for name, direction in zip(("read_dir", "phase_dir", "slice_dir"), directions, strict=True):
            np.testing.assert_allclose(getattr(image, name), direction, rtol=1e-6)
        assert list(image.matrix_size) == [10, 12, 1]
        assert list(image.field_of_view) == [15.0, 24.0, 4.0]
        assert "not a medical device" in image.meta["ImageComments"]


def test_unknown_geometry_is_zero_and_said(tmp_path, images, make_origin) -> None:
    write_mrd_images(tmp_path / "out.h5", images, make_origin(None, header=Header()))
    image = read_back(tmp_path / "out.h5")[0]
    assert not any(image.read_dir)
    assert "unknown" in image.meta["ImageComments"]


def test_no_file_is_left_by_an_error(tmp_path, images, make_geometry, make_origin, monkeypatch) -> None:
    monkeypatch.setattr(type(images), "slice", lambda self, index: self.array[index] if index < 2 else 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_mrd_images(tmp_path / "out.h5", images, make_origin(make_geometry()))
    assert list(tmp_path.iterdir()) == []


def test_the_layout_is_one_group_of_three(tmp_path, images, make_geometry, make_origin) -> None:
    write_mrd_images(tmp_path / "out.h5", images, make_origin(make_geometry()))
    with h5py.File(tmp_path / "out.h5") as file:
        assert set(file["dataset/image_0"]) == {"header", "data", "attributes"}
