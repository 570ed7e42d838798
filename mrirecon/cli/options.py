"""What several commands do with their options alike."""

import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from jsonargparse import Namespace
from jsonargparse.typing import PositiveInt

from mrirecon.acquisition.scan import Scan
from mrirecon.cli.parser import ArgumentParser
from mrirecon.conditioning.opening import open_scans
from mrirecon.conditioning.options import SKIPPABLE, Conditioning
from mrirecon.errors import ResourceError, UsageError
from mrirecon.scratch import Scratch

if TYPE_CHECKING:
    import torch


def add_scan_options(parser: ArgumentParser) -> None:
    """How a file is to be understood, and what is done to its k-space before it is reconstructed."""
    add = parser.add_argument
    add("--key", type=str | None, help="name of the k-space array in the file, where there are several")
    add(
        "--axes",
        type=str | None,
        help="the array's axes in order, such as ky,kx,coil or slice,coil,readout,phase, of: slice, coil, y or ky, x "
        "or kx, or readout and phase instead of y and x, kz (second phase encode of a 3D scan), and echo, contrast, "
        "repetition, time, each step of which is a volume of its own; MATLAB arrays in MATLAB's order (default: the "
        "format's own order, or a guess that is noted)",
    )
    add("--group", type=str | None, metavar="NAME", help="which measurement of a raw data file (default: the last)")
    add("--noise", type=Path | None, metavar="FILE", help="noise scan with the same coils, to whiten the noise with")
    add(
        "--background-noise",
        action="store_true",
        help="whiten with the noise of the scan's own background, as is done for raw data without a noise scan",
    )
    add(
        "--compress-coils",
        type=float | None,
        metavar="N",
        help="combine the coils into N virtual ones; below 1: into as many as keep this share of the energy",
    )
    add(
        "--compression",
        type=str,
        default="svd",
        help="svd: one matrix for the scan; geometric: one per position along the readout",
    )
    add(
        "--directions",
        type=str,
        default="auto",
        help="how raw data's direction cosines relate to the image: mrd, siemens, or auto, by the vendor in the header",
    )
    add(
        "--skip",
        type=str,
        action="append",
        default=[],
        metavar="STEP",
        help=f"leave a step of conditioning out: {', '.join(SKIPPABLE)}; can be given several times",
    )


def conditioning_of(options: Namespace) -> Conditioning:
    """What the options of `add_scan_options` ask for."""
    return Conditioning(
        skip=tuple(options.skip),
        noise=options.noise,
        background_noise=options.background_noise,
        coils=options.compress_coils,
        compression=options.compression,
        directions=options.directions,
    )


def opened_scans(path: Path, options: Namespace, scratch: Scratch | None = None) -> list[Scan]:
    """The volumes in the file, opened as the options of `add_scan_options` ask. scratch: as of `open_scans`."""
    conditioning, scratch = conditioning_of(options), scratch or Scratch()
    return open_scans(path, conditioning, key=options.key, axes=options.axes, group=options.group, scratch=scratch)


def chosen_volumes(scans: Sequence[Scan], name: str | None) -> list[Scan]:
    """The volume called `name`, or all."""
    chosen = [scan for scan in scans if name in (None, scan.volume)]
    if not chosen:
        there = ", ".join(scan.volume or "one without a name" for scan in scans)
        raise UsageError(f"{scans[0].path}: --volume {name}: there is no such volume; there are: {there}.")
    return chosen


def add_machine_options(parser: ArgumentParser) -> None:
    """--device, --threads, and --allow-package for checkpoints."""
    add = parser.add_argument
    add("--device", type=str, default="auto", help="auto, cpu or cuda (default: auto, a GPU where there is one)")
    add("--threads", type=PositiveInt | None, help="CPU threads (default: PyTorch's choice, the number of cores)")
    add(
        "--allow-package",
        type=str,
        action="append",
        default=[],
        metavar="NAME",
        help="package beside mrirecon whose classes a checkpoint may use; only for packages you trust",
    )


def torch_device(name: str) -> "torch.device":
    """The device called auto, cpu or cuda; auto is a GPU where there is one."""
    import torch

    if name not in ("auto", "cpu", "cuda"):
        raise UsageError(f"--device {name}: choose auto, cpu or cuda.")
    if name == "cuda" and not torch.cuda.is_available():
        raise UsageError("--device cuda: this PyTorch sees no CUDA GPU; use --device cpu or auto.")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def memory_size(text: str) -> int:
    """Bytes of a size such as 2GB, 1.5GiB or 800MB; units are needed. Raises UsageError for all else."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?) ?([KMGT])(i?)B", text.strip(), re.IGNORECASE | re.ASCII)
    if not match or float(match[1]) == 0:
        raise UsageError(f"--memory {text}: give a size with its unit, such as 2GB, 1.5GiB or 800MB.")
    power = "KMGT".index(match[2].upper()) + 1
    return int(float(match[1]) * (1024 if match[3] else 1000) ** power)


def existing_folder(output: Path) -> Path:
    """The folder in which an output will be, or the nearest one around it that exists."""
    return output if output.is_dir() else next(parent for parent in output.absolute().parents if parent.exists())


def check_writable(output: Path) -> None:
    """Refuse now an output, file or folder, that could not be written after the long work."""
    try:
        tempfile.TemporaryFile(dir=existing_folder(output)).close()
    except OSError as error:
        raise ResourceError(f"{output}: cannot be written ({error.strerror}); choose another output.") from error
