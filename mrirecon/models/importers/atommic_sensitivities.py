"""Coil sensitivity maps by a network as ATOMMIC 1.0 has them.

    S_c = U(F^-1 M_acs y_c) / sqrt( Σ_j |U(F^-1 M_acs y_j)| )

Its functions for |z| and |z|² are exchanged, so what is 1 is the sum of S_c's magnitudes over the root of that of U's.
"""

from torch import Tensor

from mrirecon.models.blocks.channels import to_image
from mrirecon.models.sensitivity import LearnedSensitivities, SensitivityNetwork
from mrirecon.physics.measurement import Reconstructor


class AtommicSensitivities(LearnedSensitivities):
    """A reconstructor with such maps; arguments as of `LearnedSensitivities`."""

    def __init__(self, reconstructor: Reconstructor, channels: int = 8, pools: int = 4):
        super().__init__(reconstructor, channels, pools)
        self.sensitivity = _Network(channels, pools)


class _Network(SensitivityNetwork):
    def power(self, maps: Tensor) -> Tensor:
        images = to_image(maps.flatten(0, 1)).unflatten(0, maps.shape[:2])
        return images.abs().sum(dim=1, keepdim=True)[:, :, None]
