"""Cascades of independently recurrent inference machines (arXiv 2111.15498; Phys. Med. Biol. 67:124001, 2022).

    x^{k+1} = RIM_k(x^k),   k = 0 … K−1        x^0 = A^H y

K machines with weights of their own, one after the other; each starts from the last image of the one before it.
"""

from typing import Literal

import torch
from torch import Tensor, nn

from mrirecon.models.blocks.data_consistency import DataConsistency
from mrirecon.models.blocks.recurrent import Unit
from mrirecon.models.rim import RIMCascade
from mrirecon.physics.measurement import Measurement, Reconstructor
from mrirecon.physics.phase import low_resolution_phase, without_phase
from mrirecon.physics.sense import SenseOperator


class CIRIM(Reconstructor):
    """Cascaded RIMs.

    cascades: K. time_steps: T per cascade. unit, channels, recurrent_kernel, data_consistency, remove_phase: as in
    `RIM`; the explicit step comes after every cascade.
    How cascades are joined differs between the author's releases: detach_between_cascades cuts the gradient there,
    carry_hidden_state hands the recurrent states on instead of starting at zero, cascade_start `initial` restarts every
    cascade from the zero-filled image.
    """

    def __init__(
        self,
        cascades: int = 5,
        unit: Unit = "indrnn",
        channels: int = 64,
        time_steps: int = 8,
        recurrent_kernel: int = 1,
        data_consistency: DataConsistency = "implicit",
        detach_between_cascades: bool = False,
        carry_hidden_state: bool = False,
        cascade_start: Literal["previous", "initial"] = "previous",
        remove_phase: bool = False,
    ):
        super().__init__()
        self.steps_per_cascade = time_steps
        self.detach_between_cascades = detach_between_cascades
        self.carry_hidden_state = carry_hidden_state
        self.cascade_start = cascade_start
        self.remove_phase = remove_phase
        self.cascades = nn.ModuleList(
            RIMCascade(unit, channels, time_steps, recurrent_kernel, data_consistency) for _ in range(cascades)
        )

    def forward(self, measurement: Measurement) -> list[Tensor]:
        if self.remove_phase:
            phase = low_resolution_phase(measurement)
            measurement = without_phase(measurement, phase)
        operator = SenseOperator(measurement)
        initial = operator.adjoint_data if measurement.initial_image is None else measurement.initial_image
        image, hidden = initial, None
        estimates: list[Tensor] = []
        for cascade in self.cascades:
            start = initial if self.cascade_start == "initial" else image
            if self.detach_between_cascades:
                start = start.detach()
            # Frozen first cascades are run as at use, which is faster.
            learns = start.requires_grad or any(parameter.requires_grad for parameter in cascade.parameters())
            with torch.set_grad_enabled(torch.is_grad_enabled() and learns):
                steps, states = cascade(start, operator, hidden)
            hidden = states if self.carry_hidden_state else None
            image = steps[-1]
            estimates = estimates + steps if self.training else steps
        return [estimate * phase for estimate in estimates] if self.remove_phase else estimates
