"""A training run: LightningCLI with our module, data and callbacks."""

import importlib
import logging
import os
import pkgutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import yaml
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from pytorch_lightning.loggers import TensorBoardLogger
from torch import Tensor

import mrirecon.models
from mrirecon.data.datamodule import ReconstructionData
from mrirecon.errors import CheckpointError, UsageError
from mrirecon.models.cirim import CIRIM
from mrirecon.processor import set_up_for_tensors
from mrirecon.training.callbacks import BestModel, StartShare, ValidationImages
from mrirecon.training.memory import MemoryReport
from mrirecon.training.module import ReconstructionModule
from mrirecon.weights import shipped_models
from mrirecon.weights.checkpoint import load_checkpoint, take_checkpointing

LOGGER = logging.getLogger("mrirecon")

DESCRIPTION = """Train a reconstructor. --config takes a YAML file or the name of a shipped one (cirim, rim_gru, unet,
…); every field of it can be overridden on the command line. OUTPUT gets best.safetensors (the model with the best
validation SSIM, for `mrirecon reconstruct --method`), last.ckpt (to resume with --ckpt_path), config.yaml and logs for
TensorBoard."""


class SaveConfig(SaveConfigCallback):
    """Writes config.yaml without what concerns this one run, so that it can be used for another."""

    def __init__(self, parser: LightningArgumentParser, config: Any, **kwargs: Any):
        reusable = config.clone()
        reusable.init = reusable.ckpt_path = None
        reusable.init_share = 0.0
        super().__init__(parser, reusable, **kwargs)


class TrainingCLI(LightningCLI):
    """Adds where the results go, and what to start from."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """--output, --init, --init_share, --ckpt_path."""
        parser.add_argument("--output", type=Path, default=Path("runs/train"), help="folder for all results")
        parser.add_argument("--init", type=Path | None, default=None, help="model or checkpoint to start from")
        parser.add_argument(
            "--init_share", type=float, default=0.0, help="share of its weights in the model that is kept, 0 to 1"
        )
        parser.add_argument("--ckpt_path", type=Path | None, default=None, help="last.ckpt of a run to resume")

    def instantiate_trainer(self, **kwargs: Any) -> pl.Trainer:
        """The trainer, with results under --output."""
        output: Path = self.config.output
        network = self.config.model.model.as_dict()
        # The model of the last finished epoch, to resume from; BestModel keeps the best one.
        last = ModelCheckpoint(output, filename="last", enable_version_counter=False)
        callbacks = [BestModel(output / "best.safetensors", network), ValidationImages(), MemoryReport(), last]
        if self.config.init_share:
            callbacks.append(StartShare(self.config.init_share))
        config = self.config_init.trainer
        logger = TensorBoardLogger(output, name="", version="") if config.logger is None else config.logger
        callbacks += config.callbacks or []
        return super().instantiate_trainer(
            **{**kwargs, "default_root_dir": output, "logger": logger, "callbacks": callbacks}
        )


def train(arguments: list[str]) -> Path | None:
    """Train as the command line `arguments` say and return the path of the best model, None if there was nothing to do.

    Raises CheckpointError if --init or --ckpt_path do not fit, UsageError if both are given, and SystemExit(2) for a
    wrong configuration.
    """
    set_up_for_tensors()
    try:
        cli = _configured(arguments)
    except ValueError as error:  # a constructor's refusal
        raise UsageError(f"{error}; mrirecon train --help explains all options.") from error
    output: Path = cli.config.output
    if not any(parameter.requires_grad for parameter in cli.model.parameters()):
        raise UsageError("this network has no weights to train; give it at least one cascade, iteration or step.")
    if cli.config.init is not None and cli.config.ckpt_path is not None:
        raise UsageError("--init starts a new run and --ckpt_path resumes an old one; give one of them.")
    if not 0 <= cli.config.init_share <= 1 or (cli.config.init_share and not (cli.config.init or cli.config.ckpt_path)):
        raise UsageError("--init_share is the share of the weights of --init that stays, from 0 to 1.")
    if cli.config.init is not None:
        _start_from(cli.model, cli.config.init)
    resume: Path | None = cli.config.ckpt_path
    if resume is not None:
        load_checkpoint(resume)
    ckpt_path = None if resume is None else os.fspath(resume)
    try:
        cli.trainer.fit(cli.model, cli.datamodule, ckpt_path=ckpt_path, weights_only=True)
    except SystemExit as error:  # Lightning's answer to Ctrl-C, after it has stopped its processes
        last = output / "last.ckpt"
        if last.is_file():
            LOGGER.warning("stopped; resume from the last finished epoch with --ckpt_path %s", last)
        raise KeyboardInterrupt from error
    best = output / "best.safetensors"
    return best if best.is_file() else None


def _configured(arguments: list[str]) -> TrainingCLI:
    # A class that is loaded is found by its short name, as in --model.model CIRIM.
    for network in pkgutil.iter_modules(mrirecon.models.__path__, "mrirecon.models."):
        importlib.import_module(network.name)
    return TrainingCLI(
        ReconstructionModule,
        ReconstructionData,
        subclass_mode_data=True,
        args=[_of_today(argument) for argument in arguments],
        run=False,
        auto_configure_optimizers=False,
        save_config_callback=SaveConfig,
        save_config_kwargs={"overwrite": True},
        seed_everything_default=0,
        trainer_defaults={"use_distributed_sampler": False, "gradient_clip_val": 1.0, "num_sanity_val_steps": 0},
        parser_kwargs={"prog": "mrirecon train", "description": DESCRIPTION},
    )


def _of_today(argument: str) -> str:
    """The argument, or if it is an older --config file that tells the network of checkpointing, the text of a new."""
    path = argument.removeprefix("--config=")
    if path == argument or "checkpoint_steps" not in (text := Path(path).read_text(encoding="utf-8")):
        return argument
    config = yaml.safe_load(text)
    if take_checkpointing(config["model"]["model"]):
        config["model"]["checkpoint"] = True
    return f"--config={yaml.safe_dump(config)}"


def _start_from(module: ReconstructionModule, path: Path) -> None:
    path = shipped_models().get(str(path), path)
    weights = load_checkpoint(path).model.state_dict()
    if isinstance(module.model, CIRIM):
        weights = as_cascades(weights, len(module.model.cascades))
    try:
        module.model.load_state_dict(weights)
    except RuntimeError as error:
        raise CheckpointError(f"{path}: holds another network than the one to train ({error}).") from error


def as_cascades(weights: Mapping[str, Tensor], count: int) -> dict[str, Tensor]:
    """Weights for a CIRIM of `count` cascades from those of a shorter one or of a RIM.

    The cascades that are missing start as copies of the last. Other weights are returned as they are.
    """
    found = {name.replace("cascade.", "cascades.0.", 1): tensor for name, tensor in weights.items()}
    have = 1 + max((int(name.split(".")[1]) for name in found if name.startswith("cascades.")), default=count)
    last = f"cascades.{have - 1}."
    copies = {
        name.replace(last, f"cascades.{k}.", 1): tensor.clone()
        for k in range(have, count)
        for name, tensor in found.items()
        if name.startswith(last)
    }
    return found | copies
