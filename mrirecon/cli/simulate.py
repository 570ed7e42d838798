"""`mrirecon simulate`: a simulated data set in fastMRI layout."""

import json
import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jsonargparse import Namespace
from jsonargparse.typing import NonNegativeInt, PositiveFloat, PositiveInt
from numpy.typing import NDArray

from mrirecon.cli.options import check_writable
from mrirecon.cli.parser import ArgumentParser
from mrirecon.errors import UsageError
from mrirecon.export.fastmri import Acquisition, write_fastmri
from mrirecon.simulation.contrast import PROTOCOLS, Protocol, protocol_of
from mrirecon.simulation.images import labels_to_image, load_labels, load_magnitude
from mrirecon.simulation.phantom import head_phantom
from mrirecon.simulation.scan import simulate_slices

SMALLEST_MATRIX = 32
#: Beyond what any scanner measures; larger ones would fill the memory.
LARGEST_MATRIX = 2048


@dataclass(frozen=True)
class Stack:
    """Images (slices, y, x) to simulate from, their (slice, y, x) voxel sizes in mm, and where the lesions are."""

    images: NDArray[np.float32]
    voxel_mm: tuple[float, float, float]
    lesion_mask: NDArray[np.bool_] | None = None


def run(argv: list[str]) -> int:
    """Write the scans that `argv` asks for; returns the exit code."""
    options = _parser().parse_args(argv)
    contrasts = _contrasts(options)
    paths = _paths(options, contrasts)
    check_writable(paths[0][2])
    written = []
    for done, (index, contrast, path) in enumerate(paths):
        print(f"{done + 1} of {len(paths)}: {path}", file=sys.stderr)
        written.append(_write(path, options, contrast, options.seed + index))
    if options.json:
        print(json.dumps({"simulated": True, "files": written}))
    else:
        for file in written:
            rows, columns = file["matrix"]
            facts = f"{file['slices']} slices, {file['coils']} coils, {rows} × {columns}"
            print(f"{file['path']}: {file['contrast']}, {facts}")
        print("Simulated data, for research only.")
    return 0


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="mrirecon simulate",
        description="Write simulated, fully sampled multi-coil k-space in fastMRI layout (HDF5: kspace, "
        "reconstruction_rss, ismrmrd_header; provenance in the attributes). Without --from, a numerical head phantom "
        "is imaged. 'mrirecon reconstruct FILE --undersample …' takes it from there.",
    )
    add = parser.add_argument
    add("out", type=Path, metavar="OUT", help="a .h5 file, or a folder for files named simulated_000_t2.h5 and so on")
    add("--volumes", type=PositiveInt, default=1, help="how many volumes; each has its own head, coils and noise")
    add(
        "--slices",
        type=PositiveInt | None,
        help="slices per volume (default: 8; with --from: all that are not empty, else this many evenly spread)",
    )
    add(
        "--matrix",
        type=str | None,
        metavar="Y,X",
        help="rows,columns of k-space, at least 32 each (default: 256,256; with --from it is the volume's own)",
    )
    add(
        "--contrast",
        type=str | None,
        help=f"{', '.join(PROTOCOLS)}, or several with commas: each volume is then imaged in each (default: t2; "
        "not for a magnitude volume, which has one already)",
    )
    add("--coils", type=PositiveInt, default=8, help="receive coils")
    add(
        "--snr",
        type=PositiveFloat,
        default=30.0,
        help="mean signal of the object divided by the standard deviation of each coil's complex noise in the image; "
        "inf for none",
    )
    add("--lesions", type=NonNegativeInt, default=0, help="MS-like lesions per phantom; their mask is written as well")
    add("--from", type=Path | None, metavar="NIFTI", help="simulate from this magnitude volume (or --labels map)")
    add("--labels", action="store_true", help="--from is a map of FreeSurfer or SynthSeg label numbers")
    add("--slice-axis", type=int, default=2, help="array axis of --from that counts slices: 0, 1 or 2")
    add("--seed", type=NonNegativeInt, default=0, help="of everything random; volume i uses seed + i")
    add("--json", action="store_true", help="print one JSON object on stdout instead of text")
    return parser


def _contrasts(options: Namespace) -> list[str | None]:
    """The contrasts asked for; None stands for the one that a magnitude volume has. Refuses options that do not fit."""
    source = options["from"]
    if source is None and options.labels:
        raise UsageError("--labels needs --from NIFTI, the label map.")
    if source is not None and options.lesions:
        raise UsageError("--lesions are put into the phantom only; leave out --from or --lesions.")
    if source is not None and options.matrix:
        raise UsageError("--matrix is the phantom's; with --from the matrix is that of the volume.")
    if options.slice_axis not in (0, 1, 2):
        raise UsageError(f"--slice-axis {options.slice_axis}: choose 0, 1 or 2.")
    if source is not None and not options.labels:
        if options.contrast:
            raise UsageError("--contrast is for the phantom and for label maps; a magnitude volume has one already.")
        return [None]
    contrasts = [name.strip().lower() for name in (options.contrast or "t2").split(",")]
    for name in contrasts:
        protocol_of(name)
    return list(dict.fromkeys(contrasts))


def _paths(options: Namespace, contrasts: list[str | None]) -> list[tuple[int, str | None, Path]]:
    """Volume index, contrast and path of every file to write."""
    count = options.volumes * len(contrasts)
    if options.out.suffix.lower() in (".h5", ".hdf5"):
        if count > 1:
            raise UsageError(f"{options.out} is one file and {count} were asked for; give a folder.")
        return [(0, contrasts[0], options.out)]
    return [
        (index, contrast, options.out / f"simulated_{index:03d}_{contrast or 'image'}.h5")
        for index in range(options.volumes)
        for contrast in contrasts
    ]


def _write(path: Path, options: Namespace, contrast: str | None, seed: int) -> dict[str, Any]:
    stack = _stack(options, contrast, seed)
    slices, height, width = stack.images.shape
    if min(height, width) < SMALLEST_MATRIX:
        least = f"at least {SMALLEST_MATRIX} rows and columns are needed"
        raise UsageError(f"{options['from']}: a matrix of {height} × {width} is too small; {least}.")
    shape = slices, options.coils, height, width
    protocol = protocol_of(contrast) if contrast else None
    thickness, *pixel = stack.voxel_mm
    acquisition = Acquisition(
        name=f"AX{contrast.upper()}" if contrast else "simulated",
        patient=f"simulated-{seed}",
        pixel_mm=(pixel[0], pixel[1]),
        thickness_mm=thickness,
        sequence=_sequence(protocol) if protocol else {},
    )
    provenance = {
        "simulated": True,
        "source": str(options["from"]) if options["from"] else "head phantom",
        "labels": options.labels,
        "slice_axis": options.slice_axis,
        "contrast": contrast,
        "protocol": vars(protocol) if protocol else None,
        "shape": shape,
        "snr": _snr(options),
        "lesions": options.lesions,
        "seed": seed,
    }
    kspace = _progress(simulate_slices(stack.images, options.coils, options.snr, seed), slices)
    write_fastmri(path, kspace, shape, acquisition, provenance, stack.lesion_mask)
    return {
        "path": str(path),
        "contrast": contrast or "image",
        "slices": slices,
        "coils": options.coils,
        "matrix": [height, width],
        "snr": _snr(options),
        "seed": seed,
    }


def _snr(options: Namespace) -> float | None:
    """For JSON, which has no infinity: None where there is no noise."""
    return options.snr if math.isfinite(options.snr) else None


def _stack(options: Namespace, contrast: str | None, seed: int) -> Stack:
    """The images: phantom, label map or magnitude volume."""
    source = options["from"]
    if source is None:
        slices = options.slices or 8
        phantom = head_phantom(_matrix(options.matrix or "256,256"), slices, contrast or "t2", seed, options.lesions)
        voxel = (phantom.spacing_mm, phantom.pixel_mm, phantom.pixel_mm)
        return Stack(phantom.images, voxel, phantom.lesion_mask if options.lesions else None)
    if options.labels:
        labels, voxel = load_labels(source, options.slice_axis)
        return Stack(labels_to_image(_some(labels, options.slices), contrast or "t2"), voxel)
    images, voxel = load_magnitude(source, options.slice_axis)
    return Stack(_some(images, options.slices), voxel)


def _some(stack: NDArray[Any], count: int | None) -> NDArray[Any]:
    """`count` slices evenly spread through the stack; all for None."""
    if count is None:
        return stack
    if count > len(stack):
        raise UsageError(f"--slices {count}: the volume has only {len(stack)} slices that are not empty.")
    return stack[((np.arange(count) + 0.5) * len(stack) / count).astype(int)]


def _matrix(text: str) -> tuple[int, int]:
    parts = text.replace("x", ",").split(",")
    if len(parts) != 2 or not all(part.strip().isdigit() for part in parts):
        raise UsageError(f"--matrix {text}: give rows,columns such as 256,256.")
    height, width = (int(part) for part in parts)
    if min(height, width) < SMALLEST_MATRIX:
        raise UsageError(f"--matrix {text}: too small; at least {SMALLEST_MATRIX} rows and columns.")
    if max(height, width) > LARGEST_MATRIX:
        raise UsageError(f"--matrix {text}: too large; at most {LARGEST_MATRIX} rows and columns.")
    return height, width


def _sequence(protocol: Protocol) -> dict[str, float]:
    times = {"TR": protocol.tr_ms, "TE": protocol.te_ms, "TI": protocol.ti_ms, "flipAngle_deg": protocol.flip_angle_deg}
    return {name: value for name, value in times.items() if value is not None}


def _progress(kspace: Iterator[NDArray[np.complex64]], slices: int) -> Iterator[NDArray[np.complex64]]:
    """The same slices, with a bar on stderr where that is a terminal."""
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    return iter(track(kspace, "writing slices", total=slices, console=console, disable=not console.is_terminal))
