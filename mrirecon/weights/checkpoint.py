"""Reading and writing of checkpoints.

A checkpoint for use is one safetensors file; its metadata holds the network's class and arguments and the model card.
The checkpoints that training writes to resume from (Lightning, `.ckpt`) carry the same facts and load as well.
"""

import hashlib
import json
import pickle
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from mrirecon import __version__
from mrirecon.atomic import atomic_path
from mrirecon.errors import CheckpointError
from mrirecon.models.build import build
from mrirecon.physics.measurement import Reconstructor

MAX_BYTES = 4 * 2**30
#: Key of the facts, as JSON, in the metadata of a safetensors file and in a Lightning checkpoint.
FACTS = "mrirecon"
#: Networks that once had an argument `checkpoint_steps`, of which now the training is told.
ONCE_TOLD = ("rim.RIM", "rim.IRIM", "cirim.CIRIM", "RIM", "IRIM", "CIRIM")


@dataclass(frozen=True)
class Checkpoint:
    """model: in eval mode, on the CPU. config: {"class_path", "init_args"}. card: Markdown. sha256: of the file."""

    model: Reconstructor
    config: dict[str, Any]
    card: str
    sha256: str


def facts_of(config: Mapping[str, Any], card: str) -> str:
    """What a checkpoint says about itself, as JSON."""
    return json.dumps({"format": 1, "version": __version__, "config": config, "card": card})


def save_checkpoint(path: Path, model: nn.Module, config: Mapping[str, Any], card: str) -> None:
    """Write weights, config {"class_path", "init_args"} and card of a model to a safetensors file, atomically."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata={FACTS: facts_of(config, card)})


def load_checkpoint(path: Path, allow_packages: Sequence[str] = ()) -> Checkpoint:
    """Load a safetensors or Lightning checkpoint that mrirecon wrote.

    allow_packages: top-level packages, beside mrirecon, whose network classes may be instantiated. Raises
    CheckpointError, with the reason, for everything that is not a whole, loadable checkpoint of ours.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: no such checkpoint; 'cs' and 'cg-sense' need none.")
    if path.stat().st_size > MAX_BYTES:
        raise CheckpointError(f"{path}: larger than {MAX_BYTES // 2**30} GiB, which no checkpoint of mrirecon is.")
    facts, tensors = _read_lightning(path) if zipfile.is_zipfile(path) else _read_safetensors(path)
    model = _instantiate(facts["config"], path, allow_packages)
    if not isinstance(model, Reconstructor):
        raise CheckpointError(f"{path}: names {type(model).__name__}, which is not a reconstructor.")
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        raise CheckpointError(f"{path}: the weights do not fit the network its config describes ({error}).") from error
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return Checkpoint(model.eval(), facts["config"], facts["card"], sha256)


def _read_safetensors(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{path}: not a checkpoint, or damaged ({error}).") from error
    return _facts(path, metadata.get(FACTS)), tensors


def _read_lightning(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    try:
        archive = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError, ValueError) as error:
        raise CheckpointError(f"{path}: holds more than tensors, or is damaged, so it is not opened.") from error
    if not isinstance(archive, dict) or not isinstance(archive.get("state_dict"), dict):
        raise CheckpointError(f"{path}: not a checkpoint of mrirecon: it has no 'state_dict'.")
    prefix = "model."
    state = archive["state_dict"]
    tensors = {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
    return _facts(path, archive.get(FACTS)), tensors


def _facts(path: Path, text: object) -> dict[str, Any]:
    if not isinstance(text, str):
        raise CheckpointError(f"{path}: weights without a config; it was not written by mrirecon.")
    try:
        facts = json.loads(text)
        if isinstance(facts["config"], dict) and isinstance(facts["card"], str):
            take_checkpointing(facts["config"])
            return dict(facts)
    except (ValueError, KeyError, TypeError, RecursionError):
        pass
    raise CheckpointError(f"{path}: its config is damaged.")


def take_checkpointing(config: dict[str, Any]) -> bool:
    """Take `checkpoint_steps`, which concerns training alone, out of an older config of a network; was it on?"""
    arguments = config.get("init_args")
    if not isinstance(arguments, dict):
        return False
    told = str(config.get("class_path")).removeprefix("mrirecon.models.") in ONCE_TOLD
    asked = told and arguments.pop("checkpoint_steps", False)
    inside = [take_checkpointing(value) for value in arguments.values() if isinstance(value, dict)]
    return bool(asked) or any(inside)


def _instantiate(config: Mapping[str, Any], path: Path, allow_packages: Sequence[str]) -> object:
    """Build the module that a config names. The config is data from outside: names are checked before any import."""
    _check_names(config, path, allow_packages)
    try:
        return build(config)
    except (ImportError, AttributeError, TypeError, ValueError, KeyError, RuntimeError) as error:
        raise CheckpointError(f"{path}: cannot build '{config['class_path']}' ({error}).") from error


def _check_names(config: Mapping[str, Any], path: Path, allow_packages: Sequence[str]) -> None:
    class_path = config.get("class_path")
    if not isinstance(class_path, str) or not all(part.isidentifier() for part in class_path.split(".")):
        raise CheckpointError(f"{path}: its config names no class.")
    package = class_path.split(".")[0]
    if package not in ("mrirecon", *allow_packages):
        raise CheckpointError(
            f"{path}: wants to run code of the package '{package}'; if you trust it, add --allow-package {package}."
        )
    init_args = config.get("init_args") or {}
    if not isinstance(init_args, dict):
        raise CheckpointError(f"{path}: its config is damaged.")
    for value in init_args.values():
        if isinstance(value, dict) and "class_path" in value:
            _check_names(value, path, allow_packages)
