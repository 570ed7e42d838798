"""Methods by the names that people type: classical ones, shipped models, checkpoint files."""

import importlib
import inspect
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mrirecon.errors import CheckpointError, UsageError
from mrirecon.weights import shipped_models

if TYPE_CHECKING:
    from mrirecon.physics.measurement import Reconstructor
    from mrirecon.weights.intended import Ranges

#: Name → class path. Only the one that is asked for is imported.
CLASSICAL = {
    "zero-filled": "mrirecon.classical.zero_filled.ZeroFilled",
    "cg-sense": "mrirecon.classical.cg_sense.CGSense",
    "cs": "mrirecon.classical.compressed_sensing.CompressedSensing",
    "cs-sigpy": "mrirecon.classical.sigpy_compressed_sensing.SigpyCompressedSensing",
}


@dataclass(frozen=True)
class Method:
    """A reconstructor, ready to use (eval mode, CPU), and where it comes from.

    config: class_path and init_args it was built from. sha256: of the checkpoint; None for classical methods.
    intended: the ranges that its card states, see `mrirecon.weights.intended`.
    """

    name: str
    reconstructor: "Reconstructor"
    config: dict[str, Any]
    sha256: str | None = None
    intended: "Ranges" = field(default_factory=dict)


def default_method() -> str:
    """The first shipped model; compressed sensing if none is shipped."""
    return next(iter(shipped_models()), "cs")


def method_by_name(name: str, allow_packages: Sequence[str] = ()) -> Method:
    """The method called `name`: zero-filled, cg-sense, cs, cs-sigpy, a shipped model, or the path of a checkpoint.

    allow_packages: packages beside mrirecon whose classes a checkpoint's config may name.
    Raises UsageError for an unknown name, CheckpointError for a checkpoint that is missing, damaged, or not ours.
    """
    path = checkpoint_of(name)
    if path is None:
        class_path = CLASSICAL[name]
        module, _, class_name = class_path.rpartition(".")
        kind = getattr(importlib.import_module(module), class_name)
        defaults = {key: parameter.default for key, parameter in inspect.signature(kind).parameters.items()}
        return Method(name, kind().eval(), {"class_path": class_path, "init_args": defaults})
    from mrirecon.weights.checkpoint import load_checkpoint
    from mrirecon.weights.intended import intended_ranges

    checkpoint = load_checkpoint(path, allow_packages)
    ranges = intended_ranges(checkpoint.card)
    return Method(name, checkpoint.model.eval(), checkpoint.config, checkpoint.sha256, ranges)


def checkpoint_of(name: str) -> Path | None:
    """The file of the method called `name`; None for a classical one. Errors as of `method_by_name`."""
    if name in CLASSICAL:
        return None
    shipped = shipped_models()
    path = shipped.get(name, Path(name))
    if not path.is_file():
        if path.suffix or len(path.parts) > 1:
            raise CheckpointError(f"{path}: there is no such checkpoint file; check the path.")
        choices = ", ".join([*CLASSICAL, *shipped])
        raise UsageError(f"there is no method '{name}'; choose one of {choices}, or give a checkpoint file.")
    return path
