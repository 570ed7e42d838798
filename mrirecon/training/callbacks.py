"""What is kept of a training run: the best model, for use, maybe tied to its start; pictures of validation slices."""

from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from mrirecon.data.batch import Example
from mrirecon.weights.checkpoint import FACTS, facts_of, save_checkpoint


class BestModel(pl.Callback):
    """Writes the model with the best validation SSIM to `path`, ready for use, whenever it improves.

    config: {"class_path", "init_args"} of the network, kept in the file and in Lightning's own checkpoints.
    """

    def __init__(self, path: Path, config: dict[str, Any]):
        self.path = path
        self.config = config
        self.best = -float("inf")

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Compare with the best so far; every device takes part, the first one writes."""
        if trainer.sanity_checking:
            return
        ssim = float(trainer.callback_metrics["val/ssim"])
        if ssim > self.best:
            self.best = ssim
            if trainer.is_global_zero:
                save_checkpoint(self.path, pl_module.model, self.config, self._card(trainer))  # type: ignore[arg-type]

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """A checkpoint to resume from can be reconstructed with as well."""
        checkpoint[FACTS] = facts_of(self.config, self._card(trainer))

    def state_dict(self) -> dict[str, Any]:
        """The best SSIM, so that a resumed run does not replace a better model."""
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue with the best SSIM of the interrupted run."""
        self.best = state_dict["best"]

    def _card(self, trainer: pl.Trainer) -> str:
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("val/")}
        lines = [f"- {name.removeprefix('val/')}: {value:.4g}" for name, value in sorted(metrics.items())]
        head = f"# {self.config['class_path'].rpartition('.')[2]}\n\nTrained for {trainer.global_step} steps."
        return "\n".join([head, "", "Validation, mean over volumes:", "", *lines])


class StartShare(pl.Callback):
    """Validates, and so keeps, the model whose weights are share · those at the start + (1 − share) · those trained.

    A model that learns from few scans forgets less that way, and is often better there, too (Wortsman et al., CVPR
    2022). Training itself goes on with the weights as they are. Comes after the callbacks that keep models.
    """

    def __init__(self, share: float):
        self.share = share
        self.start: dict[str, Tensor] = {}
        self.trained: dict[str, Tensor] = {}

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Remember the weights, unless a resumed run brought those of its own start."""
        self.start = self.start or _weights(pl_module)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Mix them in."""
        self.trained = _weights(pl_module)
        start = {name: tensor.to(self.trained[name].device) for name, tensor in self.start.items()}
        mixed = {name: torch.lerp(self.trained[name], start[name], self.share) for name in self.trained}
        pl_module.load_state_dict(mixed)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Go on with what was trained."""
        pl_module.load_state_dict(self.trained)

    def state_dict(self) -> dict[str, Any]:
        """The weights at the start."""
        return {"start": self.start}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Those of the interrupted run."""
        self.start = state_dict["start"]


def _weights(module: pl.LightningModule) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}


class ValidationImages(pl.Callback):
    """Shows the first validation slices in TensorBoard: reference, estimate, ten times the error, side by side."""

    def __init__(self, slices: int = 4):
        self.slices = slices

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Example,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Log one picture per batch, up to `slices` of them."""
        logger = trainer.logger
        if batch_idx >= self.slices or not isinstance(logger, pl.loggers.TensorBoardLogger) or trainer.sanity_checking:
            return
        estimate: Tensor = outputs[0].abs().float()
        target = batch.target[0].abs()
        panels = torch.cat([target, estimate, 10 * (estimate - target).abs()], dim=-1) / target.max().clamp_min(1e-12)
        logger.experiment.add_image(f"validation/{batch_idx}", panels.clamp(0, 1)[None], trainer.global_step)
