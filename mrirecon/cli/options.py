"""What several commands do with their options alike."""

import tempfile
from pathlib import Path

import torch
from jsonargparse.typing import PositiveInt

from mrirecon.cli.parser import ArgumentParser
from mrirecon.errors import ResourceError, UsageError


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


def torch_device(name: str) -> torch.device:
    """The device called auto, cpu or cuda; auto is a GPU where there is one."""
    if name not in ("auto", "cpu", "cuda"):
        raise UsageError(f"--device {name}: choose auto, cpu or cuda.")
    if name == "cuda" and not torch.cuda.is_available():
        raise UsageError("--device cuda: this PyTorch sees no CUDA GPU; use --device cpu or auto.")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def check_writable(output: Path) -> None:
    """Refuse now an output, file or folder, that could not be written after the long work."""
    folder = output if output.is_dir() else next(parent for parent in output.absolute().parents if parent.exists())
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise ResourceError(f"{output}: cannot be written ({error.strerror}); choose another output.") from error
