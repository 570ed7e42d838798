"""What several commands do with their options alike."""

import tempfile
from pathlib import Path

import torch

from mrirecon.errors import ResourceError, UsageError


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
