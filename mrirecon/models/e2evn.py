"""End-to-end variational network (Sriram et al., MICCAI 2020; arXiv 2004.06688).

    k_{t+1} = k_t − λ_t M (k_t − y) − F S U_t( S^H F^-1 k_t ),   t = 0 … T−1        k_0 = y

The estimates are the images S^H F^-1 k_t. The recursion holds the k-space of all coils, so the data term acts on each
coil by itself. Learned maps are `LearnedSensitivities` around it.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from mrirecon.models.blocks.channels import to_channels, to_image
from mrirecon.models.blocks.checkpointing import repeated
from mrirecon.models.blocks.data_consistency import (
    STEPS,
    UNROLLED_FORMS,
    DataConsistency,
    GradientStep,
    ProximalStep,
    split_consistency,
)
from mrirecon.models.blocks.unet import NormUNet
from mrirecon.models.blocks.update import UpdateUNet
from mrirecon.physics.measurement import Measurement, Reconstructor
from mrirecon.physics.sense import SenseOperator


class E2EVNCascade(nn.Module):
    """One cascade: k-space (batch, coils, y, x) → the same. unet: the kind of U; other arguments as in `E2EVN`."""

    def __init__(self, channels: int, pools: int, data_consistency: DataConsistency, unet: type[NormUNet]):
        super().__init__()
        self.implicit, explicit = split_consistency(
            data_consistency, UNROLLED_FORMS, "a cascade is given the gradient or takes an explicit step, not both"
        )
        self.network = unet(channels, pools, inputs=4 if self.implicit else 2)
        self.consistency = STEPS[explicit]()

    def forward(self, kspace: Tensor, operator: SenseOperator, measurement: Measurement) -> Tensor:
        image = operator.reduce(kspace)
        inputs = to_channels(image, operator.gradient(image)) if self.implicit else to_channels(image)
        refinement = to_image(self.network(inputs))
        if isinstance(self.consistency, ProximalStep):
            return operator.expand(self.consistency(image - refinement, operator))
        change = operator.expand(refinement)
        if isinstance(self.consistency, GradientStep):
            length = self.consistency.length(operator)
            if isinstance(length, Tensor) and length.ndim:
                length = length[:, None]  # one per slice: (batch, 1, y, x) to go with all coils
            change = torch.addcmul(change, (length * measurement.mask).to(change.dtype), kspace - measurement.kspace)
        return kspace - change


class E2EVN(Reconstructor):
    """Unrolled gradient descent in k-space with a normalised U-Net of its own in every cascade.

    cascades: T. channels, pools: of the U-Nets. data_consistency: `soft` is the paper's data term, `hard` has λ = 1,
    `none` has no data term, `implicit` has none either and gives the U-Nets the gradient beside the image.
    `proximal` solves for the image instead: k_{t+1} = F S prox(x_t − U_t(x_t)), x_t = S^H F^-1 k_t.

    The recursion begins at the measured k-space; `measurement.initial_image` is not used.

    The paper's U also gives the mean of its normalisation back, which every cascade then subtracts from the image, and
    only a long training learns to compensate. Here it does not (`UpdateUNet`).
    """

    unet: type[NormUNet] = UpdateUNet

    def __init__(
        self,
        cascades: int = 12,
        channels: int = 18,
        pools: int = 4,
        data_consistency: DataConsistency = "soft",
    ):
        super().__init__()
        self.cascades = nn.ModuleList(
            E2EVNCascade(channels, pools, data_consistency, self.unet) for _ in range(cascades)
        )

    def kspaces(self, measurement: Measurement, operator: SenseOperator) -> Iterator[Tensor]:
        """k_1 … k_T, complex (batch, coils, y, x)."""
        kspace = measurement.kspace
        for cascade in self.cascades:
            kspace = repeated(cascade, kspace, operator, measurement)
            yield kspace

    def forward(self, measurement: Measurement) -> list[Tensor]:
        operator = SenseOperator(measurement)
        estimates: list[Tensor] = []
        for kspace in self.kspaces(measurement, operator):
            if self.training:
                estimates.append(operator.reduce(kspace))
        return estimates if self.training else [operator.reduce(kspace)]
