"""LPDNet as ATOMMIC and mridc have it: one primal and one dual network, the same in every iteration, no identity path.

    D ← N_d([D, M F S X_1, y]) for each coil,     X ← N_p([X, S^H F^-1 M D_0])

The answer is X_0. X begins as copies of the start image, D as copies of y. F is the toolbox's own transform, because
N_d has learned in its layout and scale.
"""

import torch
from torch import Tensor, nn

from mrirecon.models.blocks.channels import to_channels, to_image
from mrirecon.models.importers.fourier import Norm, PeerFourier
from mrirecon.physics.measurement import Measurement, Reconstructor


class AtommicLPDNet(Reconstructor):
    """Learned primal-dual network.

    primal_network: real (batch, 2 (primal + 1), y, x) → (batch, 2 primal, y, x). dual_network: the same with
    2 (dual + 2) and 2 dual channels. primal, dual: images in X and k-spaces in D. centered, norm: of `PeerFourier`.
    """

    def __init__(
        self,
        primal_network: nn.Module,
        dual_network: nn.Module,
        iterations: int,
        primal: int,
        dual: int,
        centered: bool = False,
        norm: Norm = "backward",
    ):
        super().__init__()
        self.primal_network = primal_network
        self.dual_network = dual_network
        self.iterations = iterations
        self.primal = primal
        self.dual = dual
        self.fourier = PeerFourier(centered, norm)

    def forward(self, measurement: Measurement) -> list[Tensor]:
        maps = measurement.sensitivities
        if maps is None:
            raise ValueError("LPDNet needs sensitivities; estimate them first (physics.coils.espirit)")
        y = self.fourier.kspace(measurement.kspace)
        mask = self.fourier.mask(measurement.mask)
        image = measurement.initial_image
        if image is None:
            image = (maps.conj() * self.fourier.inverse(mask * y)).sum(dim=1)
        coils = y.shape[:2]
        data = to_channels(y.flatten(0, 1))
        # The buffers are kept as channels [Re, Im, Re, Im, …]: X for each slice, D for each slice and coil.
        x, d = to_channels(*self.primal * [image]), to_channels(*self.dual * [y.flatten(0, 1)])
        estimates: list[Tensor] = []
        for _ in range(self.iterations):
            forward = mask * self.fourier.forward(maps * to_image(x[:, 2:4])[:, None])
            d = self.dual_network(torch.cat([d, to_channels(forward.flatten(0, 1)), data], dim=1))
            first = mask * to_image(d[:, :2]).unflatten(0, coils)
            backward = (maps.conj() * self.fourier.inverse(first)).sum(dim=1)
            x = self.primal_network(torch.cat([x, to_channels(backward)], dim=1))
            image = to_image(x[:, :2])
            estimates = [*estimates, image] if self.training else [image]
        return estimates
