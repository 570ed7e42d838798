import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.config import disable_value_validation
from pydicom.dataset import Dataset, FileMetaDataset

from mrirecon.acquisition.scan import Header
from mrirecon.errors import InputError, UsageError
from mrirecon.export.dicom import write_dicom
from mrirecon.export.reference_dicom import read_reference

OBLIQUE = np.linalg.qr(np.random.default_rng(1).standard_normal((3, 3)))[0]
OBLIQUE[2] *= np.linalg.det(OBLIQUE)


@pytest.fixture
def written(tmp_path, images, make_geometry, make_origin) -> list[Dataset]:
    origin = make_origin(make_geometry(directions=OBLIQUE, patient_position="HFS"))
    return [pydicom.dcmread(path) for path in write_dicom(tmp_path / "series", images, origin)]


def scanner_image(path: Path, **changes: str) -> Path:
    """A scanner's DICOM image, as far as it matters here."""
    image = Dataset()
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    facts = {
        "SpecificCharacterSet": "ISO_IR 100",
        "SOPClassUID": "1.2.840.10008.5.1.4.1.1.4",
        "SOPInstanceUID": f"1.2.3.{len(path.name)}",
        "Modality": "MR",
        "PatientName": "Müller^Jörg",
        "PatientID": "P-7",
        "PatientBirthDate": "19700101",
        "PatientSex": "M",
        "StudyInstanceUID": "1.2.3.4",
        "StudyDate": "20240131",
        "StudyTime": "101500",
        "StudyID": "S1",
        "AccessionNumber": "A-9",
        "ReferringPhysicianName": "Who^Doctor",
        "FrameOfReferenceUID": "1.2.3.5",
        "SeriesInstanceUID": "1.2.3.6",
        "SeriesNumber": "7",
        "SeriesDescription": "t1_tra",
        "Rows": 64,
    }
    path.parent.mkdir(exist_ok=True)
    with disable_value_validation():
        for keyword, value in (facts | changes).items():
            setattr(image, keyword, value)
        image.save_as(path, enforce_file_format=True)
    return path


def test_the_first_voxel_is_where_geometry_says(written, make_geometry) -> None:
    geometry = make_geometry(directions=OBLIQUE)
    for index, image in enumerate(written):
        first = geometry.position_mm(index, 0, 0, (12, 10))
        np.testing.assert_allclose(image.ImagePositionPatient, first, atol=1e-6)
        np.testing.assert_allclose(image.ImageOrientationPatient, OBLIQUE[:2].ravel(), atol=1e-8)
        assert image.SliceLocation == pytest.approx(first @ OBLIQUE[2])
        assert image.InstanceNumber == index + 1
    assert list(written[0].PixelSpacing) == [2.0, 1.5]
    assert (written[0].SliceThickness, written[0].SpacingBetweenSlices) == (3.0, 4.0)
    assert (written[0].Rows, written[0].Columns, written[0].PatientPosition) == (12, 10, "HFS")


def test_one_scale_serves_the_series(written, images) -> None:
    mapping = [image.RealWorldValueMappingSequence[0].RealWorldValueSlope for image in written]
    assert len(set(mapping)) == 1
    stored = np.stack([image.pixel_array for image in written])
    assert stored.max() == 4095
    np.testing.assert_allclose(stored * mapping[0], np.abs(images.array), atol=0.51 * mapping[0])
    low, high = np.percentile(stored, [0.5, 99.5], method="inverted_cdf")
    assert (written[0].WindowCenter, written[0].WindowWidth) == ((low + high) / 2, high - low)


def test_what_it_is_and_is_not_is_visible(written) -> None:
    image = written[0]
    assert image.SeriesDescription == "mrirecon CIRIM R=4 RESEARCH"
    assert list(image.ImageType) == ["DERIVED", "PRIMARY", "OTHER"]
    assert "not a medical device" in image.ImageComments
    assert image.Manufacturer == "SIEMENS"
    equipment = image.ContributingEquipmentSequence[0]
    assert (equipment.Manufacturer, equipment.PurposeOfReferenceCodeSequence[0].CodeValue) == ("mrirecon", "109102")
    assert (image.BurnedInAnnotation, image.LossyImageCompression) == ("NO", "00")
    assert (image.EchoTime, image.RepetitionTime, image.MRAcquisitionType) == (4.1, 500, "2D")


def test_an_unproven_convention_is_said_in_the_comment(tmp_path, images, make_geometry, make_origin) -> None:
    origin = make_origin(make_geometry(convention="Siemens: encoded directions negated", proven=False))
    comments = pydicom.dcmread(write_dicom(tmp_path / "series", images, origin)[0]).ImageComments
    assert "Siemens: encoded directions negated" in comments
    assert "Not proven" in comments


def test_without_a_reference_nobody_is_named(written) -> None:
    image = written[0]
    for keyword in ("PatientName", "PatientID", "PatientBirthDate", "AccessionNumber", "StudyDate", "StudyID"):
        assert keyword in image
        assert not image[keyword].value
    assert image.PatientIdentityRemoved == "YES"


def test_the_same_job_gives_the_same_files(tmp_path, images, make_geometry, make_origin) -> None:
    origin = make_origin(make_geometry())
    first = [path.read_bytes() for path in write_dicom(tmp_path / "a", images, origin)]
    assert first == [path.read_bytes() for path in write_dicom(tmp_path / "b", images, origin)]
    assert len({pydicom.dcmread(path).SOPInstanceUID for path in (tmp_path / "a").iterdir()}) == 3


@pytest.mark.parametrize(
    "change", [{"method": "cs"}, {"model_sha256": "0" * 64}, {"settings": {"seed": 2}}, {"acceleration": 8.0}]
)
def test_another_job_gives_another_series_of_the_same_study(
    tmp_path, images, make_geometry, make_origin, change
) -> None:
    origin = make_origin(make_geometry())
    one = pydicom.dcmread(write_dicom(tmp_path / "a", images, origin)[0])
    other = pydicom.dcmread(write_dicom(tmp_path / "b", images, replace(origin, **change))[0])
    assert one.StudyInstanceUID == other.StudyInstanceUID
    assert one.FrameOfReferenceUID == other.FrameOfReferenceUID
    assert one.SeriesInstanceUID != other.SeriesInstanceUID
    assert one.SOPInstanceUID != other.SOPInstanceUID


def test_volumes_of_a_file_are_series_of_a_study(tmp_path, images, make_geometry, make_origin) -> None:
    one, two = (
        pydicom.dcmread(write_dicom(tmp_path / name, images, make_origin(make_geometry(), volume=name))[0])
        for name in ("contrast-1", "contrast-2")
    )
    assert one.StudyInstanceUID == two.StudyInstanceUID
    assert one.SeriesInstanceUID != two.SeriesInstanceUID
    assert "contrast-2" in two.SeriesDescription


def test_a_reference_lends_patient_and_study_but_not_its_series(tmp_path, images, make_geometry, make_origin) -> None:
    reference = read_reference(scanner_image(tmp_path / "scanner.dcm"))
    image = pydicom.dcmread(write_dicom(tmp_path / "series", images, make_origin(make_geometry()), reference)[0])
    assert str(image.PatientName) == "Müller^Jörg"
    assert (image.PatientID, image.AccessionNumber, image.StudyInstanceUID) == ("P-7", "A-9", "1.2.3.4")
    assert image.FrameOfReferenceUID == "1.2.3.5"
    assert image.SeriesNumber == 701
    assert image.SeriesInstanceUID != "1.2.3.6"
    assert "RESEARCH" in image.SeriesDescription
    assert image.ReferencedImageSequence[0].ReferencedSOPInstanceUID == "1.2.3.11"
    assert "PatientIdentityRemoved" not in image


def test_a_folder_of_one_series_is_a_reference(tmp_path) -> None:
    for name in ("1.dcm", "22.dcm"):
        scanner_image(tmp_path / "series" / name)
    (tmp_path / "series" / "notes.txt").write_text("not DICOM")
    assert read_reference(tmp_path / "series").series_number == 7


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"PatientID": "P-8"}, "several patients"),
        ({"StudyInstanceUID": "1.9"}, "several studies"),
        ({"SeriesInstanceUID": "1.9"}, "several series"),
    ],
)
def test_a_folder_that_mixes_is_refused_without_naming_anybody(tmp_path, change, message) -> None:
    scanner_image(tmp_path / "mixed" / "1.dcm")
    scanner_image(tmp_path / "mixed" / "22.dcm", **change)
    with pytest.raises(InputError, match=message) as error:
        read_reference(tmp_path / "mixed")
    assert "P-8" not in str(error.value)
    assert "Müller" not in str(error.value)


def test_what_is_no_mr_image_is_no_reference(tmp_path) -> None:
    (tmp_path / "text.dcm").write_text("not DICOM")
    scanner_image(tmp_path / "ct.dcm", SOPClassUID="1.2.840.10008.5.1.4.1.1.2")
    for path in (tmp_path / "text.dcm", tmp_path / "ct.dcm"):
        with pytest.raises(InputError, match="holds no DICOM MR image"):
            read_reference(path)
    with pytest.raises(InputError, match="no such file"):
        read_reference(tmp_path / "absent")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="is a pipe"):
        read_reference(tmp_path / "pipe")
    with pytest.raises(InputError, match="no FrameOfReferenceUID"):
        read_reference(scanner_image(tmp_path / "bare.dcm", FrameOfReferenceUID=""))


@pytest.mark.filterwarnings("error")
def test_a_reference_that_is_cut_short_is_refused_without_quoting_it(tmp_path) -> None:
    path = scanner_image(tmp_path / "scanner.dcm", PatientBirthDate="1.1.70 or so")
    whole = path.read_bytes()
    read_reference(path)
    for length in range(len(whole) - 10):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError) as error:
            read_reference(path)
        assert "1.1.70" not in str(error.value)


def test_unknown_orientation_is_refused(tmp_path, images, make_origin) -> None:
    with pytest.raises(InputError, match=r"where its slices lie.*NIfTI or HDF5"):
        write_dicom(tmp_path / "series", images, make_origin(None))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_something_in_it_is_refused(tmp_path, images, make_geometry, make_origin) -> None:
    (tmp_path / "file").write_text("")
    for folder in (tmp_path, tmp_path / "file"):
        with pytest.raises(UsageError, match="exists already"):
            write_dicom(folder, images, make_origin(make_geometry()))
    (tmp_path / "empty").mkdir()
    write_dicom(tmp_path / "empty", images, make_origin(make_geometry()))
    assert len(list((tmp_path / "empty").iterdir())) == 3


def test_an_error_midway_leaves_nothing(tmp_path, images, make_geometry, make_origin, monkeypatch) -> None:
    geometry = make_geometry()
    monkeypatch.setattr(Dataset, "save_as", lambda self, path, **_: path.touch() if path.name < "IM0003" else 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_dicom(tmp_path / "series", images, make_origin(geometry))
    assert list(tmp_path.iterdir()) == []


def test_an_image_of_zeros_can_be_written(tmp_path, array_images, make_geometry, make_origin) -> None:
    images = array_images(np.zeros((3, 12, 10), np.float32))
    image = pydicom.dcmread(write_dicom(tmp_path / "series", images, make_origin(make_geometry()))[0])
    assert not image.pixel_array.any()
    assert image.WindowWidth >= 1


@pytest.mark.filterwarnings("error")
def test_awkward_texts_fit_into_their_attributes(tmp_path, images, make_geometry, make_origin) -> None:
    header = Header(vendor="A\\B" + "x" * 100, model="größer\n")
    origin = make_origin(make_geometry(), header=header, method="a-very-long-checkpoint-name-of-somebody.safetensors")
    image = pydicom.dcmread(write_dicom(tmp_path / "series", images, origin)[0])
    assert (image["Manufacturer"].VM, len(image.Manufacturer), image.ManufacturerModelName) == (1, 64, "größer")
    assert len(image.SeriesDescription) <= 64
    assert "RESEARCH" in image.SeriesDescription


@pytest.mark.parametrize("with_reference", [False, True])
@pytest.mark.parametrize("stack", ["slices", "readouts"])
def test_dciodvfy_finds_no_error(tmp_path, images, make_geometry, make_origin, with_reference, stack) -> None:
    if shutil.which("dciodvfy") is None:
        pytest.skip("dciodvfy (dicom3tools) is not installed")
    reference = read_reference(scanner_image(tmp_path / "scanner.dcm")) if with_reference else None
    origin = make_origin(make_geometry(directions=OBLIQUE, patient_position="HFS"), stack=stack)
    origin = replace(origin, model_sha256="0" * 64)
    for path in write_dicom(tmp_path / "series", images, origin, reference):
        report = subprocess.run(["dciodvfy", "-new", str(path)], capture_output=True, text=True).stderr
        assert "MRImage" in report
        assert [line for line in report.splitlines() if line.startswith("Error")] == []
