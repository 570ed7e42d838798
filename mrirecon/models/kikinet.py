"""KIKI-net: networks in k-space (K) and image (I) by turns (Eo et al., MRM 80:2188, 2018), multi-coil.

    k ← k + K_t(k)              every coil by itself        k = y at the start
    x ← S^H F^-1 k
    x ← D_t( x + I_t(x) )       D_t ties the image to the data
    k ← F S x                                               t = 0 … T−1

The paper trains the networks one after the other, here they are trained together.
"""

from itertools import cycle, islice
from typing import Literal

from torch import Tensor, nn

from mrirecon.models.blocks.channels import to_channels, to_image
from mrirecon.models.blocks.checkpointing import repeated
from mrirecon.models.blocks.convolution import ConvStack
from mrirecon.models.blocks.data_consistency import STEPS, UNROLLED_FORMS, DataConsistency, split_consistency
from mrirecon.models.blocks.update import GRADIENT_DESCENT, UpdateUNet, start_as_linear
from mrirecon.physics.measurement import Measurement, Reconstructor
from mrirecon.physics.sense import SenseOperator

Network = Literal["cnn", "unet"]


class KIKIIteration(nn.Module):
    """One K and one I: k-space (batch, coils, y, x) → image (batch, y, x). Arguments as in `KIKINet`."""

    def __init__(
        self,
        kspace_network: Network,
        image_network: Network,
        channels: int,
        pools: int,
        layers: int,
        data_consistency: DataConsistency,
    ):
        super().__init__()
        self.implicit, explicit = split_consistency(
            data_consistency, UNROLLED_FORMS, "an iteration is given the gradient or takes an explicit step, not both"
        )

        def network(kind: Network, inputs: int) -> nn.Module:
            return ConvStack(inputs, 2, channels, layers) if kind == "cnn" else UpdateUNet(channels, pools, inputs)

        self.kspace_network = network(kspace_network, 2)
        self.image_network = network(image_network, 4 if self.implicit else 2)
        if self.implicit and isinstance(self.image_network, ConvStack):
            start_as_linear(self.image_network, GRADIENT_DESCENT)
        self.consistency = STEPS[explicit]()

    def forward(self, kspace: Tensor, operator: SenseOperator) -> Tensor:
        update = to_image(self.kspace_network(to_channels(kspace.flatten(0, 1))))
        image = operator.reduce(kspace + update.unflatten(0, kspace.shape[:2]))
        inputs = to_channels(image, operator.gradient(image)) if self.implicit else to_channels(image)
        return self.consistency(image + to_image(self.image_network(inputs)), operator)


class KIKINet(Reconstructor):
    """Networks in k-space and image by turns.

    iterations: T. kspace_network, image_network: `cnn`, a stack of `layers` convolutions as in the paper, or `unet`
    with `pools` halvings of the size as in later comparisons; `channels` features (on the first level). tied: all
    iterations share their weights. data_consistency: the step D; with `implicit` there is none, and the image networks
    are given the gradient beside the image.

    The paper's k-space networks have no skip around them. Here they have: k-space spans orders of magnitude, and a
    network would have to learn the identity before all else.
    """

    def __init__(
        self,
        iterations: int = 2,
        kspace_network: Network = "unet",
        image_network: Network = "unet",
        channels: int = 16,
        pools: int = 2,
        layers: int = 5,
        tied: bool = False,
        data_consistency: DataConsistency = "soft",
    ):
        super().__init__()
        self.length = iterations
        self.iterations = nn.ModuleList(
            KIKIIteration(kspace_network, image_network, channels, pools, layers, data_consistency)
            for _ in range(1 if tied else iterations)
        )

    def forward(self, measurement: Measurement) -> list[Tensor]:
        operator = SenseOperator(measurement)
        image = measurement.initial_image
        estimates: list[Tensor] = []
        for iteration in islice(cycle(self.iterations), self.length):
            kspace = measurement.kspace if image is None else operator.expand(image)
            image = repeated(iteration, kspace, operator)
            estimates = [*estimates, image] if self.training else [image]
        return estimates
