"""Deep cascade of convolutional networks (Schlemper et al., IEEE TMI 37:491, 2018; arXiv 1704.02422), multi-coil.

    x^{k+1} = D_k( x^k + CNN_k(x^k) ),   k = 0 … K−1        x^0 = A^H y

D_k ties the image to the data: of the paper's (k + λ y) / (1 + λ) at the sampled frequencies, a gradient step of length
λ / (1 + λ) is the form for many coils.
"""

from torch import Tensor, nn

from mrirecon.models.blocks.channels import to_channels, to_image
from mrirecon.models.blocks.checkpointing import repeated
from mrirecon.models.blocks.convolution import ConvStack
from mrirecon.models.blocks.data_consistency import STEPS, UNROLLED_FORMS, DataConsistency, split_consistency
from mrirecon.models.blocks.update import GRADIENT_DESCENT, start_as_linear
from mrirecon.physics.measurement import Measurement, Reconstructor
from mrirecon.physics.sense import SenseOperator


class CascadeNet(Reconstructor):
    """Plain convolutional networks with a data consistency step after each; every cascade has weights of its own.

    cascades: K. channels, layers: features and convolutions of each network. data_consistency: the step D_k; with
    `implicit` there is none, and each network is given the gradient beside the image.
    """

    def __init__(
        self,
        cascades: int = 10,
        channels: int = 64,
        layers: int = 5,
        data_consistency: DataConsistency = "soft",
    ):
        super().__init__()
        self.implicit, explicit = split_consistency(
            data_consistency, UNROLLED_FORMS, "a cascade is given the gradient or takes an explicit step, not both"
        )
        inputs = 4 if self.implicit else 2
        self.networks = nn.ModuleList(ConvStack(inputs, 2, channels, layers) for _ in range(cascades))
        if self.implicit:
            for network in self.networks:
                start_as_linear(network, GRADIENT_DESCENT)
        self.consistency = nn.ModuleList(STEPS[explicit]() for _ in range(cascades))

    def forward(self, measurement: Measurement) -> list[Tensor]:
        operator = SenseOperator(measurement)
        image = operator.adjoint_data if measurement.initial_image is None else measurement.initial_image
        estimates: list[Tensor] = []
        for network, consistency in zip(self.networks, self.consistency, strict=True):
            image = repeated(self._cascade, image, operator, network, consistency)
            estimates = [*estimates, image] if self.training else [image]
        return estimates

    def _cascade(self, image: Tensor, operator: SenseOperator, network: nn.Module, consistency: nn.Module) -> Tensor:
        inputs = to_channels(image, operator.gradient(image)) if self.implicit else to_channels(image)
        refined: Tensor = consistency(image + to_image(network(inputs)), operator)
        return refined
