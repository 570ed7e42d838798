"""Small k-space and files in every format, written without any code of ours."""

import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import h5py
import ismrmrd.xsd as xsd
import numpy as np
import pytest
from numpy.typing import NDArray

Kspace = NDArray[np.complex64]


@pytest.fixture(scope="session")
def kspace() -> Kspace:
    """Centred k-space of smooth discs, (slices 3, coils 4, y 64, x 48), no sample zero."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[-1:1:64j, -1:1:48j]
    image = (y**2 + x**2 < 0.6) * (1 + 0.5 * y)
    coils = np.stack([np.exp(-((y - a) ** 2) - (x - b) ** 2 + 1j * a * x) for a in (-1, 1) for b in (-1, 1)])
    images = np.arange(1, 4)[:, None, None, None] * coils * image
    k = np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(images, axes=(2, 3)), norm="ortho"), axes=(2, 3))
    noise = rng.normal(size=k.shape) + 1j * rng.normal(size=k.shape)
    return (k + 1e-3 * noise).astype(np.complex64)


@pytest.fixture(scope="session")
def header_xml() -> Callable[..., bytes]:
    """An ISMRMRD header, made by the ismrmrd package, of a readout of 64 and 48 phase encodes."""

    def make(*, center: int = 20, maximum: int = 40, encoded_y: int = 48) -> bytes:
        def space(y: int) -> xsd.encodingSpaceType:
            matrix = xsd.matrixSizeType(x=32, y=y, z=1)
            return xsd.encodingSpaceType(matrixSize=matrix, fieldOfView_mm=xsd.fieldOfViewMm(x=220, y=165, z=5))

        limits = xsd.encodingLimitsType(kspace_encoding_step_1=xsd.limitType(minimum=0, maximum=maximum, center=center))
        encoding = xsd.encodingType(
            encodedSpace=space(encoded_y),
            reconSpace=space(24),
            encodingLimits=limits,
            trajectory=xsd.trajectoryType.CARTESIAN,
        )
        header = xsd.ismrmrdHeader(
            subjectInformation=xsd.subjectInformationType(patientName="Secret^Person", patientID="PID-4711"),
            acquisitionSystemInformation=xsd.acquisitionSystemInformationType(systemFieldStrength_T=2.8936),
            experimentalConditions=xsd.experimentalConditionsType(H1resonanceFrequency_Hz=123250000),
            encoding=[encoding],
            sequenceParameters=xsd.sequenceParametersType(TR=[9000], TE=[81], TI=[2500], flipAngle_deg=[150]),
        )
        return xsd.ToXML(header).encode()

    return make


@pytest.fixture
def write_fastmri(tmp_path: Path, kspace: Kspace) -> Callable[..., Path]:
    """Writes a file in fastMRI's layout; attributes and datasets beside `kspace` as asked."""

    def write(k: Kspace = kspace, attrs: dict[str, Any] | None = None, **items: Any) -> Path:
        path = tmp_path / "file_brain_0001.h5"
        with h5py.File(path, "w") as file:
            file["kspace"] = k
            for name, item in items.items():
                file[name] = item
            file.attrs.update(attrs or {})
        return path

    return write


class TwixWriter:
    """Siemens twix files from the published layout: ours, not an independent writer (the real file is that)."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "meas.dat"
        #: A 2D protocol of 8 lines × 8 (16 oversampled) samples; `measurement` overrides it.
        self.protocol = {
            "sKSpace.lBaseResolution": "8",
            "sKSpace.lPhaseEncodingLines": "8",
            "sKSpace.ucDimension": "0x2",
            "sKSpace.ucTrajectory": "0x1",
            "sSliceArray.lSize": "1",
            "sSliceArray.asSlice[0].dReadoutFOV": "200.0",
            "sSliceArray.asSlice[0].dPhaseFOV": "160.0",
            "sSliceArray.asSlice[0].dThickness": "5.0",
            "sRXSPEC.alDwellTime[0]": "5000",
            "alTR[0]": "500000",
            "alTE[0]": "10000",
            "lContrasts": "1",
            "tPatientComment": '"Secret^Person"',
        }
        self.derived = {
            "flReadoutOSFactor": "<Precision> 6  2.000000",
            "iNoOfFourierLines": "8",
            "NImageCols": "8",
            "NImageLins": "8",
            "Manufacturer": '"SIEMENS"',
            "tPatientPosition": '"HFS"',
            "tPatientName": '"Secret^Person"',
        }

    def line(
        self,
        number: int = 0,
        *,
        data: Kspace | None = None,
        bits: Sequence[int] = (),
        centre: tuple[int, int, int] = (8, 4, 0),
        cut: tuple[int, int] = (0, 0),
        position: Sequence[float] = (0, 0, 0),
        quaternion: Sequence[float] = (1, 0, 0, 0),
        **counters: int,
    ) -> dict[str, Any]:
        """A readout. bits: of EvalInfoMask. centre: sample, line and partition. counters: Ave, Sli, Par, Eco, …"""
        if data is None:
            data = (number + 1) * np.outer([1, 2j], np.arange(16)).astype(np.complex64)
        names = ("Lin", "Ave", "Sli", "Par", "Eco", "Phs", "Rep", "Set", "Seg")
        loops = [{"Lin": number, **counters}.get(name, 0) for name in names] + [0] * 5
        mask = sum(1 << bit for bit in bits)
        place = (*position, *quaternion)
        return {"data": data, "mask": mask, "loops": loops, "cut": cut, "centre": centre, "place": place}

    def measurement(
        self,
        lines: Sequence[dict[str, Any]],
        protocol: dict[str, str] | None = None,
        derived: dict[str, str] | None = None,
        vb: bool = False,
        end: bool = True,
    ) -> bytes:
        """Header and readouts; an empty value takes a parameter out. end: with the end mark (ACQEND)."""
        ascii_lines = [f"{name}\t = \t{value}" for name, value in (self.protocol | (protocol or {})).items() if value]
        kind = {'"': "String", "<": "Double"}
        meas = [
            f'<Param{kind.get(value[0], "Long")}."{name}"> {{ {value} }}'
            for name, value in (self.derived | (derived or {})).items()
            if value
        ]
        texts = {
            "Config" if vb else "Meas": "\n".join(["<XProtocol> {", *meas, "}"]),
            "MeasYaps": "\n".join(["### ASCCONV BEGIN ###", *ascii_lines, "### ASCCONV END ###", ""]),
        }
        header = struct.pack("<I", len(texts))
        for name, text in texts.items():
            header += name.encode() + b"\0" + struct.pack("<I", len(text)) + text.encode()
        length = -(-(len(header) + 4) // 32) * 32
        last = self.line(data=np.zeros((1, 1), np.complex64), bits=[0])
        records = [self._readout(line, vb) for line in lines] + ([self._mdh(last, vb, 352) + bytes(160)] if end else [])
        return (struct.pack("<I", length) + header).ljust(length, b"\0") + b"".join(records)

    def _mdh(self, line: dict[str, Any], vb: bool, length: int) -> bytes:
        channels, samples = line["data"].shape
        start = struct.pack("<IiIII", length, 7, 1, 0, 0) + (b"" if vb else bytes(20))
        middle = struct.pack("<Q2H14H2HHHfI", line["mask"], samples, channels, *line["loops"], *line["cut"],
                             line["centre"][0], 0, 0.0, 0)  # fmt: skip
        place = struct.pack("<7f", *line["place"])
        middle += struct.pack("<2H", *line["centre"][1:])
        return start + (middle + bytes(16) + place + bytes(4) if vb else middle + place + bytes(64))

    def _readout(self, line: dict[str, Any], vb: bool) -> bytes:
        channels, samples = line["data"].shape
        block = (128 if vb else 32) + 8 * samples
        mdh = self._mdh(line, vb, channels * block + (0 if vb else 192))
        heads = [mdh if vb else struct.pack("<IiIiIIHHI", block << 8, 7, 1, 0, 0, 0, n, 0, 0) for n in range(channels)]
        rows = [head + row.astype("<c8").tobytes() for head, row in zip(heads, line["data"], strict=True)]
        return (b"" if vb else mdh) + b"".join(rows)

    def file(self, *measurements: bytes, names: Sequence[bytes] = ()) -> Path:
        """A file of VD or later."""
        table, body, at = struct.pack("<II", 0, len(measurements)), b"", 10240
        for number, measurement in enumerate(measurements):
            name = names[number] if names else b"gre"
            table += struct.pack("<IIQQ64s64s", 7, 7, at + len(body), len(measurement), b"Secret^Person", name)
            body += measurement.ljust(-(-len(measurement) // 512) * 512, b"\0")
        self.path.write_bytes(table.ljust(10240, b"\0") + body)
        return self.path

    def vb_file(self, measurement: bytes) -> Path:
        """A file of VB."""
        self.path.write_bytes(measurement)
        return self.path


@pytest.fixture
def twix(tmp_path: Path) -> TwixWriter:
    """Writes small Siemens twix files."""
    return TwixWriter(tmp_path)
