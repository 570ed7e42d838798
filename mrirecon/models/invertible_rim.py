"""Invertible recurrent inference machine, i-RIM (Putzky & Welling, arXiv 1911.10914; fastMRI challenge: 1910.08952).

    state s = [x | z]:  image x, latents z;   x = A^H y, z = 0 at the start;   for t = 0 … T−1:

    z_t ← z_t + A^H (A x − y)                                the gradient, into a pair of latents of its own
    x   ← x − λ_t z_t
    s   ← s + Q₂ᵀ f(Q₁ s)                                    for every block, with its own f and orthogonal Q = [Q₁; Q₂]

Every line can be inverted, so training keeps no activations: they are computed again from the last state (see
`blocks.invertible`). Unlike the paper's, the gradient here is that of the SENSE model with coil maps.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mrirecon.models.blocks.data_consistency import DataConsistency, split_consistency
from mrirecon.models.blocks.invertible import Coupling, MixedCoupling, Steps, apply_memory_free, apply_steps
from mrirecon.physics.measurement import Measurement, Reconstructor
from mrirecon.physics.sense import SenseOperator


class GradientCoupling(Coupling):
    """z_t ← z_t + A^H (A x − y), where z_t are two channels, the first of them number `position`."""

    def __init__(self, position: int, channels: int):
        super().__init__()
        self.padding = position, channels - position - 2

    def read(self, state: Tensor) -> Tensor:
        return state[..., :2]

    def change(self, part: Tensor, operator: SenseOperator) -> Tensor:
        gradient = operator.gradient(torch.view_as_complex(part.contiguous()))
        return F.pad(torch.view_as_real(gradient), self.padding)


class DescentCoupling(Coupling):
    """x ← x − λ_t z_t with learned λ_t, 1 at the start: untrained, the machine is gradient descent."""

    def __init__(self, position: int, channels: int):
        super().__init__()
        self.position = position
        self.padding = 0, channels - 2
        self.step = nn.Parameter(torch.ones(()))

    def read(self, state: Tensor) -> Tensor:
        return state[..., self.position : self.position + 2]

    def change(self, part: Tensor, operator: SenseOperator) -> Tensor:
        return F.pad(-self.step * part, self.padding)


class InvertibleRIM(Reconstructor):
    """The invertible RIM. Time steps have weights of their own, as the authors' have.

    time_steps: T. channels: of the state. hidden, strides: features and downsampling of f in each block of a time step.
    memory_free: compute activations again in the backward pass; False keeps them, with equal results.
    Raises ValueError for channels that are odd or too few, or unequal numbers of hidden and strides.

    The defaults are the authors' for the fastMRI challenge, with 275 million parameters.
    """

    def __init__(
        self,
        time_steps: int = 8,
        channels: int = 64,
        hidden: tuple[int, ...] = (64, 64, 128, 128, 256, 1024, 1024, 256, 128, 128, 64, 64),
        strides: tuple[int, ...] = (1, 1, 2, 2, 4, 8, 8, 4, 2, 2, 1, 1),
        data_consistency: DataConsistency = "implicit",
        memory_free: bool = True,
    ):
        super().__init__()
        reason = "the gradient step is a layer of the invertible network, and a step after it could not be inverted"
        split_consistency(data_consistency, ("implicit",), reason)
        if channels % 2 or channels < 2 + 2 * time_steps:
            raise ValueError(
                f"{time_steps} time steps need an even number of at least {2 + 2 * time_steps} channels, for the image "
                f"and every step's gradient, not {channels}"
            )
        if len(hidden) != len(strides):
            raise ValueError(f"hidden and strides have one number per block, but {len(hidden)} and {len(strides)} came")
        self.steps_per_cascade = time_steps
        self.channels = channels
        self.memory_free = memory_free
        self.steps: Steps = nn.ModuleList(  # type: ignore[assignment]
            nn.ModuleList(
                [
                    GradientCoupling(2 + 2 * t, channels),
                    DescentCoupling(2 + 2 * t, channels),
                    *(MixedCoupling(channels, h, s) for h, s in zip(hidden, strides, strict=True)),
                ]
            )
            for t in range(time_steps)
        )

    def forward(self, measurement: Measurement) -> list[Tensor]:
        operator = SenseOperator(measurement)
        image = operator.adjoint_data if measurement.initial_image is None else measurement.initial_image
        state = F.pad(torch.view_as_real(image), (0, self.channels - 2))
        if self.memory_free:
            estimates = apply_memory_free(self.steps, state, measurement)
        else:
            estimates, _ = apply_steps(self.steps, state, operator)
        return estimates if self.training else estimates[-1:]
