"""VarNet and CascadeNet as ATOMMIC and mridc have them: one recursion in k-space, with other networks N.

    k_{t+1} = k_t − w_t M (k_t − y) − F S N_t( S^H F^-1 k_t ),     k_0 = y
    k_{t+1} = F S N_t( S^H F^-1 k_t )                              without data consistency

Estimates are S^H F^-1 k. Without data consistency the identity path goes too. The recursion is the same for every
centring and scaling of the Fourier transform.
"""

import torch
from torch import Tensor, nn

from mrirecon.models.blocks.channels import to_channels, to_image
from mrirecon.models.importers.atommic_blocks import PaddedNormUNet, convolutions, convolve
from mrirecon.physics.measurement import Measurement, Reconstructor
from mrirecon.physics.sense import SenseOperator


class KspaceCascades(Reconstructor):
    """The recursion; a subclass says what N_t is. data_consistency: which of the two lines above."""

    def __init__(self, cascades: int, data_consistency: bool):
        super().__init__()
        self.cascades = cascades
        self.weights = nn.ParameterList(torch.ones(()) for _ in range(cascades)) if data_consistency else None

    def network(self, cascade: int, x: Tensor) -> Tensor:
        """N_t: real (batch, 2, y, x) → (batch, 2, y, x)."""
        raise NotImplementedError

    def forward(self, measurement: Measurement) -> list[Tensor]:
        operator = SenseOperator(measurement)
        kspace = measurement.kspace
        image = operator.reduce(kspace)
        estimates: list[Tensor] = []
        for cascade in range(self.cascades):
            update = operator.expand(to_image(self.network(cascade, to_channels(image))))
            if self.weights is None:
                kspace = update
            else:
                misfit = measurement.mask * (kspace - measurement.kspace)
                kspace = kspace - self.weights[cascade] * misfit - update
            image = operator.reduce(kspace)
            estimates = [*estimates, image] if self.training else [image]
        return estimates


class AtommicVarNet(KspaceCascades):
    """N_t is a U-Net of its own; channels, pools, padding, groups: as in `PaddedNormUNet`."""

    def __init__(
        self,
        cascades: int,
        channels: int,
        pools: int,
        padding: int = 11,
        groups: int = 2,
        data_consistency: bool = True,
    ):
        super().__init__(cascades, data_consistency)
        self.networks = nn.ModuleList(
            PaddedNormUNet(channels, pools, padding=padding, groups=groups) for _ in range(cascades)
        )

    def network(self, cascade: int, x: Tensor) -> Tensor:
        out: Tensor = self.networks[cascade](x)
        return out


class AtommicCascadeNet(KspaceCascades):
    """N_t are `layers` convolutions of its own; one PReLU, and so one slope, serves all of them."""

    def __init__(self, cascades: int, channels: int, layers: int, data_consistency: bool = True):
        super().__init__(cascades, data_consistency)
        self.networks = nn.ModuleList(convolutions(channels, layers) for _ in range(cascades))
        self.slope = nn.Parameter(torch.tensor([0.25]))

    def network(self, cascade: int, x: Tensor) -> Tensor:
        layers = self.networks[cascade]
        assert isinstance(layers, nn.ModuleList)
        return convolve(x, layers, self.slope)
