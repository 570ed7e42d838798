"""UNet as ATOMMIC and mridc have it: x = U(A^H y), with their rule for padding and their normalisation groups."""

from torch import Tensor

from mrirecon.models.blocks.channels import to_channels, to_image
from mrirecon.models.importers.atommic_blocks import PaddedNormUNet
from mrirecon.physics.measurement import Measurement, Reconstructor
from mrirecon.physics.sense import SenseOperator


class AtommicUNet(Reconstructor):
    """One U-Net on the start image. Arguments as of `PaddedNormUNet`."""

    def __init__(self, channels: int, pools: int, padding: int = 11, groups: int = 2):
        super().__init__()
        self.network = PaddedNormUNet(channels, pools, padding=padding, groups=groups)

    def forward(self, measurement: Measurement) -> list[Tensor]:
        image = measurement.initial_image
        if image is None:
            image = SenseOperator(measurement).adjoint_data
        return [to_image(self.network(to_channels(image)))]
