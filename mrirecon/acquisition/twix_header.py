"""What a Siemens measurement's protocol says of its encoding and its scanner.

Only the parameters named here are taken from the header's text. It holds the patient's identity as well, which is
passed over.
"""

import math
import re
from dataclasses import dataclass
from pathlib import Path

from mrirecon.acquisition.axes import times
from mrirecon.acquisition.readouts import Encoding, Limits, System
from mrirecon.errors import InputError

#: No measurement has this many parameter buffers (six are usual) or so long a header (one megabyte is usual).
MOST_BUFFERS = 64
LONGEST_HEADER = 1 << 27
#: Parameters of the protocol proper (buffer MeasYaps, lines "name = number").
_ASCCONV = re.compile(
    r"\s*(sKSpace\.\w+|sPat\.\w+|sFastImaging\.lEPIFactor|sSliceAcceleration\.lMultiBandFactor|sPrepPulses\.ucInversion"
    r"|sSliceArray\.(?:lSize|asSlice\[\d+\]\.(?:dReadoutFOV|dPhaseFOV|dThickness))|lContrasts|lRepetitions|lAverages"
    r"|al(?:TR|TE|TI)\[\d+\]|adFlipAngleDegree\[0\]|sRXSPEC\.alDwellTime\[\d+\]|sTXSPEC\.asNucleusInfo\[0\]\.lFrequency"
    r"|sProtConsistencyInfo\.flNominalB0)\s*=\s*(\S+)"
)
#: Parameters that the scanner derived from it (buffers Dicom, Meas and Config, nested braces "<ParamLong."name"> {…}").
_DERIVED_NUMBERS = (
    "flReadoutOSFactor",
    "iNoOfFourierLines",
    "iNoOfFourierPartitions",
    "NImageCols",
    "NImageLins",
    "flMagneticFieldStrength",
    "alRegridMode",
)
_DERIVED_TEXTS = ("Manufacturer", "ManufacturersModelName", "tPatientPosition")
_TRAJECTORIES = {1: "cartesian", 2: "radial", 4: "spiral", 8: "blade"}
#: Where parallel imaging's reference lines are: in place, extra lines, another measurement, shared between frames.
_CALIBRATION = {
    0x02: "embedded",
    0x80: "embedded",
    0x04: "separate",
    0x08: "external",
    0x10: "interleaved",
    0x20: "interleaved",
    0x40: "interleaved",
}
_INVERSION_OFF = 4


@dataclass(frozen=True)
class Protocol:
    """Parameters of one measurement by their Siemens names. What the header does not hold is absent."""

    numbers: dict[str, float]
    texts: dict[str, str]

    def number(self, name: str) -> float | None:
        return self.numbers.get(name)

    def count(self, name: str) -> int | None:
        """A number that counts something: a whole one of at least 1 and below 65536, else None."""
        value = self.numbers.get(name)
        return int(value) if value is not None and value == int(value) and 1 <= value < 65536 else None

    def positive(self, name: str, scale: float = 1.0) -> float | None:
        value = self.numbers.get(name)
        return value * scale if value is not None and value > 0 else None

    def slices(self, name: str) -> list[float]:
        """A parameter of the slices, one number each."""
        pattern = re.compile(rf"sSliceArray\.asSlice\[\d+\]\.{name}")
        return [value for key, value in self.numbers.items() if pattern.fullmatch(key)]

    @property
    def three_d(self) -> bool:
        dimension = self.numbers.get("sKSpace.ucDimension")
        return dimension == 4 if dimension is not None else (self.count("iNoOfFourierPartitions") or 1) > 1


def protocol_of(header: bytes, path: Path) -> Protocol:
    """The parameters in a measurement's header (all bytes before its first readout). InputError if it is damaged."""
    buffers = _buffers(header, path)
    if "MeasYaps" not in buffers:
        raise InputError(f"{path}: the header holds no protocol (MeasYaps); export the raw data again.")
    lines = (_ASCCONV.match(line) for line in buffers["MeasYaps"].splitlines())
    numbers = {line[1]: number for line in lines if line and (number := _number(line[2])) is not None}
    texts = {}
    derived = "\n".join(buffers.get(name, "") for name in ("Dicom", "Meas", "Config"))
    for name, value in _derived(derived).items():
        if name in _DERIVED_TEXTS:
            texts[name] = value
        elif (number := _number(value.split()[0])) is not None:
            numbers[name] = number
    return Protocol(numbers, texts)


def _buffers(header: bytes, path: Path) -> dict[str, str]:
    """The header's texts by name: number of buffers, then each name, NUL, length and text."""
    count = int.from_bytes(header[4:8], "little")
    found: dict[str, str] = {}
    at = 8
    if count <= MOST_BUFFERS:
        for _ in range(count):
            name_end = header.find(b"\0", at, at + 48)
            start = name_end + 5
            end = start + int.from_bytes(header[name_end + 1 : start], "little")
            if name_end < 0 or end > len(header):
                break
            found[header[at:name_end].decode("latin1")] = header[start:end].decode("latin1")
            at = end
    if not count or len(found) < count:
        raise InputError(f"{path}: the measurement's header is damaged or cut short; copy or export the file again.")
    return found


def _derived(text: str) -> dict[str, str]:
    """The first value that is not empty of each parameter, without its attributes and quotes."""
    names = "|".join(_DERIVED_NUMBERS + _DERIVED_TEXTS)
    found: dict[str, str] = {}
    for match in re.finditer(rf'<Param(?:Long|Double|String)\."({names})">\s*\{{([^}}]{{0,4000}})\}}', text):
        value = re.sub(r'<\w+>[ \t]*("[^"]*"|\S*)', "", match[2]).replace('"', "").strip()
        if value:
            found.setdefault(match[1], value)
    return found


def _number(text: str) -> float | None:
    try:
        value = float(int(text, 16)) if text.lower().startswith("0x") else float(text)
    except (ValueError, OverflowError):
        return None
    return value if math.isfinite(value) else None


def encoding_of(protocol: Protocol, seen: tuple[int, int, int], centres: tuple[int, int], path: Path) -> Encoding:
    """How the readouts fill k-space.

    seen: samples, lines and partitions up to the highest one among the imaging readouts; zeros if there are none.
    centres: line and partition at k = 0 as the readouts say, 0 where they do not.
    Raises InputError if the protocol lacks what no k-space can be built without, or does not fit the readouts.
    """
    base, lines = protocol.count("sKSpace.lBaseResolution"), protocol.count("sKSpace.lPhaseEncodingLines")
    if base is None or lines is None:
        raise InputError(
            f"{path}: the protocol lacks its base resolution or its phase encoding lines; export it again."
        )
    oversampling = protocol.positive("flReadoutOSFactor") or 2.0
    partitions = (protocol.count("sKSpace.lPartitions") or 1) if protocol.three_d else 1
    matrix = (round(oversampling * base), lines, partitions)
    trajectory = _trajectory(protocol)
    # Partial Fourier leaves out less than half of any axis; more missing is damage, and memory must not follow it.
    if (
        seen[0]
        and trajectory == "cartesian"
        and any(4 * found < size for found, size in zip(seen, matrix, strict=True))
    ):
        raise InputError(
            f"{path}: the protocol asks for {times(matrix)} samples, lines and partitions, but the readouts reach "
            f"{times(seen)}; the measurement was aborted, or the file is damaged."
        )
    fov = _fov(protocol)
    columns, rows = protocol.count("NImageCols"), protocol.count("NImageLins")
    images = (protocol.count("sKSpace.lImagesPerSlab") or partitions) if protocol.three_d else 1
    measured = protocol.count("iNoOfFourierLines") or min(lines, seen[1])
    acceleration = tuple(protocol.positive(f"sPat.lAccelFact{axis}") or 1.0 for axis in ("PE", "3D"))
    return Encoding(
        trajectory=trajectory,
        encoded_matrix=matrix,
        encoded_fov_mm=_oversampled(protocol, fov, oversampling),
        recon_matrix=(columns, rows, images) if columns and rows else None,
        recon_fov_mm=fov,
        step1=_limits(lines, measured, centres[0], seen[1]),
        step2=_limits(partitions, protocol.count("iNoOfFourierPartitions") or partitions, centres[1], seen[2])
        if protocol.three_d
        else Limits(0, 0, 0),
        acceleration=(acceleration[0], acceleration[1]),
        calibration=_calibration(protocol) if max(acceleration) > 1 else None,
        multiband=protocol.count("sSliceAcceleration.lMultiBandFactor") or 1,
    )


def _trajectory(protocol: Protocol) -> str:
    """EPI and sampling on the gradient's ramps (alRegridMode other than 1) are called cartesian in the protocol."""
    trajectory = _TRAJECTORIES.get(int(protocol.number("sKSpace.ucTrajectory") or 0), "other")
    if trajectory == "cartesian" and (protocol.count("sFastImaging.lEPIFactor") or 1) > 1:
        return "epi"
    if trajectory == "cartesian" and protocol.number("alRegridMode") not in (None, 0, 1):
        return "ramp-sampled"
    return trajectory


def _calibration(protocol: Protocol) -> str | None:
    mode = protocol.number("sPat.ucRefScanMode")
    return None if mode in (None, 1) else _CALIBRATION.get(int(mode or 0), "other")


def _fov(protocol: Protocol) -> tuple[float, float, float] | None:
    """(readout, phase encode 1, slice or slab) of the first slice."""
    first = [protocol.positive(f"sSliceArray.asSlice[0].d{name}") for name in ("ReadoutFOV", "PhaseFOV", "Thickness")]
    x, y, z = first
    return (x, y, z) if x and y and z else None


def _oversampled(
    protocol: Protocol, fov: tuple[float, float, float] | None, readout: float
) -> tuple[float, float, float] | None:
    """That of the k-space grid. Phase and slice oversampling are absent where there is none."""
    if fov is None:
        return None
    phase = 1 + (protocol.positive("sKSpace.dPhaseOversamplingForDialog") or 0.0)
    slab = 1 + (protocol.positive("sKSpace.dSliceOversamplingForDialog") or 0.0) if protocol.three_d else 1.0
    return fov[0] * readout, fov[1] * phase, fov[2] * slab


def _limits(grid: int, measured: int, centre: int, seen: int) -> Limits:
    """Of one phase encode. With partial Fourier the scanner leaves out the first lines and counts from the next.

    grid: full number of lines. measured: those that are, by the protocol. centre: as the readouts say, or 0.
    seen: one more than the highest counter.
    """
    return Limits(0, max(measured, seen) - 1, centre or max(grid // 2 - (grid - measured), 0))


def system_of(protocol: Protocol) -> System:
    """The facts of scanner and sequence. The header does not hold the relative receiver noise bandwidth."""
    contrasts = protocol.count("lContrasts") or 1
    echo_times = [protocol.positive(f"alTE[{contrast}]", 1e-3) for contrast in range(contrasts)]
    # The protocol keeps an inversion time when its inversion is switched off.
    inverts = protocol.number("sPrepPulses.ucInversion") not in (None, _INVERSION_OFF)
    position = protocol.texts.get("tPatientPosition", "")
    return System(
        vendor=protocol.texts.get("Manufacturer", "SIEMENS"),
        model=protocol.texts.get("ManufacturersModelName"),
        field_strength_t=protocol.positive("flMagneticFieldStrength")
        or protocol.positive("sProtConsistencyInfo.flNominalB0"),
        frequency_hz=protocol.positive("sTXSPEC.asNucleusInfo[0].lFrequency"),
        tr_ms=protocol.positive("alTR[0]", 1e-3),
        te_ms=tuple(time for time in echo_times if time is not None) if None not in echo_times else (),
        ti_ms=protocol.positive("alTI[0]", 1e-3) if inverts else None,
        flip_angle_deg=protocol.positive("adFlipAngleDegree[0]"),
        patient_position=position if re.fullmatch(r"(HF|FF)[SP]|(HF|FF)D[LR]", position) else None,
    )
