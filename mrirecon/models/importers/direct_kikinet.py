"""KIKI-net as DIRECT has it: one k-space and one image network, the same in every iteration, and no data term.

    x = I(S^H F^-1 M K(k)),   k = M F S x                k = y at the start; K sees one coil at a time

F is the toolbox's own transform, because K has learned in its layout and scale.
"""

from torch import Tensor, nn

from mrirecon.models.blocks.channels import to_channels, to_image
from mrirecon.models.importers.direct_blocks import OneByOne
from mrirecon.models.importers.fourier import Norm, PeerFourier
from mrirecon.physics.measurement import Measurement, Reconstructor


class DirectKIKINet(Reconstructor):
    """`direct.nn.kikinet.kikinet.KIKINet`; `measurement.initial_image` is not used.

    kspace_network, image_network: real (batch, 2, y, x) → the same. centered, norm: of `PeerFourier`.
    """

    def __init__(
        self,
        kspace_network: nn.Module,
        image_network: nn.Module,
        iterations: int,
        centered: bool = True,
        norm: Norm = "ortho",
    ):
        super().__init__()
        self.kspace_network = OneByOne(kspace_network)
        self.image_network = image_network
        self.iterations = iterations
        self.fourier = PeerFourier(centered, norm)

    def forward(self, measurement: Measurement) -> list[Tensor]:
        maps = measurement.sensitivities
        if maps is None:
            raise ValueError("KIKINet needs sensitivities; estimate them first (physics.coils.espirit)")
        mask = self.fourier.mask(measurement.mask)
        kspace = self.fourier.kspace(measurement.kspace)
        coils = kspace.shape[:2]
        estimates: list[Tensor] = []
        for _ in range(self.iterations):
            refined = to_image(self.kspace_network(to_channels(kspace.flatten(0, 1)))).unflatten(0, coils)
            image = (maps.conj() * self.fourier.inverse(mask * refined)).sum(dim=1)
            image = to_image(self.image_network(to_channels(image)))
            kspace = mask * self.fourier.forward(maps * image[:, None])
            estimates = [*estimates, image] if self.training else [image]
        return estimates
