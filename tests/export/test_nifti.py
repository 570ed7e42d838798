import json
import logging
from pathlib import Path

import nibabel
import numpy as np
import pytest

from mrirecon.acquisition.scan import Header
from mrirecon.errors import InputError, UsageError
from mrirecon.export.nifti import write_nifti

OBLIQUE = np.linalg.qr(np.random.default_rng(1).standard_normal((3, 3)))[0]


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_the_file_holds_magnitudes_x_y_slice(tmp_path, images, make_geometry, make_origin, suffix) -> None:
    write_nifti(tmp_path / f"out{suffix}", images, make_origin(make_geometry()))
    stored = nibabel.load(tmp_path / f"out{suffix}")
    assert stored.get_data_dtype() == np.float32
    assert stored.header.get_slope_inter() in [(1, 0), (None, None)]
    np.testing.assert_array_equal(np.asarray(stored.dataobj), np.abs(images.array).T)


def test_complex_images_lie_beside_the_magnitudes(tmp_path, images, array_images, make_geometry, make_origin) -> None:
    written = write_nifti(tmp_path / "out.nii.gz", images, make_origin(make_geometry()))
    assert [p.name for p in written] == ["out.nii.gz", "out.json", "out_complex.nii.gz"]
    np.testing.assert_array_equal(np.asarray(nibabel.load(written[2]).dataobj), images.array.T)
    magnitudes = array_images(np.abs(images.array))
    assert len(write_nifti(tmp_path / "magnitude.nii", magnitudes, make_origin(make_geometry()))) == 2


def test_both_forms_hold_the_scanner_affine_in_ras(tmp_path, images, make_geometry, make_origin) -> None:
    geometry = make_geometry(directions=OBLIQUE)
    write_nifti(tmp_path / "out.nii", images, make_origin(geometry))
    header = nibabel.load(tmp_path / "out.nii").header
    lps = geometry.affine_lps((12, 10))
    for affine, code in (header.get_qform(coded=True), header.get_sform(coded=True)):
        assert code == 1
        np.testing.assert_allclose(affine, np.diag([-1, -1, 1, 1]) @ lps, atol=1e-4)
    assert header.get_xyzt_units() == ("mm", "sec")


def test_unknown_geometry_is_written_as_unknown_and_said(tmp_path, images, make_origin, caplog) -> None:
    write_nifti(tmp_path / "out.nii", images, make_origin(None, header=Header()))
    header = nibabel.load(tmp_path / "out.nii").header
    assert (int(header["qform_code"]), int(header["sform_code"])) == (0, 0)
    assert header.get_zooms() == (1, 1, 1)
    assert header.get_xyzt_units()[0] == "unknown"
    assert "position and orientation are unknown" in caplog.text
    facts = json.loads((tmp_path / "out.json").read_text())
    assert facts["GeometryKnown"] is False
    assert "GeometryProven" not in facts


def test_voxel_sizes_come_from_the_field_of_view_where_nothing_else_is_known(tmp_path, images, make_origin) -> None:
    header = Header(fov_mm=(24.0, 15.0), slice_thickness_mm=5.0)
    write_nifti(tmp_path / "out.nii", images, make_origin(None, header=header))
    stored = nibabel.load(tmp_path / "out.nii").header
    assert stored.get_zooms() == (1.5, 2.0, 5.0)
    assert stored.get_xyzt_units()[0] == "mm"
    assert int(stored["qform_code"]) == int(stored["sform_code"]) == 0


def test_unevenly_spaced_slices_get_a_file_each(tmp_path, images, make_geometry, make_origin, caplog) -> None:
    geometry = make_geometry(directions=OBLIQUE, spacing_mm=(0.0, 4.0, 11.0))
    with caplog.at_level(logging.WARNING):
        write_nifti(tmp_path / "out.nii.gz", images, make_origin(geometry))
    assert "not evenly spaced" in caplog.text
    assert not (tmp_path / "out.nii.gz").exists()
    for index in range(3):
        stored = nibabel.load(tmp_path / f"out_slice-{index + 1:04}.nii.gz")
        np.testing.assert_array_equal(stored.get_fdata()[..., 0], np.abs(images.array[index]).T)
        right_back_down = np.diag([-1, -1, 1]) @ geometry.position_mm(index, 0, 0, (12, 10))
        np.testing.assert_allclose(stored.affine[:3, 3], right_back_down, atol=1e-4)


def test_the_sidecar_tells_what_is_known_in_bids_units(tmp_path, images, make_geometry, make_origin) -> None:
    geometry = make_geometry(convention="Directions by the vendor", proven=False, patient_position="HFS")
    write_nifti(tmp_path / "sub-01_T1w.nii.gz", images, make_origin(geometry))
    facts = json.loads((tmp_path / "sub-01_T1w.json").read_text())
    expected = {
        "EchoTime": 0.0041,
        "RepetitionTime": 0.5,
        "FlipAngle": 15.0,
        "MagneticFieldStrength": 2.89,
        "ImagingFrequency": 123.2,
        "Manufacturer": "SIEMENS",
        "ManufacturersModelName": "Skyra",
        "ParallelReductionFactorInPlane": 4.0,
        "PartialFourier": 0.75,
        "SliceThickness": 3.0,
        "SpacingBetweenSlices": 4.0,
        "ConversionSoftware": "mrirecon",
        "PatientPosition": "HFS",
        "GeometryKnown": True,
        "GeometryProven": False,
    }
    assert expected.items() <= facts.items()
    assert "InversionTime" not in facts
    assert "not a medical device" in facts["Remark"]


def test_lines_missing_on_both_sides_are_no_partial_fourier(tmp_path, images, make_geometry, make_origin) -> None:
    header = Header(readout_axis="x", acquired=((2, 10), (0, 10)))
    write_nifti(tmp_path / "out.nii", images, make_origin(make_geometry(), header=header))
    assert json.loads((tmp_path / "out.json").read_text())["PartialFourier"] == 1.0


def test_files_are_the_same_whenever_they_are_written(tmp_path, images, make_geometry, make_origin) -> None:
    for name in ("a", "b"):
        write_nifti(tmp_path / f"{name}.nii.gz", images, make_origin(make_geometry()))
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()


def test_another_suffix_is_refused(tmp_path: Path, images, make_origin) -> None:
    with pytest.raises(UsageError, match=r"end in \.nii or \.nii\.gz"):
        write_nifti(tmp_path / "out.img", images, make_origin(None))


def test_an_error_midway_leaves_nothing(tmp_path, images, make_geometry, make_origin, monkeypatch) -> None:
    monkeypatch.setattr(type(images), "slice", lambda self, index: self.array[index] if index < 2 else 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_nifti(tmp_path / "out.nii.gz", images, make_origin(make_geometry()))
    assert list(tmp_path.iterdir()) == []


def test_images_too_large_for_the_format_are_refused(tmp_path, array_images, make_origin) -> None:
    with pytest.raises(InputError, match="do not fit into NIfTI-1"):
        write_nifti(tmp_path / "out.nii", array_images(np.ones((1, 1, 32768), np.float32)), make_origin(None))
    assert not list(tmp_path.iterdir())
