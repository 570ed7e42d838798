"""The Lightning module: any Reconstructor, its loss on every estimate, its optimiser and schedule."""

import math
from typing import Any, Literal

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor

from mrirecon.data.batch import Example
from mrirecon.metrics import nmse, psnr, ssim
from mrirecon.models.blocks.checkpointing import checkpointing
from mrirecon.models.sensitivity import LearnedSensitivities
from mrirecon.physics.measurement import Reconstructor
from mrirecon.training.losses import l1, log_nmse, mse, ssim_loss, step_weights


class ReconstructionModule(pl.LightningModule):
    """Trains `model` against the fully sampled, coil-combined image.

    loss: l1, mse or log_nmse (the logarithm of the relative error's energy: easy and hard examples count alike) of the
    complex estimates, averaged over them with weights that grow with the time step (per_step) or equal ones (uniform).
    ssim_share: share of 1 − SSIM of the last estimate in the total, from 0 to 1; a model with
    LearnedSensitivities needs 1.
    learning_rate: Adam's, after warmup_steps of linear increase; it then falls as a cosine to 1 % of it at the end.
    frozen_cascades: so many of the model's first cascades stay as they are; the loss is of the others' estimates.
    checkpoint: keep no activations inside the time steps or cascades but compute them again in the backward pass, for
    less memory and more time; the gradients are the same.
    """

    def __init__(
        self,
        model: Reconstructor,
        loss: Literal["l1", "mse", "log_nmse"] = "l1",
        loss_weighting: Literal["per_step", "uniform"] = "per_step",
        ssim_share: float = 0.0,
        learning_rate: float = 5e-4,
        warmup_steps: int = 100,
        frozen_cascades: int = 0,
        checkpoint: bool = False,
    ):
        super().__init__()
        if isinstance(model, LearnedSensitivities) and ssim_share < 1:
            raise ValueError(
                "learned coil maps leave the phase of the image free, so that a complex target cannot be learned; "
                "set ssim_share to 1.0, which compares magnitudes"
            )
        # Convolutions run faster on channels-last memory; complex images are views of it.
        self.model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if frozen_cascades:
            freeze(model, frozen_cascades)
        self.loss = {"l1": l1, "mse": mse, "log_nmse": log_nmse}[loss]
        self.loss_weighting = loss_weighting
        self.ssim_share = ssim_share
        self.learning_rate = learning_rate
        self.warmup_steps = warmup_steps
        self.checkpoint = checkpoint
        self.validation_volumes: dict[int, list[tuple[Any, Any]]] = {}

    def total_loss(self, estimates: list[Tensor], target: Tensor) -> Tensor:
        """Weighted mean of the estimates' losses, mixed with the SSIM loss of the last."""
        weights = step_weights(self.model, len(estimates))
        if self.loss_weighting == "uniform":
            weights = torch.ones_like(weights)
        shares = (weights / weights.sum()).tolist()
        total = sum(share * self.loss(estimate, target) for share, estimate in zip(shares, estimates, strict=True))
        if self.ssim_share:
            magnitude = target.abs()
            data_range = magnitude.amax(dim=(-2, -1)).clamp_min(1e-6)
            structure = ssim_loss(estimates[-1].abs(), magnitude, data_range)
            total = (1 - self.ssim_share) * total + self.ssim_share * structure
        return torch.as_tensor(total)

    def loss_of(self, model: Reconstructor, batch: Example) -> Tensor:
        """The training loss of a model, ours or a copy."""
        with checkpointing(self.checkpoint):
            estimates = [estimate for estimate in model(batch.measurement) if estimate.requires_grad]
        support = _support(batch)
        return self.total_loss([estimate * support for estimate in estimates], batch.target)

    def training_step(self, batch: Example, batch_idx: int) -> Tensor:
        loss = self.loss_of(self.model, batch)
        self.log("train/loss", loss, prog_bar=True, batch_size=len(batch.target))
        return loss

    def validation_step(self, batch: Example, batch_idx: int) -> Tensor:
        estimate: Tensor = self.model(batch.measurement)[-1] * _support(batch)
        prediction, target = estimate.abs().float().cpu().numpy(), batch.target.abs().cpu().numpy()
        for volume, p, t in zip(batch.volumes.tolist(), prediction, target, strict=True):
            self.validation_volumes.setdefault(volume, []).append((t, p))
        return estimate

    def on_validation_epoch_end(self) -> None:
        """Metrics per volume (fastMRI's definitions), then their mean over volumes and devices."""
        volumes = [tuple(map(np.stack, zip(*pairs, strict=True))) for pairs in self.validation_volumes.values()]
        self.validation_volumes.clear()
        for name, metric in (("nmse", nmse), ("psnr", psnr), ("ssim", ssim)):
            mean = float(np.mean([metric(target, prediction) for target, prediction in volumes]))
            self.log(f"val/{name}", mean, prog_bar=name == "ssim", sync_dist=True, batch_size=len(volumes))

    def configure_optimizers(self) -> Any:
        """Adam with a linear warm-up and a cosine decay, per optimiser step."""
        # The loss scaler of float16 would give a fused step gradients that cannot be clipped.
        fused = self.trainer.precision != "16-mixed"
        optimiser = torch.optim.Adam(self.model.parameters(), lr=self.learning_rate, fused=fused)
        # Lightning refuses to clip before any fused step of mixed precision, scaler or not.
        optimiser._step_supports_amp_scaling = False
        total = max(1, int(self.trainer.estimated_stepping_batches))
        warmup = min(self.warmup_steps, total // 2)

        def factor(step: int) -> float:
            if step < warmup:
                return (step + 1) / warmup
            progress = min(1.0, (step - warmup) / max(1, total - warmup))
            return 0.01 + 0.99 * (1 + math.cos(math.pi * progress)) / 2

        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, factor)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def freeze(model: Reconstructor, cascades: int) -> None:
    """Let the first `cascades` of model.cascades learn nothing. ValueError if it has not that many, and one more."""
    layers = getattr(model, "cascades", ())
    if not 0 < cascades < len(layers):
        raise ValueError(f"{cascades} cascades of {len(layers)} cannot be frozen; one must be left to train")
    for cascade in layers[:cascades]:
        cascade.requires_grad_(False)


def _support(batch: Example) -> Tensor:
    """Bool (batch, y, x), where the target is known: inside the support of the maps that it was made with."""
    assert batch.measurement.sensitivities is not None
    return (batch.measurement.sensitivities != 0).any(dim=1)
