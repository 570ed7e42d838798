"""Small k-space and files in every format, written without any code of ours."""

from collections.abc import Callable
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
