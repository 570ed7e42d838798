"""U-Net on the zero-filled, coil-combined image (fastMRI's baseline, arXiv 1811.08839).

x = U(A^H y), then one explicit data consistency step, if wanted
"""

from typing import Literal

import torch
from torch import Tensor

from mrirecon.models.blocks.channels import to_channels, to_image
from mrirecon.models.blocks.data_consistency import OUTPUT_FORMS, STEPS, DataConsistency, split_consistency
from mrirecon.models.blocks.unet import NormUNet
from mrirecon.physics.measurement import Measurement, Reconstructor
from mrirecon.physics.sense import SenseOperator


class UNet(Reconstructor):
    """One U-Net.

    channels: features of the first level. pools: halvings of the size. image: `complex` works on real and imaginary
    part; `magnitude` on the magnitude alone and answers with a non-negative image, whose phase is lost.
    data_consistency: a step on the output; only `none` goes with `magnitude`.
    """

    def __init__(
        self,
        channels: int = 64,
        pools: int = 2,
        image: Literal["complex", "magnitude"] = "complex",
        data_consistency: DataConsistency = "none",
    ):
        super().__init__()
        if image == "magnitude" and data_consistency != "none":
            raise ValueError(
                "a magnitude image has no phase, so it cannot be made consistent with k-space; use complex"
            )
        _, explicit = split_consistency(data_consistency, OUTPUT_FORMS, "a U-Net sees no gradient")
        self.magnitude = image == "magnitude"
        self.network = NormUNet(channels, pools, *((1, 1) if self.magnitude else (2, 2)))
        self.network.start_as_identity()
        self.consistency = STEPS[explicit]()

    def forward(self, measurement: Measurement) -> list[Tensor]:
        operator = SenseOperator(measurement)
        image = operator.adjoint_data if measurement.initial_image is None else measurement.initial_image
        if self.magnitude:
            magnitude = self.network(image.abs()[:, None])[:, 0].float().relu()
            return [torch.complex(magnitude, torch.zeros_like(magnitude))]
        return [self.consistency(to_image(self.network(to_channels(image))), operator)]
