"""DICOM: one series of classic MR images, a file per slice.

Attributes are those of the MR Image IOD (DICOM PS3.3 A.4 and C.8.3.1); coordinates are DICOM's own, LPS millimetres.
"""

import json
import re
from pathlib import Path
from shutil import rmtree
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from mrirecon import __version__
from mrirecon.acquisition.geometry import Geometry
from mrirecon.acquisition.scan import Scan
from mrirecon.errors import InputError, UsageError
from mrirecon.export.hdf5 import DISCLAIMER, explained
from mrirecon.export.images import Images, Origin, geometry_text
from mrirecon.export.reference_dicom import Reference

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

MR_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.4"
#: Twelve bits are what every viewer takes.
BITS = 12
WINDOW_PERCENTILES = (0.5, 99.5)
#: Longest text in an attribute of type LO.
LONG_STRING = 64


def write_dicom(folder: Path, images: Images, origin: Origin, reference: Reference | None = None) -> list[Path]:
    """Write the magnitudes as IM0001.dcm and so on into a new `folder`, which appears whole or not at all.

    All slices share one scale, which RealWorldValueMappingSequence holds. The same job gives the same files, byte for
    byte. Without a `reference` nothing tells whose images they are; with one they join its patient and study.
    Raises InputError where position and orientation are unknown, UsageError and ResourceError for a folder that holds
    something, or cannot be written.
    """
    check_folder(folder)
    geometry = required_geometry(origin.scan)
    slope, window = grey_levels(images)
    series = _series(images, origin, geometry, reference, slope, window)
    digits = max(4, len(str(images.shape[0])))
    names = [f"IM{index + 1:0{digits}}.dcm" for index in range(images.shape[0])]
    target = folder.resolve()
    temporary = target.with_name(f".{target.name}-{uuid4().hex}")
    try:
        with explained(folder):
            temporary.mkdir(parents=True)
        for index, name in enumerate(names):
            dataset = _slice(series, images, origin, geometry, reference, index, slope)
            with explained(folder):
                dataset.save_as(temporary / name, enforce_file_format=True)
        with explained(folder):
            temporary.replace(target)
    finally:
        rmtree(temporary, ignore_errors=True)
    return [folder / name for name in names]


def check_folder(folder: Path) -> None:
    """UsageError if a series cannot be written to `folder` because something is there already."""
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise UsageError(f"{folder}: exists already; a DICOM series goes into a new or empty folder, choose another.")


def required_geometry(scan: Scan) -> Geometry:
    """The images' geometry; InputError if it is unknown, because DICOM images without a position mislead."""
    if scan.geometry is None:
        raise InputError(
            f"{scan.path}: does not say where its slices lie in the patient, which DICOM needs; write NIfTI or HDF5, "
            "or reconstruct from the scanner's raw data."
        )
    return scan.geometry


def grey_levels(images: Images) -> tuple[float, tuple[float, float]]:
    """(image units per grey level, (lowest, highest) level of the display window), for all slices."""
    slope = images.maximum / (2**BITS - 1) or 1.0
    counts = np.zeros(2**BITS, dtype=np.int64)
    for index in range(images.shape[0]):
        counts += np.bincount(_levels(images, index, slope).ravel(), minlength=2**BITS)
    share = np.cumsum(counts) / counts.sum()
    low, high = (int(np.searchsorted(share, percentile / 100)) for percentile in WINDOW_PERCENTILES)
    return slope, (low, max(high, low + 1))


def _levels(images: Images, index: int, slope: float) -> NDArray[np.uint16]:
    levels = np.rint(np.abs(images.slice(index)).astype(np.float64) / slope)
    return np.minimum(levels, 2**BITS - 1).astype("<u2")


def _series(
    images: Images,
    origin: Origin,
    geometry: Geometry,
    reference: Reference | None,
    slope: float,
    window: tuple[float, float],
) -> "Dataset":
    """What all files of the series have in common."""
    from pydicom.dataset import Dataset

    scan, header = origin.scan, origin.scan.header
    dataset = Dataset()
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.Laterality = ""
    dataset.update(reference.attributes if reference else _nobody(origin))
    dataset.Modality = "MR"
    dataset.SOPClassUID = MR_IMAGE_STORAGE
    dataset.SeriesInstanceUID = _uid(origin, reference, "series")
    dataset.SeriesNumber = reference.series_number * 100 + 1 if reference else 1
    dataset.SeriesDescription = series_description(origin)
    dataset.PatientPosition = geometry.patient_position or ""
    dataset.Manufacturer = _text(header.vendor)
    if header.model:
        dataset.ManufacturerModelName = _text(header.model)
    dataset.ContributingEquipmentSequence = [_our_equipment(origin)]
    dataset.ImageType = ["DERIVED", "PRIMARY", "OTHER"]
    dataset.ContentDate = dataset.ContentTime = ""
    dataset.AcquisitionNumber = 1
    dataset.DerivationDescription = (
        f"Reconstructed from raw data by {origin.method}, acceleration {origin.acceleration:.3g}, {origin.software}. "
        f"One grey level is {slope:.8g} units of the reconstruction, in all slices. {DISCLAIMER}"
    )
    dataset.ImageComments = f"{DISCLAIMER} Geometry: {geometry_text(geometry)}"
    dataset.BurnedInAnnotation = "NO"
    dataset.LossyImageCompression = "00"
    if reference:
        dataset.ReferencedImageSequence = [reference.image]
    _add_sequence_parameters(dataset, origin)
    dataset.MRAcquisitionType = "2D" if scan.stack == "slices" else "3D"
    dataset.ImageOrientationPatient = [_decimal(v) for v in (*geometry.x_direction, *geometry.y_direction)]
    # DICOM names the spacing between rows first.
    dataset.PixelSpacing = [_decimal(v) for v in geometry.pixel_mm]
    dataset.SliceThickness = _decimal(geometry.thickness_mm)
    if geometry.spacing_mm is not None:
        dataset.SpacingBetweenSlices = _decimal(geometry.spacing_mm)
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.Rows, dataset.Columns = images.shape[1:]
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, BITS, BITS - 1, 0
    low, high = window
    dataset.WindowCenter, dataset.WindowWidth = _decimal((low + high) / 2), _decimal(high - low)
    dataset.RealWorldValueMappingSequence = [_value_mapping(slope)]
    return dataset


def _slice(
    series: "Dataset",
    images: Images,
    origin: Origin,
    geometry: Geometry,
    reference: Reference | None,
    index: int,
    slope: float,
) -> "Dataset":
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian

    dataset = Dataset(series)
    dataset.SOPInstanceUID = _uid(origin, reference, f"slice {index}")
    dataset.InstanceNumber = index + 1
    # Of the first voxel, not of the centre.
    position = geometry.position_mm(index, 0, 0, images.shape[1:])
    dataset.ImagePositionPatient = [_decimal(v) for v in position]
    dataset.SliceLocation = _decimal(float(position @ np.asarray(geometry.slice_direction)))
    dataset.PixelData = _levels(images, index, slope).tobytes()
    dataset["PixelData"].VR = "OW"
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return dataset


def series_description(origin: Origin) -> str:
    """Such as "mrirecon CIRIM R=4 RESEARCH REVIEW contrast-2", at most 64 characters."""
    method = origin.method.upper() if len(origin.method) <= 24 else f"{origin.method[:23]}…"
    words = ("mrirecon", method, f"R={origin.acceleration:.2g}", "RESEARCH", origin.label, origin.scan.volume)
    return _text(" ".join(word for word in words if word))


def _nobody(origin: Origin) -> "Dataset":
    """Patient and study of images that are nobody's: all volumes of one file make one study."""
    from pydicom.dataset import Dataset
    from pydicom.uid import generate_uid

    dataset = Dataset()
    empty = ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID")
    for keyword in (*empty, "ReferringPhysicianName", "AccessionNumber", "PositionReferenceIndicator"):
        setattr(dataset, keyword, "")
    dataset.PatientIdentityRemoved = "YES"
    dataset.DeidentificationMethod = "No identity was read from the raw data"
    dataset.StudyInstanceUID = generate_uid(entropy_srcs=["mrirecon study ", origin.scan.sha256])
    dataset.FrameOfReferenceUID = generate_uid(entropy_srcs=["mrirecon frame of reference ", origin.scan.sha256])
    return dataset


def _uid(origin: Origin, reference: Reference | None, what: str) -> str:
    """Unique identifier that the same job gives again, and no other."""
    from pydicom.uid import generate_uid

    facts = {
        "software": origin.software,
        "scan": origin.scan.sha256,
        "volume": origin.scan.volume,
        "method": origin.method,
        "model": origin.model_sha256,
        "acceleration": origin.acceleration,
        "settings": origin.settings,
        "study": reference and str(reference.attributes.StudyInstanceUID),
        "what": what,
    }
    return str(generate_uid(entropy_srcs=[json.dumps(facts, sort_keys=True, default=str)]))


def _add_sequence_parameters(dataset: "Dataset", origin: Origin) -> None:
    """MR Image Module. Raw data does not name its sequence in DICOM's terms: RM is research mode."""
    scan, header = origin.scan, origin.scan.header
    dataset.ScanningSequence, dataset.SequenceVariant, dataset.ScanOptions = "RM", "NONE", ""
    for keyword, value in {
        "RepetitionTime": header.tr_ms,
        "EchoTime": header.te_ms,
        "EchoTrainLength": None,
    }.items():
        setattr(dataset, keyword, "" if value is None else _decimal(value))
    for keyword, value in {
        "InversionTime": header.ti_ms,
        "FlipAngle": header.flip_angle_deg,
        "MagneticFieldStrength": header.field_strength_t,
        "ImagingFrequency": header.frequency_hz and header.frequency_hz / 1e6,
        "NumberOfAverages": scan.averages,
    }.items():
        if value is not None:
            setattr(dataset, keyword, _decimal(value))
    if scan.stack != "slices" or header.readout_axis:
        dataset.InPlanePhaseEncodingDirection = "ROW" if header.readout_axis == "y" else "COL"
    dataset.ParallelReductionFactorInPlane = float(origin.acceleration)


def _our_equipment(origin: Origin) -> "Dataset":
    from pydicom.dataset import Dataset
    from pydicom.uid import generate_uid

    item = Dataset()
    item.PurposeOfReferenceCodeSequence = [_code("109102", "DCM", "Processing Equipment")]
    item.Manufacturer = "mrirecon"
    item.ManufacturerModelName = _text(origin.method)
    item.SoftwareVersions = __version__
    if origin.model_sha256:
        item.DeviceUID = generate_uid(entropy_srcs=["mrirecon model ", origin.model_sha256])
    item.ContributionDescription = DISCLAIMER
    return item


def _value_mapping(slope: float) -> "Dataset":
    from pydicom.dataset import Dataset

    item = Dataset()
    item.MeasurementUnitsCodeSequence = [_code("1", "UCUM", "no units")]
    item.LUTExplanation, item.LUTLabel = "Units of the reconstruction", "RECONSTRUCTION"
    item.add_new("RealWorldValueFirstValueMapped", "US", 0)
    item.add_new("RealWorldValueLastValueMapped", "US", 2**BITS - 1)
    item.RealWorldValueIntercept, item.RealWorldValueSlope = 0.0, slope
    return item


def _code(value: str, scheme: str, meaning: str) -> "Dataset":
    from pydicom.dataset import Dataset

    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item


def _decimal(value: float) -> Any:
    """A number as a decimal string, of which DICOM admits 16 characters."""
    from pydicom.valuerep import DSfloat

    return DSfloat(float(value), auto_format=True)


def _text(text: str | None) -> str:
    """What fits into an attribute of type LO: no backslash, which separates values, nor control characters."""
    return re.sub(r"[\\\x00-\x1f\x7f]", " ", text or "")[:LONG_STRING].strip()
