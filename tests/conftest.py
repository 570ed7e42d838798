from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data and golden files beside the project; tests that need it are skipped without it."""
    folder = ROOT.parent / "shared"
    if not folder.is_dir():
        pytest.skip("the folder of real data beside the project is absent")
    return folder


@pytest.fixture(scope="session")
def golden() -> Path:
    """Inputs, weights and outputs of other implementations (see tests/data/golden/README.md)."""
    return ROOT / "tests" / "data" / "golden"


@pytest.fixture
def mrd_header() -> Callable[..., str]:
    """Makes the XML header of an MRD file as text.

    matrix, fov (mm), recon_matrix, recon_fov: (x readout, y, z) of encoded and reconstructed space; the latter are
    as the former but for the readout's `oversampling`. limits: {"kspace_encoding_step_1": (minimum, maximum, center)}
    and so for any counter; None leaves all out, default fills both steps with center n // 2. calibration, acceleration,
    multiband: of <parallelImaging>. bandwidth: relativeReceiverNoiseBandwidth. sequence: XML inside
    <sequenceParameters>. extra_encodings: XML of further <encoding> elements.
    """

    def make(
        matrix: Sequence[int],
        *,
        fov: Sequence[float] | None = None,
        recon_matrix: Sequence[int] | None = None,
        recon_fov: Sequence[float] | None = None,
        oversampling: int = 1,
        limits: dict[str, tuple[int, int, int]] | Literal["full"] | None = "full",
        trajectory: str = "cartesian",
        vendor: str | None = None,
        model: str | None = None,
        field: float | None = 3.0,
        bandwidth: float | None = None,
        calibration: str | None = None,
        acceleration: tuple[int, int] = (1, 1),
        multiband: int | None = None,
        patient_position: str | None = "HFS",
        sequence: str = "<TR>500</TR><TE>10</TE>",
        extra_encodings: str = "",
    ) -> str:
        x, y, z = matrix
        fov = fov or (2.0 * x, 2.0 * y, 2.0 * z)
        recon_matrix = recon_matrix or (x // oversampling, y, z)
        recon_fov = recon_fov or (fov[0] / oversampling, *fov[1:])
        if limits == "full":
            limits = {f"kspace_encoding_step_{n}": (0, m - 1, m // 2) for n, m in ((1, y), (2, z))}

        def element(name: str, value: object) -> str:
            return "" if value is None else f"<{name}>{value}</{name}>"

        def sizes(name: str, values: Sequence[float]) -> str:
            return element(name, "".join(element(axis, value) for axis, value in zip("xyz", values, strict=True)))

        counters = "".join(
            element(name, element("minimum", low) + element("maximum", high) + element("center", centre))
            for name, (low, high, centre) in (limits or {}).items()
        )
        factors = "".join(element(f"kspace_encoding_step_{n}", factor) for n, factor in enumerate(acceleration, 1))
        bands = "<spacing><dZ>10</dZ></spacing><deltaKz>1</deltaKz>"
        bands += element("multiband_factor", multiband) + "<calibration>separable2D</calibration>"
        bands += "<calibration_encoding>0</calibration_encoding>"
        parallel = element("accelerationFactor", factors) + element("calibrationMode", calibration)
        parallel += element("multiband", bands) if multiband else ""
        system = element("systemVendor", vendor) + element("systemModel", model)
        system += element("systemFieldStrength_T", field) + element("relativeReceiverNoiseBandwidth", bandwidth)
        encoding = element("encodedSpace", sizes("matrixSize", matrix) + sizes("fieldOfView_mm", fov))
        encoding += element("reconSpace", sizes("matrixSize", recon_matrix) + sizes("fieldOfView_mm", recon_fov))
        encoding += element("encodingLimits", counters) + element("trajectory", trajectory)
        encoding += element("parallelImaging", parallel) if calibration or multiband or max(acceleration) > 1 else ""
        return (
            '<?xml version="1.0"?><ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD">'
            + element("subjectInformation", element("patientName", "Secret^Person") + element("patientID", "PID-4711"))
            + element("measurementInformation", element("patientPosition", patient_position))
            + element("acquisitionSystemInformation", system)
            + element("experimentalConditions", element("H1resonanceFrequency_Hz", 123250000))
            + element("encoding", encoding)
            + extra_encodings
            + element("sequenceParameters", sequence)
            + "</ismrmrdHeader>"
        )

    return make


@pytest.fixture
def mrd_readout() -> Callable[..., Any]:
    """Makes one `ismrmrd.Acquisition` of samples (coils, samples).

    Keywords are fields of its head (center_sample, discard_pre, sample_time_us, position, encoding_space_ref…) or of
    its counters (kspace_encode_step_1, slice, average, contrast…); flags: the bit mask, or a list of flag numbers
    (`ismrmrd.ACQ_…`). By default center_sample is n // 2 and directions are the unit vectors x, y and z.
    """
    ismrmrd = pytest.importorskip("ismrmrd")

    def make(samples: NDArray[np.complex64], *, flags: int | Sequence[int] = 0, **fields: Any) -> Any:
        acquisition = ismrmrd.Acquisition.from_array(np.asarray(samples, dtype=np.complex64))
        defaults = {"center_sample": samples.shape[1] // 2, "read_dir": (1, 0, 0), "phase_dir": (0, 1, 0)}
        for name, value in {**defaults, "slice_dir": (0, 0, 1), "sample_time_us": 5.0, **fields}.items():
            setattr(acquisition.idx if hasattr(acquisition.idx, name) else acquisition, name, value)
        acquisition.flags = flags if isinstance(flags, int) else sum(1 << (number - 1) for number in flags)
        return acquisition

    return make


@pytest.fixture
def write_mrd(tmp_path: Path, mrd_header: Callable[..., str], mrd_readout: Callable[..., Any]) -> Callable[..., Path]:
    """Writes an MRD v1 file with the `ismrmrd` package and returns its path; another implementation than ours.

    kspace: complex (slices, coils, kz, ky, kx), each line of which becomes a readout with the counters slice, step 1
    and 2; or a list of acquisitions as `mrd_readout` makes them. path: default scan.h5 in the test's folder; a second
    call with the same path and another `group` adds a group, in the order of the names. header: XML text; default is
    that of `mrd_header`, with the k-space's matrix and all further keywords (needed when `kspace` is a list: matrix).
    positions: (slices, 3) mm, default slices 5 mm apart along z. directions: (read, phase, slice) vectors, or one such
    triple per slice. noise: complex (readouts, coils, samples), written first and flagged as noise.
    edit: called with each acquisition of k-space, its slice, kz and ky; may change it in place, and leaves it out by
    returning False. fields: of the head of every such readout, as `mrd_readout` takes them. stream: write a stream of
    messages (ProtocolSerializer) instead of HDF5.
    """
    ismrmrd = pytest.importorskip("ismrmrd")

    def acquisitions(
        kspace: NDArray[np.complex64],
        positions: Any,
        directions: Any,
        edit: Callable[..., Any] | None,
        fields: dict[str, Any],
    ) -> Iterator[Any]:
        places = [(0, 0, 5.0 * s) for s in range(len(kspace))] if positions is None else positions
        axes = np.broadcast_to(np.eye(3) if directions is None else directions, (len(kspace), 3, 3))
        for s, kz, ky in np.ndindex(len(kspace), *kspace.shape[2:4]):
            head = {"slice": s, "kspace_encode_step_1": ky, "kspace_encode_step_2": kz, "position": tuple(places[s])}
            head |= zip(("read_dir", "phase_dir", "slice_dir"), map(tuple, axes[s].tolist()), strict=True)
            acquisition = mrd_readout(kspace[s, :, kz, ky], **head | fields)
            if edit is None or edit(acquisition, s, kz, ky) is not False:
                yield acquisition

    def write(
        kspace: NDArray[np.complex64] | list[Any],
        *,
        path: Path | None = None,
        group: str = "dataset",
        header: str | None = None,
        positions: Any = None,
        directions: Any = None,
        noise: NDArray[np.complex64] | None = None,
        edit: Callable[..., Any] | None = None,
        fields: dict[str, Any] | None = None,
        stream: bool = False,
        **header_options: Any,
    ) -> Path:
        path = path or tmp_path / ("scan.mrd" if stream else "scan.h5")
        noise_flag = [ismrmrd.ACQ_IS_NOISE_MEASUREMENT]
        readouts = [mrd_readout(samples, flags=noise_flag) for samples in (() if noise is None else noise)]
        if isinstance(kspace, list):
            readouts += kspace
        else:
            readouts += acquisitions(kspace, positions, directions, edit, fields or {})
            header_options.setdefault("matrix", kspace.shape[:1:-1])
        header = header or mrd_header(**header_options)
        if stream:
            with ismrmrd.ProtocolSerializer(str(path)) as serializer:
                serializer.serialize(ismrmrd.xsd.CreateFromDocument(header))
                for readout in readouts:
                    serializer.serialize(readout)
            return path
        with ismrmrd.Dataset(str(path), group) as dataset:
            dataset.write_xml_header(header.encode())
            for readout in readouts:
                dataset.append_acquisition(readout)
        return path

    return write
