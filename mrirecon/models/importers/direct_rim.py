"""The recurrent inference machine as DIRECT has it, which differs from Lønning's in its gates and what it offers.

Δ, h_{t+1} = R_t([x_t, g(x_t)], h_t),   x_{t+1} = x_t + Δ,   g(x) = A^H (A x − y)       R_t = R where shared
"""

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn

from mrirecon.models.blocks.channels import to_channels, to_image
from mrirecon.models.importers.direct_blocks import RecurrentStack, StateInitializer
from mrirecon.physics.fourier import ifftc
from mrirecon.physics.measurement import Measurement, Reconstructor
from mrirecon.physics.sense import SenseOperator


class DirectRIM(Reconstructor):
    """`direct.nn.rim.rim.RIM`.

    hidden, layers, gate_kernel, dense, instance_norm, normalised: of R, as in `RecurrentStack`. steps: time steps.
    shared: one R for all of them. skip: Δ is added to the image, otherwise it is the next image. start: x_0 is A^H y,
    or the plain sum of the coil images (zero_filled). initializer_channels, _dilations, _scales: of the
    `StateInitializer` that makes h_0 from x_0; without channels h_0 is zero.
    """

    def __init__(
        self,
        hidden: int,
        layers: int,
        steps: int,
        shared: bool = True,
        gate_kernel: int = 1,
        dense: int = 0,
        instance_norm: bool = False,
        normalised: bool = False,
        skip: bool = True,
        start: Literal["sense", "zero_filled"] = "sense",
        initializer_channels: Sequence[int] = (),
        initializer_dilations: Sequence[int] = (),
        initializer_scales: int = 1,
    ):
        super().__init__()
        self.steps = steps
        self.shared = shared
        self.skip = skip
        self.start = start
        self.cells = nn.ModuleList(
            RecurrentStack(4, 2, hidden, layers, gate_kernel, dense, instance_norm, normalised)
            for _ in range(1 if shared else steps)
        )
        self.initializer = (
            StateInitializer(initializer_channels, initializer_dilations, initializer_scales, hidden, layers)
            if initializer_channels
            else None
        )

    def forward(self, measurement: Measurement) -> list[Tensor]:
        operator = SenseOperator(measurement)
        image = measurement.initial_image
        if image is None:
            image = operator.adjoint_data if self.start == "sense" else ifftc(measurement.kspace).sum(dim=1)
        states = self.initializer(to_channels(image)) if self.initializer else None
        estimates: list[Tensor] = []
        for step in range(self.steps):
            cell = self.cells[0 if self.shared else step]
            change, states = cell(to_channels(image, operator.gradient(image)), states)
            image = image + to_image(change) if self.skip else to_image(change)
            estimates = [*estimates, image] if self.training else [image]
        return estimates
