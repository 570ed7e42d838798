"""The end-to-end variational network as DIRECT has it, with bare U-Nets that are added.

k_{t+1} = k_t − λ_t M (k_t − y) + F S U_t(S^H F^-1 k_t)                 k_0 = y
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from mrirecon.models.blocks.channels import to_channels, to_image
from mrirecon.models.blocks.unet import UNetBlock
from mrirecon.physics.fourier import ifftc
from mrirecon.physics.measurement import Measurement, Reconstructor
from mrirecon.physics.sense import SenseOperator


class DirectKspaceNetwork(Reconstructor):
    """A network that estimates k-space and answers the root sum of squares over its coil images, as DIRECT does.

    The estimates are not negative, in a complex type. `measurement.initial_image` is not used.
    """

    def kspaces(self, measurement: Measurement) -> Iterator[Tensor]:
        """k_1 … k_T, complex (batch, coils, y, x), centred and orthonormal."""
        raise NotImplementedError

    def forward(self, measurement: Measurement) -> list[Tensor]:
        estimates: list[Tensor] = []
        for kspace in self.kspaces(measurement):
            # vector_norm, because the gradient of its zero is zero and not NaN.
            image = torch.linalg.vector_norm(ifftc(kspace), dim=1).to(kspace.dtype)
            estimates = [*estimates, image] if self.training else [image]
        return estimates


class DirectVarNet(DirectKspaceNetwork):
    """`direct.nn.varnet.varnet.EndToEndVarNet`: `cascades` U-Nets of `channels` features and `pools` halvings."""

    def __init__(self, cascades: int, channels: int, pools: int):
        super().__init__()
        self.rates = nn.ParameterList(torch.ones(1) for _ in range(cascades))
        self.networks = nn.ModuleList(UNetBlock(2, 2, channels, pools) for _ in range(cascades))

    def kspaces(self, measurement: Measurement) -> Iterator[Tensor]:
        operator = SenseOperator(measurement)
        kspace = measurement.kspace
        for rate, network in zip(self.rates, self.networks, strict=True):
            refinement = to_image(network(to_channels(operator.reduce(kspace))))
            misfit = measurement.mask * (kspace - measurement.kspace)
            kspace = kspace - rate * misfit + operator.expand(refinement)
            yield kspace
