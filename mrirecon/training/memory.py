"""How much memory a training step will take, told before the run begins."""

import sys
from copy import deepcopy

import pytorch_lightning as pl
import torch
from torch import Tensor

from mrirecon.data.batch import Example, make_example
from mrirecon.data.datamodule import ReconstructionData
from mrirecon.memory import available_bytes, peak_bytes
from mrirecon.training.module import ReconstructionModule

#: Sides of the square slices that are measured: multiples of 16, to which U-Nets pad.
SIDES = 32, 48
#: Side of their calibration block, ESPIRiT's largest.
CENTRE = 24


class MemoryReport(pl.Callback):
    """Says what the largest training step takes and what the device has, and the cure if that is not enough."""

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """One process measures, on its device; the others wait for it at their first step."""
        data = trainer.datamodule  # type: ignore[attr-defined]
        if not (trainer.is_global_zero and isinstance(data, ReconstructionData)):
            return
        assert isinstance(pl_module, ReconstructionModule)
        coils, height, width = data.largest_slice()
        with trainer.precision_plugin.forward_context():
            needed = step_bytes(pl_module, (data.batch_size, coils, height, width))
        has = device_bytes(pl_module.device)
        size = f"a batch of {data.batch_size} × {coils} coils × {height} × {width}"
        text = f"memory: a training step takes up to {needed / 1e9:.2g} GB for {size}; there are {has / 1e9:.3g} GB"
        if needed > has:
            cures = [] if pl_module.checkpoint else ["--model.checkpoint true"]
            cures += ["a smaller --data.batch_size"] if data.batch_size > 1 else []
            text += f", which is too little: try {', '.join([*cures, 'smaller matrices, or a smaller network'])}"
        print(f"{text}.", file=sys.stderr)


def step_bytes(module: ReconstructionModule, shape: tuple[int, int, int, int]) -> int:
    """Bytes of all tensors at the peak of one training step on slices of `shape` (batch, coils, y, x).

    Model, gradients and Adam's state included; scratch space inside of library calls not. Measured on small slices,
    at the module's device and under the caller's autocast; all that depends on the matrix grows with its pixels.
    """
    batch, coils, height, width = shape
    pixels = [side * side for side in SIDES]
    if height * width <= pixels[-1]:
        return max(_measured(module, shape))
    phases = zip(*(_measured(module, (batch, coils, side, side)) for side in SIDES), strict=True)
    slopes = [(small, (large - small) / (pixels[1] - pixels[0])) for small, large in phases]
    return max(int(small + slope * (height * width - pixels[0])) for small, slope in slopes)


def device_bytes(device: torch.device) -> int:
    """Memory that this process can still take there."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device)
    return available_bytes()


def _measured(module: ReconstructionModule, shape: tuple[int, int, int, int]) -> tuple[int, int]:
    """Peak while maps are estimated, and while the network runs: in a second step, with the first one's gradients."""
    batch, _, height, width = shape
    generator = torch.Generator().manual_seed(0)
    kspace = torch.randn(shape, dtype=torch.complex64, generator=generator)
    mask = torch.rand(batch, 1, height, width, generator=generator) < 0.5
    top, left = (max(0, (n - CENTRE) // 2) for n in (height, width))
    mask[..., top : top + CENTRE, left : left + CENTRE] = True
    slices = {"kspace": kspace, "mask": mask, "volume": torch.zeros(batch)}
    model = deepcopy(module.model).train()
    learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    # Beside the model: gradients, and Adam's two moments.
    kept = _bytes(*model.parameters(), *model.buffers()) + 2 * _bytes(*learned)
    examples: list[Example] = []

    def estimate_maps() -> None:
        examples.append(make_example({name: t.to(module.device, copy=True) for name, t in slices.items()}))

    def learn() -> None:
        for parameter in learned:
            parameter.grad = torch.zeros_like(parameter)
        loss = module.loss_of(model, examples[0])
        model.zero_grad()
        with torch.autocast(module.device.type, enabled=False):
            loss.backward()

    with torch.random.fork_rng(enabled=module.device.type != "mps"), torch.enable_grad():
        maps = peak_bytes(estimate_maps) + _bytes(*learned)
        measurement = examples[0].measurement
        data = _bytes(measurement.kspace, measurement.mask, measurement.sensitivities, examples[0].target)
        return kept + maps, kept + data + peak_bytes(learn)


def _bytes(*tensors: Tensor | None) -> int:
    return sum(tensor.nbytes for tensor in tensors if tensor is not None)
