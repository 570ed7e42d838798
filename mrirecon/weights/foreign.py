"""Checkpoints of other toolboxes, opened without running anything that comes with them.

What a file is shows in its content, never in its name: torch files (zip or legacy, bare or by Lightning), safetensors,
and the tar archives of ATOMMIC and mridc. Which network the weights make is for `mrirecon.models.importers` to say.
"""

import gzip
import hashlib
import itertools
import math
import re
import tarfile
import tempfile
import warnings
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import IO, Any

import torch
import yaml
from safetensors import SafetensorError, safe_open
from torch import Tensor

from mrirecon.errors import CheckpointError
from mrirecon.models.importers.atommic_release import configured_time_steps
from mrirecon.weights.checkpoint import FACTS, MAX_BYTES

MAX_YAML_BYTES = 2**20
#: Archives hold two files; more are not looked through.
MAX_MEMBERS = 100
CONFIG_MEMBER, WEIGHTS_MEMBER = "model_config.yaml", "model_weights.ckpt"
#: Where the weights lie, if not at the top: Lightning; DIRECT and mridc v.0.0.1.
WEIGHT_KEYS = ("state_dict", "model")
#: Where the settings lie beside them: Lightning; mridc v.0.0.1.
SETTINGS_KEYS = ("hyper_parameters", "args")


#: What the toolboxes store beside their weights: command lines, configurations, numbers, paths. Nothing of it is made;
#: an `Inert` takes its place.
INERT = (
    *("argparse.Namespace", "collections.defaultdict", "pathlib.PosixPath", "pathlib._local.PosixPath", "typing.Any"),
    *(f"builtins.{name}" for name in ("dict", "list", "tuple", "int", "float", "str", "bool")),
    *(f"numpy.{name}" for name in ("dtype", "ndarray")),
    *(f"numpy.{core}.multiarray.{name}" for core in ("core", "_core") for name in ("scalar", "_reconstruct")),
    *("omegaconf.dictconfig.DictConfig", "omegaconf.listconfig.ListConfig"),
    *("omegaconf.base.Metadata", "omegaconf.base.ContainerMetadata"),
    *(f"omegaconf.nodes.{kind}Node" for kind in ("Any", "String", "Integer", "Float", "Boolean")),
    "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint",
)


class Inert:
    """Stands for an object of another package: keeps the attributes that were stored, and does nothing."""

    def __init__(self, *arguments: object):
        pass

    def __setstate__(self, state: object) -> None:
        if isinstance(state, dict):
            vars(self).update(state)


def _plain(value: object, depth: int = 5) -> Any:
    """Stored settings as plain values: attributes of a command line, content of OmegaConf's containers and nodes.

    What lies deeper than any settings do becomes None: a forged file can hold more than the memory, by repetition.
    """
    if isinstance(value, Inert):
        value = next((vars(value)[key] for key in ("_content", "_val") if key in vars(value)), vars(value))
        return _plain(value, depth)
    if isinstance(value, dict | list | tuple) and not (depth and len(value) < 1000):
        return None
    if isinstance(value, dict):
        return {str(key): _plain(entry, depth - 1) for key, entry in value.items()}
    return [_plain(entry, depth - 1) for entry in value] if isinstance(value, list | tuple) else value


@dataclass(frozen=True)
class ForeignCheckpoint:
    """Weights by the other toolbox's keys, on the CPU, and what is stored beside them.

    settings: of the network, by that toolbox's names; empty where none are stored. model: the name of the network.
    version: of the toolbox. Both None where the file does not tell. sha256: of the file.
    """

    state_dict: dict[str, Tensor]
    settings: dict[str, Any]
    model: str | None
    version: str | None
    sha256: str


def read_foreign(path: Path, config: Path | None = None) -> ForeignCheckpoint:
    """Open a checkpoint of another toolbox. config: its YAML file, if that lies beside the weights.

    Settings of `config` go before those in the checkpoint. Raises CheckpointError, with the reason, for everything
    that is not a checkpoint, is damaged, too large, or holds objects other than tensors and plain values.
    """
    try:
        with _opened(path, MAX_BYTES) as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            file.seek(0)
            contents, settings = _read(path, file)
        state_dict = _weights(contents)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    settings = _stored_settings(contents) | settings
    if config is not None:
        try:
            with _opened(config, MAX_YAML_BYTES) as file:
                settings |= _parsed(file.read())
        except CheckpointError as error:
            raise CheckpointError(f"{config}: {error}") from error
    if "model_name" in settings and isinstance(steps := settings.get("time_steps"), int):
        # A configuration of ATOMMIC, or of mridc from 0.1 on: more time steps are run than it says.
        settings.setdefault("time_steps_used", configured_time_steps(steps))
    version = settings.get("atommic_version") or settings.get("mridc_version") or contents.get("__version__")
    model = settings.get("model_name") or settings.get("target")
    return ForeignCheckpoint(
        state_dict, settings, None if model is None else str(model), None if version is None else str(version), sha256
    )


def _opened(path: Path, limit: int) -> BufferedReader:
    if path.is_dir():
        raise CheckpointError("is a folder; give the file in it.")
    if not path.is_file():
        raise CheckpointError("there is no such file; check the path.")
    size = path.stat().st_size
    if size == 0:
        raise CheckpointError("is empty; the download or copy failed, so fetch it again.")
    if size > limit:
        raise CheckpointError(f"is larger than {_size(limit)}, which is not opened; save the weights alone.")
    return path.open("rb")


def _size(limit: int) -> str:
    return f"{limit // 2**30} GiB" if limit >= 2**30 else f"{limit // 2**20} MiB"


def _read(path: Path, file: IO[bytes]) -> tuple[Mapping[str, Any], dict[str, Any]]:
    """What the file holds, by its keys, and the settings of an archive."""
    head = file.read(512)
    file.seek(0)
    text = head.lstrip().lower()
    if text.startswith(b"<"):
        raise CheckpointError("is a web page or a server's message and no checkpoint; download the file again.")
    if text.startswith(b"version https://git-lfs"):
        raise CheckpointError("only says where Git LFS keeps the file; fetch that with 'git lfs pull'.")
    if head.startswith(b"\x1f\x8b"):
        with _decompressed(file) as archive:
            return _read_archive(archive)
    if head[257:262] == b"ustar":
        return _read_archive(file)
    if head[8:9] == b"{":
        return _read_safetensors(path), {}
    if not head.startswith((b"PK", b"\x80")):
        raise CheckpointError("is no checkpoint: neither a torch file, nor safetensors, nor an archive of ATOMMIC.")
    return _unpickle(file), {}


def _read_safetensors(path: Path) -> dict[str, Any]:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if FACTS in metadata:
                return {FACTS: metadata[FACTS]}
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, ValueError) as error:
        raise CheckpointError(f"begins like a safetensors file and is damaged ({error}).") from error


def _decompressed(file: IO[bytes]) -> IO[bytes]:
    """The content of a gzip file, on disk, up to the limit."""
    target = tempfile.TemporaryFile()  # noqa: SIM115 (closed by the caller)
    try:
        with gzip.open(file) as source:
            for block in iter(lambda: source.read(2**20), b""):
                if target.tell() + len(block) > MAX_BYTES:
                    raise CheckpointError(f"holds more than {_size(MAX_BYTES)}, which is not unpacked.")
                target.write(block)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise CheckpointError("is damaged or cut off; fetch it again.") from error
    target.seek(0)
    return target


def _read_archive(file: IO[bytes]) -> tuple[Mapping[str, Any], dict[str, Any]]:
    """Weights and settings of an archive of ATOMMIC or mridc. Nothing is extracted to disk."""
    try:
        with tarfile.open(fileobj=file, mode="r:") as archive:
            members = {
                member.name.removeprefix("./"): member
                for member in itertools.islice(archive, MAX_MEMBERS)
                if member.isreg() and not member.issparse()
            }
            if missing := [name for name in (CONFIG_MEMBER, WEIGHTS_MEMBER) if name not in members]:
                raise CheckpointError(f"is a tar archive without {missing[0]}, so it is none of ATOMMIC or mridc.")
            for name, limit in ((CONFIG_MEMBER, MAX_YAML_BYTES), (WEIGHTS_MEMBER, MAX_BYTES)):
                if members[name].size > limit:
                    raise CheckpointError(f"has a {name} larger than {_size(limit)}, which is not opened.")
            config, weights = archive.extractfile(members[CONFIG_MEMBER]), archive.extractfile(members[WEIGHTS_MEMBER])
            assert config is not None  # both are regular files
            assert weights is not None
            return _unpickle(weights), _parsed(config.read())
    except (tarfile.TarError, EOFError, ValueError) as error:
        raise CheckpointError("is a tar archive that is damaged or cut off; fetch it again.") from error


def _unpickle(file: IO[bytes]) -> Mapping[str, Any]:
    """The dictionary in a torch file. Torch's restricted unpickler makes tensors, plain values and `Inert`s only."""
    if file.read(2) == b"PK":
        _check_zip(file)
    file.seek(0)
    try:
        with warnings.catch_warnings(action="ignore"), torch.serialization.safe_globals([(Inert, n) for n in INERT]):
            contents = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # a forged file can raise anything here
        if found := re.search(r"GLOBAL (\S+)", str(error)):
            raise CheckpointError(
                f"holds an object of {found[1]}, which is not made because it could run code; where the toolbox is "
                "installed, save the state dict alone with torch.save, and give the settings with --config or --set."
            ) from error
        raise CheckpointError("holds more than tensors and plain values, or is damaged or cut off.") from error
    if not isinstance(contents, Mapping):
        raise CheckpointError(f"holds a {type(contents).__name__} where weights by their names were expected.")
    return contents


def _check_zip(file: IO[bytes]) -> None:
    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise CheckpointError("is damaged or cut off; fetch it again.") from error
    if not any(member.filename.endswith("/data.pkl") for member in members):
        listed = ", ".join(member.filename for member in members[:5])
        raise CheckpointError(
            f"is a zip archive with {listed or 'nothing in it'}; unpack it, give the checkpoint that was in it, and "
            "its YAML, if there is one, with --config."
        )
    if sum(member.file_size for member in members) > MAX_BYTES:
        raise CheckpointError(f"holds more than {_size(MAX_BYTES)}, which is not unpacked; save the weights alone.")


def _weights(contents: Mapping[str, Any]) -> dict[str, Tensor]:
    """The state dict in what a file holds. A sensitivity network of its own (DIRECT) is put beside the model's keys."""
    if FACTS in contents:
        raise CheckpointError("is a checkpoint of mrirecon; use it as it is, with 'reconstruct --method FILE'.")
    found = next((contents[key] for key in WEIGHT_KEYS if isinstance(contents.get(key), Mapping)), contents)
    weights = dict(found)
    if found is not contents and isinstance(maps := contents.get("sensitivity_model"), Mapping):
        weights |= {f"sensitivity_model.{key}": value for key, value in maps.items()}
    if not weights:
        raise CheckpointError("holds no weights.")
    for key, value in weights.items():
        if not isinstance(value, Tensor) or not isinstance(key, str):
            raise CheckpointError(f"holds '{key}' of type {type(value).__name__} where weights are expected.")
        if value.layout is not torch.strided or value.device.type != "cpu" or value.is_quantized:
            raise CheckpointError(f"holds '{key}' as a sparse, quantised or empty tensor; save ordinary ones.")
    if sum(math.prod(value.shape) * value.element_size() for value in weights.values()) > MAX_BYTES:
        raise CheckpointError(f"describes weights of more than {_size(MAX_BYTES)}, which no network here has.")
    return {key: value.detach() for key, value in weights.items()}


def _stored_settings(contents: Mapping[str, Any]) -> dict[str, Any]:
    """What a Lightning checkpoint, or one of mridc v.0.0.1, says of its network; `cfg` is where ATOMMIC keeps it."""
    stored = next((plain for key in SETTINGS_KEYS if isinstance(plain := _plain(contents.get(key)), dict)), {})
    return dict(stored["cfg"]) if isinstance(stored.get("cfg"), dict) else stored


def _parsed(text: bytes) -> dict[str, Any]:
    """The network's settings in a YAML: the block `model`, or all of it.

    What DIRECT says elsewhere about the Fourier transform and the sensitivity network is put beside them.
    """
    try:
        document = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise CheckpointError("is no plain YAML (objects of Python are not made), or is damaged.") from error
    block = document.get("model", document) if isinstance(document, Mapping) else document
    if not isinstance(block, Mapping):
        raise CheckpointError("is a YAML without the settings of a network.")
    settings = {str(name): value for name, value in block.items()}
    for outer, inner in (("physics", "forward_operator"), ("additional_models", "sensitivity_model")):
        if isinstance(document.get(outer), Mapping) and inner in document[outer]:
            settings[inner] = document[outer][inner]
    return settings
