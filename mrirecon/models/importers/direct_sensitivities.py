"""Coil sensitivity maps as DIRECT's engines make them for any of their networks.

S0_c = F^-1 M_acs y_c / sqrt( Σ_j |F^-1 M_acs y_j|² ),     S_c = U(S0_c) / sqrt( Σ_j |U(S0_j)|² )
"""

from torch import Tensor, nn

from mrirecon.models.blocks.channels import to_channels, to_image
from mrirecon.models.sensitivity import central_block
from mrirecon.physics.fourier import ifftc
from mrirecon.physics.measurement import Measurement, Reconstructor


class RefinedSensitivities(Reconstructor):
    """A reconstructor whose coil maps come from `network`, U, whatever maps it is given.

    network: real (batch, 2, y, x) → the same. The centre M_acs is `measurement.calibration`, or else the largest fully
    sampled central block of each mask; InputError if there is none.
    """

    def __init__(self, reconstructor: Reconstructor, network: nn.Module):
        super().__init__()
        self.reconstructor = reconstructor
        self.network = network

    def sensitivities(self, measurement: Measurement) -> Tensor:
        """The maps, complex (batch, coils, y, x)."""
        known = measurement.calibration
        first = _over_coils(ifftc(measurement.kspace * (central_block(measurement) if known is None else known)))
        refined = self.network(to_channels(first.flatten(0, 1)))
        return _over_coils(to_image(refined).unflatten(0, first.shape[:2]))

    def forward(self, measurement: Measurement) -> list[Tensor]:
        estimates: list[Tensor] = self.reconstructor(measurement.with_sensitivities(self.sensitivities(measurement)))
        return estimates


def _over_coils(maps: Tensor) -> Tensor:
    """Maps (batch, coils, y, x), divided by their root sum of squares over the coils where it is not zero."""
    power = (maps.real.square() + maps.imag.square()).sum(dim=1, keepdim=True)
    return maps / power.where(power > 0, 1).sqrt()
