"""Zero-filled reconstruction: what undersampled data look like when nothing is done about it."""

from torch import Tensor

from mrirecon.physics.measurement import Measurement, Reconstructor
from mrirecon.physics.sense import SenseOperator


class ZeroFilled(Reconstructor):
    """x = A^H y: missing samples stay zero, coils are combined with the sensitivity maps."""

    def forward(self, measurement: Measurement) -> list[Tensor]:
        return [SenseOperator(measurement).adjoint_data]
