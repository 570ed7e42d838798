"""Training of a grid's networks: what `mrirecon train` would be told, where it stays, and what came out."""

import hashlib
import logging
import time
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import yaml

from mrirecon.atomic import atomic_path
from mrirecon.errors import CheckpointError, UsageError
from mrirecon.evaluation.grid.config import Grid, Variant
from mrirecon.evaluation.grid.data import GridVolume, of_split
from mrirecon.evaluation.grid.files import training_config
from mrirecon.evaluation.grid.store import keep, key_of
from mrirecon.models.build import build
from mrirecon.reconstruction.methods import Method, method_by_name
from mrirecon.weights.checkpoint import load_checkpoint


@dataclass(frozen=True)
class TrainingJob:
    """One network to train: the training configuration, and the folder that keeps it."""

    config: dict[str, Any]
    folder: Path

    @property
    def done(self) -> Path:
        """Where the facts of a finished training are."""
        return self.folder / "done.json"


def training_job(
    grid: Grid, variant: Variant, volumes: Sequence[GridVolume], hashes: dict[Path, str], folder: Path, gpu: bool
) -> TrainingJob:
    """The training of a variant on the volumes of the splits train and val. UsageError if there are none."""
    files = {split: sorted(str(v.path) for v in of_split(volumes, split)) for split in ("train", "val")}
    if not all(files.values()):
        raise UsageError(
            f"{variant.name} is to be trained, and the data set has {len(files['train'])} files of the split train and "
            f"{len(files['val'])} of val; give both, or checkpoints."
        )
    data: dict[str, Any] = {
        **files,
        "matrix": grid.training.matrix and list(grid.training.matrix),
        "batch_size": grid.training.batch_size,
        "seed": variant.seed,
        "undersampling": {
            "masks": list(grid.masks),
            "acceleration": [round(min(grid.accelerations)), round(max(grid.accelerations))],
            "acs": list(grid.training.acs),
        },
    }
    config = {
        "seed_everything": variant.seed,
        "model": _model(variant),
        "data": {"class_path": "mrirecon.data.datamodule.ScanData", "init_args": data},
        "trainer": {
            "max_epochs": grid.training.epochs,
            "precision": grid.training.precision,
            "accelerator": "gpu" if gpu else "cpu",
            "devices": 1,
            "logger": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
        },
    }
    contents = {split: [hashes[Path(file)] for file in names] for split, names in files.items()}
    facts = {**config, "data": {**data, **contents}}
    return TrainingJob(config, folder / f"{variant.file_stem}-{key_of(facts)}")


def train_network(job: TrainingJob) -> None:
    """Train, from the last finished epoch if it was interrupted.

    Writes best.safetensors, done.json, and into training.log what a training says.
    """
    from mrirecon.training.run import train

    # Folders move; the configuration that is kept names the one of now.
    config_file, last = job.folder / "training.yaml", job.folder / "last.ckpt"
    with atomic_path(config_file) as temporary:
        temporary.write_text(yaml.safe_dump(job.config, sort_keys=False), encoding="utf-8")
    start = time.perf_counter()
    resume = ["--ckpt_path", str(last)] if last.exists() else []
    # Lightning's own logs hold on to the stream that is there at the first import, so they are not redirected.
    for name in ("pytorch_lightning", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    with (job.folder / "training.log").open("a") as log, redirect_stdout(log), redirect_stderr(log):
        best = train([f"--config={config_file}", "--output", str(job.folder), *resume])
    if best is None:
        raise CheckpointError(f"{job.folder}: the training gave no model.")
    keep(
        job.done,
        {
            "sha256": hashlib.sha256(best.read_bytes()).hexdigest(),
            "seconds": None if resume else time.perf_counter() - start,  # of an interrupted one they are not known
            "device": torch.cuda.get_device_name() if job.config["trainer"]["accelerator"] == "gpu" else "CPU",
        },
    )


def checkpoint_of(grid: Grid, variant: Variant) -> Path | None:
    """The checkpoint that comes with the grid for a variant; None if it must be trained."""
    if grid.checkpoints is None:
        return None
    path = grid.checkpoints / f"{variant.file_stem}.safetensors"
    return path if path.is_file() else None


def untrained(variant: Variant) -> Method:
    """A variant of the grid that needs no training, under the variant's name."""
    method = method_by_name(str(variant.spec.method))
    if not variant.arguments:
        return replace(method, name=variant.name)
    if method.sha256:
        raise UsageError(f"methods: {variant.name}: a model with weights takes no other arguments.")
    return with_arguments(replace(method, name=variant.name), variant.arguments)


def with_arguments(method: Method, arguments: dict[str, Any]) -> Method:
    """The method with other arguments of its constructor."""
    config = {**method.config, "init_args": {**method.config["init_args"], **arguments}}
    try:
        return replace(method, reconstructor=build(config).eval(), config=config)  # type: ignore[arg-type]
    except (TypeError, ValueError) as error:
        raise UsageError(f"methods: {method.name}: {error}.") from error


def trained(variant: Variant, checkpoint: Path) -> Method:
    """A variant with its weights."""
    found = load_checkpoint(checkpoint)
    return Method(variant.name, found.model, found.config, found.sha256)


def _model(variant: Variant) -> dict[str, Any]:
    """The section `model` of the variant's training configuration, with its arguments; the network is built once."""
    content = yaml.safe_load(training_config(str(variant.spec.config)).read_text(encoding="utf-8"))
    model: dict[str, Any] = content["model"]
    network = {**model["model"], "init_args": {**model["model"].get("init_args", {}), **variant.arguments}}
    try:
        build(network)
    except (TypeError, ValueError) as error:
        raise UsageError(f"methods: {variant.name}: {error}.") from error
    return {**model, "model": network}
