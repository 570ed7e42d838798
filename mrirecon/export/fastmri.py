"""Writer of fastMRI-layout HDF5: the format that most reconstruction code reads."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import numpy as np
from numpy.typing import NDArray

from mrirecon import __version__
from mrirecon.export.hdf5 import explained, hdf5_file
from mrirecon.simulation.scan import root_sum_of_squares

#: ISMRMRD header (its XML schema's order of elements). The resonance frequency is that of hydrogen at 3 T.
HEADER = """<?xml version="1.0" encoding="UTF-8"?>
<ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD">
  <studyInformation><studyDescription>{description}</studyDescription></studyInformation>
  <acquisitionSystemInformation>
    <systemVendor>mrirecon simulation</systemVendor>
    <systemFieldStrength_T>3.0</systemFieldStrength_T>
    <receiverChannels>{coils}</receiverChannels>
  </acquisitionSystemInformation>
  <experimentalConditions><H1resonanceFrequency_Hz>127728000</H1resonanceFrequency_Hz></experimentalConditions>
  <encoding>
    <encodedSpace>{space}</encodedSpace>
    <reconSpace>{space}</reconSpace>
    <encodingLimits>
      <kspace_encoding_step_0><minimum>0</minimum><maximum>{last_y}</maximum><center>{centre_y}</center></kspace_encoding_step_0>
      <kspace_encoding_step_1><minimum>0</minimum><maximum>{last_x}</maximum><center>{centre_x}</center></kspace_encoding_step_1>
      <slice><minimum>0</minimum><maximum>{last_slice}</maximum><center>{centre_slice}</center></slice>
    </encodingLimits>
    <trajectory>cartesian</trajectory>
  </encoding>
  <sequenceParameters>{sequence}</sequenceParameters>
</ismrmrdHeader>
"""
SPACE = (
    "<matrixSize><x>{y}</x><y>{x}</y><z>1</z></matrixSize>"
    "<fieldOfView_mm><x>{fov_y:.6g}</x><y>{fov_x:.6g}</y><z>{thickness:.6g}</z></fieldOfView_mm>"
)


@dataclass(frozen=True)
class Acquisition:
    """What the header says of a scan.

    name: fastMRI's `acquisition` attribute, such as AXT2. patient: a pseudonym. pixel_mm: (y, x). sequence: any of
    "TR", "TE", "TI" in ms and "flipAngle_deg".
    """

    name: str
    patient: str
    pixel_mm: tuple[float, float]
    thickness_mm: float
    sequence: Mapping[str, float]


def write_fastmri(
    path: Path,
    kspace: Iterable[NDArray[np.complex64]],
    shape: tuple[int, int, int, int],
    acquisition: Acquisition,
    provenance: Mapping[str, Any],
    lesion_mask: NDArray[np.bool_] | None = None,
) -> None:
    """Write fully sampled k-space, slice by slice, atomically.

    kspace: complex64 (coils, y, x) per slice; shape: (slices, coils, y, x) of it all. Datasets: `kspace`;
    `reconstruction_rss`, float32 (slices, y, x), the root-sum-of-squares image of that same k-space, noise included, as
    in fastMRI; `ismrmrd_header`; and `lesion_mask`, if given, bool (slices, y, x). Attributes: `acquisition`, `max`,
    `norm` (of the target), `patient_id`, and `provenance`, JSON with the version. As in fastMRI the rows (y) are the
    readout. Raises ResourceError if the file cannot be written.
    """
    slices, coils, height, width = shape
    largest, energy, count = 0.0, 0.0, 0
    with hdf5_file(path) as file:
        with explained(path):
            file["ismrmrd_header"] = ismrmrd_header(shape, acquisition)
            stored = file.create_dataset("kspace", shape, np.complex64, chunks=(1, coils, height, width))
            target = file.create_dataset("reconstruction_rss", (slices, height, width), np.float32)
        for index, slice_kspace in enumerate(kspace):
            image = root_sum_of_squares(slice_kspace)
            with explained(path):
                stored[index], target[index] = slice_kspace, image
            largest, energy = max(largest, float(image.max())), energy + float(np.square(image, dtype=np.float64).sum())
            count += 1
        if count != slices:
            raise ValueError(f"{count} slices came where {slices} were announced")
        with explained(path):
            if lesion_mask is not None:
                file.create_dataset("lesion_mask", data=lesion_mask, compression="gzip")
            file.attrs["acquisition"] = acquisition.name
            file.attrs["patient_id"] = acquisition.patient
            file.attrs["max"] = largest
            file.attrs["norm"] = energy**0.5
            file.attrs["provenance"] = json.dumps({"software": f"mrirecon {__version__}", **provenance})


def ismrmrd_header(shape: tuple[int, int, int, int], acquisition: Acquisition) -> bytes:
    """The XML header. ISMRMRD's x is the readout, which here is the rows (y) of the array, and its y the columns."""
    slices, coils, height, width = shape
    pixel_y, pixel_x = acquisition.pixel_mm
    space = SPACE.format(
        y=height, x=width, fov_y=height * pixel_y, fov_x=width * pixel_x, thickness=acquisition.thickness_mm
    )
    order = ("TR", "TE", "TI", "flipAngle_deg")
    sequence = "".join(f"<{k}>{acquisition.sequence[k]:g}</{k}>" for k in order if k in acquisition.sequence)
    text = HEADER.format(
        description=escape(acquisition.name),
        coils=coils,
        space=space,
        last_y=height - 1,
        centre_y=height // 2,
        last_x=width - 1,
        centre_x=width // 2,
        last_slice=slices - 1,
        centre_slice=slices // 2,
        sequence=sequence,
    )
    return text.encode()
