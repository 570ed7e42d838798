"""NIfTI-1 files with the scanner's coordinates, and the JSON file beside them that BIDS tools read."""

import gzip
import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from mrirecon import __version__
from mrirecon.acquisition.axes import times
from mrirecon.atomic import atomic_path
from mrirecon.errors import InputError, UsageError
from mrirecon.export.hdf5 import DISCLAIMER, explained
from mrirecon.export.images import Images, Origin, affines_ras, geometry_text

log = logging.getLogger("mrirecon")

SUFFIXES = (".nii.gz", ".nii")
#: NIfTI's code for coordinates of the scanner; 0 says that they are unknown.
SCANNER, UNKNOWN = 1, 0
LONGEST_AXIS = 32767


def write_nifti(path: Path, images: Images, origin: Origin) -> list[Path]:
    """Write magnitudes to `path` (.nii or .nii.gz), float32 (x, y, slice); returns all files written.

    Complex images go beside them as complex64 to NAME_complex.nii, facts to NAME.json. Slices that are not evenly
    spaced fit into no single file: each gets its own, NAME_slice-0001.nii and so on, which a warning tells. Where
    geometry is unknown, so say the codes of the coordinates (0) and a warning.
    Raises UsageError for another suffix, InputError for images too large for the format, ResourceError if a file cannot
    be written.
    """
    stem, suffix = stem_of(path), path.name[len(stem_of(path)) :]
    slices, *matrix = images.shape
    if max(images.shape) > LONGEST_AXIS:
        raise InputError(
            f"{origin.scan.path}: its images of {times(images.shape)} voxels do not fit into NIfTI-1, which has at "
            f"most {LONGEST_AXIS} along an axis; write HDF5."
        )
    if origin.geometry is None:
        log.warning("%s: position and orientation are unknown, and written as unknown.", path.name)
        stacks: list[tuple[str, range, NDArray[np.float64] | None]] = [("", range(slices), None)]
    else:
        affines = affines_ras(origin.geometry, (matrix[0], matrix[1]))
        stacks = [("", range(slices), affines[0])]
        if origin.geometry.spacing_mm is None:
            log.warning("%s: the slices are not evenly spaced; each gets a file of its own.", path.name)
            stacks = [(f"_slice-{i + 1:04}", range(i, i + 1), affine) for i, affine in enumerate(affines)]
    written = []
    for label, indices, affine in stacks:
        target = path.with_name(f"{stem}{label}{suffix}")
        _write(target, images, indices, affine, origin, np.abs, np.float32)
        sidecar = path.with_name(f"{stem}{label}.json")
        with atomic_path(sidecar) as temporary, explained(sidecar):
            temporary.write_text(json.dumps(bids_facts(images, origin), indent=2) + "\n")
        written += [target, sidecar]
        if images.complex:
            target = path.with_name(f"{stem}{label}_complex{suffix}")
            _write(target, images, indices, affine, origin, np.asarray, np.complex64)
            written.append(target)
    return written


def stem_of(path: Path) -> str:
    """The name without .nii or .nii.gz, with which all files that are written begin. UsageError for another suffix."""
    for suffix in SUFFIXES:
        if path.name.lower().endswith(suffix):
            return path.name[: -len(suffix)]
    raise UsageError(f"{path}: NIfTI files end in .nii or .nii.gz; change the output's name.")


def _write(
    path: Path,
    images: Images,
    indices: range,
    affine: NDArray[np.float64] | None,
    origin: Origin,
    part: Callable[[NDArray], NDArray],
    dtype: type,
) -> None:
    """One file. NIfTI's first axis varies fastest, so that a slice (y, x) in C order is its slice (x, y)."""
    from nibabel.nifti1 import Nifti1Header

    header = Nifti1Header(endianness="<")
    header.set_data_dtype(dtype)
    header.set_data_shape((*images.shape[:0:-1], len(indices)))
    voxel = origin.voxel_mm(images.shape)
    header.set_zooms((voxel or (1.0, 1.0, 1.0))[::-1])
    header.set_xyzt_units("mm" if voxel else "unknown", "sec")
    header.set_slope_inter(1, 0)
    header["descrip"] = f"{origin.software} {DISCLAIMER}".encode()[:79]
    header.set_qform(affine, SCANNER if affine is not None else UNKNOWN)
    header.set_sform(affine, SCANNER if affine is not None else UNKNOWN)
    little_endian = np.dtype(dtype).newbyteorder("<")
    with atomic_path(path) as temporary, explained(path), _opened(temporary) as file:
        header.write_to(file)
        for index in indices:
            file.write(np.ascontiguousarray(part(images.slice(index)), dtype=little_endian).tobytes())


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    """For writing, compressed if the name says so; neither name nor time goes into the file."""
    with path.open("wb") as file:
        if path.suffix.lower() == ".gz":
            with gzip.GzipFile(fileobj=file, filename="", mode="wb", mtime=0, compresslevel=6) as compressed:
                yield compressed  # type: ignore[misc]
        else:
            yield file


def bids_facts(images: Images, origin: Origin) -> dict[str, Any]:
    """What BIDS's keys and a few of ours tell of the images; only what is known, nothing of the patient."""
    header, geometry = origin.scan.header, origin.geometry
    facts = {
        "Modality": "MR",
        "Manufacturer": header.vendor,
        "ManufacturersModelName": header.model,
        "MagneticFieldStrength": header.field_strength_t,
        "ImagingFrequency": _scaled(header.frequency_hz, 1e-6),
        "EchoTime": _scaled(header.te_ms, 1e-3),
        "RepetitionTime": _scaled(header.tr_ms, 1e-3),
        "InversionTime": _scaled(header.ti_ms, 1e-3),
        "FlipAngle": header.flip_angle_deg,
        "SliceThickness": geometry.thickness_mm if geometry else header.slice_thickness_mm,
        "SpacingBetweenSlices": geometry.spacing_mm if geometry and geometry.slices > 1 else None,
        "PatientPosition": geometry.patient_position if geometry else None,
        "ParallelReductionFactorInPlane": round(origin.acceleration, 4),
        "PartialFourier": partial_fourier(origin),
        "ConversionSoftware": "mrirecon",
        "ConversionSoftwareVersion": __version__,
        "ReconstructionMethod": origin.method,
        "GeometryKnown": geometry is not None,
        "GeometryProven": geometry.proven if geometry else None,
        "GeometryConvention": geometry_text(geometry),
        "Units": "arbitrary",
        "Remark": DISCLAIMER,
    }
    return {key: value for key, value in facts.items() if value is not None}


def _scaled(value: float | None, factor: float) -> float | None:
    # Rounded, because 4.1 ms are 0.0041 s and not 0.0040999999999999995 s.
    return None if value is None else round(value * factor, 9)


def partial_fourier(origin: Origin) -> float | None:
    """The share of k-space along the phase encodes that was acquired, where one side of it was left out.

    Lines missing equally on both sides are lower resolution instead. None where the header does not tell.
    """
    scan = origin.scan
    axes = {"y": [1], "x": [0], None: [0, 1] if scan.stack == "readouts" else []}[scan.header.readout_axis]
    if scan.header.acquired is None or not axes:
        return None
    share = 1.0
    for axis in axes:
        (first, last), length = scan.header.acquired[axis], scan.shape[2 + axis]
        longer_side = max(length // 2 - first, last - length // 2)
        share *= (last - first) / min(2 * longer_side, length)
    return round(share, 2)
