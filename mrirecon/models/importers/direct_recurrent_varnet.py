"""The recurrent variational network (Yiasemis et al., CVPR 2022; arXiv 2111.09639) as DIRECT has it.

    Δ, h_{t+1} = R_t(S^H F^-1 k_t, h_t),   k_{t+1} = k_t − λ_t M (k_t − y) + F S Δ             k_0 = y

R_t = R and λ_t = λ where shared. h_0 is made from F S^H F^-1 y, in the toolbox's own transform F, because the
initializer has learned in its layout and scale; or it is zero.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from mrirecon.models.blocks.channels import to_channels, to_image
from mrirecon.models.importers.direct_blocks import RecurrentStack, StateInitializer
from mrirecon.models.importers.direct_varnet import DirectKspaceNetwork
from mrirecon.models.importers.fourier import Norm, PeerFourier
from mrirecon.physics.measurement import Measurement
from mrirecon.physics.sense import SenseOperator


class DirectRecurrentVarNet(DirectKspaceNetwork):
    """`direct.nn.recurrentvarnet.recurrentvarnet.RecurrentVarNet`.

    hidden, layers, gate_kernel, normalised: of R, as in `RecurrentStack`. steps: T. shared: one R for all steps.
    initializer_channels, _dilations, _scales: of the `StateInitializer`; without channels h_0 is zero. centered, norm:
    of `PeerFourier`.
    """

    def __init__(
        self,
        hidden: int,
        layers: int,
        steps: int,
        shared: bool = False,
        gate_kernel: int = 1,
        normalised: bool = False,
        initializer_channels: Sequence[int] = (),
        initializer_dilations: Sequence[int] = (),
        initializer_scales: int = 1,
        centered: bool = True,
        norm: Norm = "ortho",
    ):
        super().__init__()
        self.steps = steps
        self.shared = shared
        self.fourier = PeerFourier(centered, norm)
        cells = 1 if shared else steps
        self.rates = nn.ParameterList(torch.ones(1) for _ in range(cells))
        self.cells = nn.ModuleList(
            RecurrentStack(2, 2, hidden, layers, gate_kernel, normalised=normalised) for _ in range(cells)
        )
        self.initializer = (
            StateInitializer(initializer_channels, initializer_dilations, initializer_scales, hidden, layers)
            if initializer_channels
            else None
        )

    def kspaces(self, measurement: Measurement) -> Iterator[Tensor]:
        operator = SenseOperator(measurement)
        kspace = measurement.kspace
        states = None
        if self.initializer:
            states = self.initializer(to_channels(self.fourier.forward(operator.adjoint_data)))
        for step in range(self.steps):
            cell = 0 if self.shared else step
            change, states = self.cells[cell](to_channels(operator.reduce(kspace)), states)
            misfit = measurement.mask * (kspace - measurement.kspace)
            kspace = kspace - self.rates[cell] * misfit + operator.expand(to_image(change))
            yield kspace
