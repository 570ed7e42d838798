"""Facts from the XML header of MRD (ISMRMRD) files: of the acquisition only; who was scanned is never read.

The schema is that of Inati et al., MRM 2017, doi 10.1002/mrm.26089 (ismrmrd.xsd). The checks of single facts serve MRD
version 2 as well, whose header has the same facts in another form. All raise ValueError with the field's name.
"""

import math
from collections.abc import Sequence
from xml.etree.ElementTree import Element

from defusedxml.ElementTree import fromstring

from mrirecon.acquisition.readouts import Encoding, Limits, System

#: Counters and matrix sizes of raw data are 16-bit numbers.
LARGEST = 65536
_PATIENT_POSITIONS = {f"{end}F{side}" for end in "HF" for side in ("P", "S", "DR", "DL")}


def parse_header(xml: bytes) -> tuple[tuple[Encoding, ...], System]:
    """Encodings and system of a header. Raises ValueError or the XML parser's errors; call it in `reading`."""
    root = header_root(xml)
    encodings = tuple(_encoding(element) for element in root.findall("encoding"))
    if not encodings:
        raise ValueError("encoding is missing")
    return encodings, _system(root)


def header_root(xml: bytes) -> Element:
    """The parsed header, its tags without their namespace. Some writers omit it, others give it a prefix.

    Raises ParseError or DefusedXmlException: document types, with which small files become large ones, are not read.
    """
    # Patients' names are not always in the encoding that the header declares; no fact read here has such letters.
    root: Element = fromstring(xml.rstrip(b"\0").decode("utf-8", "replace"), forbid_dtd=True)
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
    return root


def number(element: Element, path: str) -> float | None:
    """The finite number at `path` ("encodedSpace/matrixSize/x"), else None."""
    return _finite(element.findtext(path))


def positive(value: float | None) -> float | None:
    """The value where it is a positive finite number, else None."""
    return float(value) if value is not None and 0 < value < math.inf else None


def matrix(values: Sequence[float | None], field: str) -> tuple[int, int, int]:
    """Sizes (x, y, z), whole numbers from 1 to LARGEST."""
    sizes = [_whole(value) for value in values]
    if any(size is None or not 1 <= size <= LARGEST for size in sizes):
        raise ValueError(f"{field} is {_shown(values)}, which is no matrix size")
    x, y, z = (size for size in sizes if size is not None)
    return x, y, z


def recon_matrix(values: Sequence[float | None], field: str) -> tuple[int, int, int] | None:
    """As `matrix`; None where the header leaves it out or writes zeros."""
    return matrix(values, field) if any(values) else None


def fov_mm(values: Sequence[float | None]) -> tuple[float, float, float] | None:
    """Positive lengths (x, y, z), or None."""
    x, y, z = (positive(value) for value in values)
    return (x, y, z) if x and y and z else None


def limits(values: Sequence[float | None], field: str) -> Limits | None:
    """(minimum, maximum, center) of a counter; None where the header leaves them out."""
    if None in values:
        return None
    low, high, centre = (_whole(value) for value in values)
    if low is None or high is None or centre is None or not 0 <= low <= high < LARGEST or not 0 <= centre < LARGEST:
        raise ValueError(
            f"{field} has the minimum, maximum and center {_shown(values)}, which is no range of a counter"
        )
    return Limits(low, high, centre)


def factor(value: float | None, field: str) -> int:
    """Number of slices that are excited at once, at least 1."""
    whole = _whole(value)
    if whole is None or not 1 <= whole <= LARGEST:
        raise ValueError(f"{field} is {_shown([value])}, which is no number of slices")
    return whole


def times_ms(values: Sequence[float | None]) -> tuple[float, ...]:
    """Echo times, one per contrast; none at all if one of them is no time, since the others would change places."""
    times = tuple(value for value in values if value is not None and 0 <= value < math.inf)
    return times if len(times) == len(values) else ()


def label(text: str | None) -> str | None:
    """A short text such as a vendor's name, on one line."""
    return " ".join((text or "").split())[:64] or None


def patient_position(text: str | None) -> str | None:
    """DICOM's code, such as HFS, or None."""
    code = (text or "").strip().upper()
    return code if code in _PATIENT_POSITIONS else None


def coil_labels(xml: bytes) -> list[tuple[str | None, str | None]]:
    """(number, name) of every coil, in the header's order."""
    coils = header_root(xml).findall("acquisitionSystemInformation/coilLabel")
    return [(coil.findtext("coilNumber"), coil.findtext("coilName")) for coil in coils]


def _encoding(element: Element) -> Encoding:
    def sizes(path: str) -> list[float | None]:
        return [_given(element, f"{path}/{axis}") for axis in "xyz"]

    def counter(path: str) -> Limits | None:
        return limits([_given(element, f"{path}/{name}") for name in ("minimum", "maximum", "center")], path)

    acceleration = "parallelImaging/accelerationFactor/kspace_encoding_step"
    band = "parallelImaging/multiband"
    return Encoding(
        trajectory=(element.findtext("trajectory") or "").strip().lower() or "unknown",
        encoded_matrix=matrix(sizes("encodedSpace/matrixSize"), "encodedSpace/matrixSize"),
        encoded_fov_mm=fov_mm(sizes("encodedSpace/fieldOfView_mm")),
        recon_matrix=recon_matrix(sizes("reconSpace/matrixSize"), "reconSpace/matrixSize"),
        recon_fov_mm=fov_mm(sizes("reconSpace/fieldOfView_mm")),
        step1=counter("encodingLimits/kspace_encoding_step_1"),
        step2=counter("encodingLimits/kspace_encoding_step_2"),
        acceleration=(
            positive(number(element, f"{acceleration}_1")) or 1.0,
            positive(number(element, f"{acceleration}_2")) or 1.0,
        ),
        calibration=(element.findtext("parallelImaging/calibrationMode") or "").strip().lower() or None,
        multiband=1 if element.find(band) is None else factor(number(element, f"{band}/multiband_factor"), band),
    )


def _system(root: Element) -> System:
    system, sequence = "acquisitionSystemInformation", "sequenceParameters"
    return System(
        vendor=label(root.findtext(f"{system}/systemVendor")),
        model=label(root.findtext(f"{system}/systemModel")),
        field_strength_t=positive(number(root, f"{system}/systemFieldStrength_T")),
        bandwidth=positive(number(root, f"{system}/relativeReceiverNoiseBandwidth")),
        frequency_hz=positive(number(root, "experimentalConditions/H1resonanceFrequency_Hz")),
        tr_ms=positive(number(root, f"{sequence}/TR")),
        te_ms=times_ms([_finite(element.text) for element in root.findall(f"{sequence}/TE")]),
        ti_ms=positive(number(root, f"{sequence}/TI")),
        flip_angle_deg=positive(number(root, f"{sequence}/flipAngle_deg")),
        patient_position=patient_position(root.findtext("measurementInformation/patientPosition")),
    )


def _given(element: Element, path: str) -> float | None:
    """The number at `path`; NaN where there is something else, None where there is nothing."""
    if element.find(path) is None:
        return None
    value = number(element, path)
    return math.nan if value is None else value


def _finite(text: str | None) -> float | None:
    try:
        value = float(text or "nan")
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _whole(value: float | None) -> int | None:
    return int(value) if value is not None and math.isfinite(value) and value == int(value) else None


def _shown(values: Sequence[float | None]) -> str:
    return ", ".join("missing" if value is None else f"{value:g}" for value in values)
