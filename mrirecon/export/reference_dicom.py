"""Patient and study of the scanner's own DICOM images, for images that shall join them."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mrirecon.acquisition.containers import reading
from mrirecon.errors import InputError

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

#: MR Image, Enhanced MR Image, Enhanced MR Color Image, Legacy Converted Enhanced MR Image Storage.
MR_CLASSES = tuple(f"1.2.840.10008.5.1.4.1.1.4{kind}" for kind in ("", ".1", ".3", ".4"))
#: What says whose images they are, of what, in which study, and in which coordinates. Never the series.
COPIED = (
    "PatientName",
    "PatientID",
    "IssuerOfPatientID",
    "PatientBirthDate",
    "PatientSex",
    "PatientAge",
    "PatientSize",
    "PatientWeight",
    "PatientIdentityRemoved",
    "DeidentificationMethod",
    "StudyInstanceUID",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "StudyDescription",
    "AccessionNumber",
    "ReferringPhysicianName",
    "FrameOfReferenceUID",
    "PositionReferenceIndicator",
    "BodyPartExamined",
    "Laterality",
)
#: Those that must be there, even if empty.
REQUIRED = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "AccessionNumber",
    "ReferringPhysicianName",
    "PositionReferenceIndicator",
)


@dataclass(frozen=True)
class Reference:
    """The scanner's series.

    attributes: of patient, study and frame of reference. series_number: 0 if it has none. image: reference to one of
    its images.
    """

    attributes: "Dataset"
    series_number: int
    image: "Dataset"


def read_reference(path: Path) -> Reference:
    """What a DICOM MR image, or the first one of a series in a folder, says of patient and study. No pixels are read.

    Raises InputError if `path` holds no such image, or images of several patients, studies or series.
    """
    from pydicom.config import disable_value_validation
    from pydicom.misc import is_dicom

    if not path.exists():
        raise InputError(f"{path}: there is no such file or folder; give a DICOM image of the scanner's series.")
    if not (path.is_dir() or path.is_file()):
        raise InputError(f"{path}: is a pipe or a device; give a DICOM image of the scanner's series.")
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    # What does not follow the standard is copied as it is; pydicom's warnings would quote the patient's data.
    with reading(path), disable_value_validation():
        heads = [_head(file) for file in files if is_dicom(file)]
        heads = [head for head in heads if head.get("SOPClassUID") in MR_CLASSES]
        _check_one_series(path, heads)
        return _reference(path, heads[0])


def _check_one_series(path: Path, heads: "list[Dataset]") -> None:
    if not heads:
        raise InputError(
            f"{path}: holds no DICOM MR image; give one of the scanner's own, or the folder of its series."
        )
    for keyword, what in {
        "PatientID": "patients",
        "PatientName": "patients",
        "StudyInstanceUID": "studies",
        "SeriesInstanceUID": "series",
    }.items():
        if len({str(head.get(keyword, "")) for head in heads}) > 1:
            raise InputError(f"{path}: holds images of several {what}; give one image of the right series.")


def _reference(path: Path, head: "Dataset") -> Reference:
    from pydicom.dataset import Dataset

    # Rows come behind all that is copied: a file without them was cut short.
    for keyword in ("StudyInstanceUID", "FrameOfReferenceUID", "SOPInstanceUID", "Rows"):
        if not head.get(keyword):
            raise InputError(
                f"{path}: has no {keyword}, which every MR image has; give another of the scanner's images."
            )
    attributes, image = Dataset(), Dataset()
    for keyword in REQUIRED:
        setattr(attributes, keyword, "")
    for keyword in COPIED:
        if keyword in head:
            setattr(attributes, keyword, head[keyword].value)
    image.ReferencedSOPClassUID, image.ReferencedSOPInstanceUID = head.SOPClassUID, head.SOPInstanceUID
    return Reference(attributes, int(head.get("SeriesNumber") or 0), image)


def _head(file: Path) -> "Dataset":
    from pydicom import dcmread

    tags = [
        "SpecificCharacterSet",
        "SOPClassUID",
        "SOPInstanceUID",
        "SeriesInstanceUID",
        "SeriesNumber",
        "Rows",
        *COPIED,
    ]
    return dcmread(file, stop_before_pixels=True, specific_tags=tags)
