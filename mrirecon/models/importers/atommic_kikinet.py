"""KIKINet as ATOMMIC and mridc have it: one k-space and one image network, the same in every iteration.

    d = w M (k − y),   k ← K(k) for each coil,   x ← I(S^H F^-1 k)
    x ← S^H F^-1 (k − d − F S x),   next k = F S x                  k = y at the start

The second line's first step is missing without data consistency. F is the toolbox's own transform, because K has
learned in its layout and scale.
"""

import torch
from torch import Tensor, nn

from mrirecon.models.blocks.channels import to_channels, to_image
from mrirecon.models.importers.fourier import Norm, PeerFourier
from mrirecon.physics.measurement import Measurement, Reconstructor


class AtommicKIKINet(Reconstructor):
    """KIKI-net with tied iterations.

    kspace_network, image_network: real (batch, 2, y, x) → the same. centered, norm: of `PeerFourier`.
    """

    def __init__(
        self,
        kspace_network: nn.Module,
        image_network: nn.Module,
        iterations: int,
        data_consistency: bool = True,
        centered: bool = False,
        norm: Norm = "backward",
    ):
        super().__init__()
        self.kspace_network = kspace_network
        self.image_network = image_network
        self.iterations = iterations
        self.fourier = PeerFourier(centered, norm)
        # The layout that training uses here; rounding at the kinks is then as in the toolbox, on one thread and on two.
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.weight = nn.Parameter(torch.ones(())) if data_consistency else None

    def forward(self, measurement: Measurement) -> list[Tensor]:
        maps = measurement.sensitivities
        if maps is None:
            raise ValueError("KIKINet needs sensitivities; estimate them first (physics.coils.espirit)")
        y = self.fourier.kspace(measurement.kspace)
        mask = self.fourier.mask(measurement.mask)
        coils = y.shape[:2]
        estimates: list[Tensor] = []
        kspace = y
        for _ in range(self.iterations):
            misfit = mask * (kspace - y)
            kspace = to_image(self.kspace_network(to_channels(kspace.flatten(0, 1)))).unflatten(0, coils)
            image = to_image(self.image_network(to_channels((maps.conj() * self.fourier.inverse(kspace)).sum(dim=1))))
            if self.weight is not None:
                kspace = kspace - self.weight * misfit - self.fourier.forward(maps * image[:, None])
                image = (maps.conj() * self.fourier.inverse(kspace)).sum(dim=1)
            kspace = self.fourier.forward(maps * image[:, None])
            estimates = [*estimates, image] if self.training else [image]
        return estimates
