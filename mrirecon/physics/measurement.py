"""What a reconstruction method sees, and the contract that every method fulfils."""

from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Measurement:
    """One batch of undersampled multi-coil slices on one device.

    kspace: complex (batch, coils, y, x), centred, zero where not sampled, divided by the scan's scale.
    mask: bool (batch, 1, y, x), True where sampled; any of its axes may have size 1 and then broadcasts.
    sensitivities: complex (batch, coils, y, x), Σ|S|² = 1 inside the object and 0 outside; None until estimated.
    noise_std: real (batch,), standard deviation of the complex noise in `kspace`; None = estimated where it is
    needed (`physics.noise`).
    calibration: bool like `mask`, the samples known to be the ACS; None = find it in the mask.
    initial_image: complex (batch, y, x) to start from; None = A^H y.
    """

    kspace: Tensor
    mask: Tensor
    sensitivities: Tensor | None = None
    noise_std: Tensor | None = None
    calibration: Tensor | None = None
    initial_image: Tensor | None = None

    def to(self, device: torch.device | str) -> "Measurement":
        present = {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) is not None}
        return replace(self, **{name: tensor.to(device, non_blocking=True) for name, tensor in present.items()})

    def with_sensitivities(self, sensitivities: Tensor) -> "Measurement":
        return replace(self, sensitivities=sensitivities)


class Reconstructor(nn.Module):
    """A method: from a Measurement to complex image estimates (batch, y, x).

    `forward` returns the estimates in order, the last being the answer. In `train()` mode the list holds all of them,
    because training weighs each; in `eval()` mode only the last, and nothing else is kept in memory.

    steps_per_cascade tells a loss how to fold the flat list: consecutive estimates that belong to one cascade.
    """

    steps_per_cascade: int = 1

    def forward(self, measurement: Measurement) -> list[Tensor]:
        raise NotImplementedError
