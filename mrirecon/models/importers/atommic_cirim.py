"""CIRIM with explicit data consistency as its author's toolboxes have it.

    x_t     = the time steps of RIM_j, which start from the image of k^j
    k^{j+1} = y − w_j M (k^j − y) − F S x_T,     k^0 = y

Estimates are the images S^H F^-1 (y − w_j M (k^j − y) − F S x_t). The term starts from y, not from k^j, and the last
one enters with a minus sign: the RIM learns the negative image. `models.cirim` has a sound explicit form.
"""

from typing import Literal

import torch
from torch import Tensor, nn

from mrirecon.models.blocks.recurrent import Unit
from mrirecon.models.rim import RIMCascade
from mrirecon.physics.measurement import Measurement, Reconstructor
from mrirecon.physics.sense import SenseOperator


class ExplicitCIRIM(Reconstructor):
    """Cascades of RIMs that hand on k-space.

    Arguments as in `CIRIM`; with cascade_start `previous`, the image of the last k-space is the next start.
    """

    def __init__(
        self,
        cascades: int,
        unit: Unit,
        channels: int,
        time_steps: int,
        recurrent_kernel: int = 1,
        detach_between_cascades: bool = False,
        carry_hidden_state: bool = True,
        cascade_start: Literal["previous", "initial"] = "previous",
    ):
        super().__init__()
        self.steps_per_cascade = time_steps
        self.detach_between_cascades = detach_between_cascades
        self.carry_hidden_state = carry_hidden_state
        self.cascade_start = cascade_start
        self.cascades = nn.ModuleList(RIMCascade(unit, channels, time_steps, recurrent_kernel) for _ in range(cascades))
        self.weights = nn.ParameterList(torch.ones(()) for _ in range(cascades))

    def forward(self, measurement: Measurement) -> list[Tensor]:
        operator = SenseOperator(measurement)
        y = measurement.kspace
        initial = operator.adjoint_data if measurement.initial_image is None else measurement.initial_image
        kspace, image, hidden = y, initial, None
        estimates: list[Tensor] = []
        for cascade, weight in zip(self.cascades, self.weights, strict=True):
            steps, states = cascade(image, operator, hidden)
            hidden = states if self.carry_hidden_state else None
            misfit = measurement.mask * (kspace - y)
            kspaces = [y - weight * misfit - operator.expand(step) for step in steps]
            images = [operator.reduce(k) for k in kspaces]
            kspace, image = kspaces[-1], images[-1]
            if self.detach_between_cascades:
                kspace, image = kspace.detach(), image.detach()
            if self.cascade_start == "initial":
                image = initial
            estimates = estimates + images if self.training else images
        return estimates
