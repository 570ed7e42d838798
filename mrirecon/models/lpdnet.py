"""Learned primal-dual reconstruction (Adler & Öktem, IEEE TMI 37:1322, 2018; arXiv 1707.06474), multi-coil.

    D ← D + Γ_t([D, A X_1, y])        D_i = y at the start
    X ← X + Λ_t([X, A^H D_0])         X_i = A^H y at the start        t = 0 … T−1

Some k-spaces D and images X are the networks' memory; the answer is X_0. Γ sees every coil by itself.
"""

from itertools import cycle, islice
from typing import Literal

import torch
from torch import Tensor, nn

from mrirecon.models.blocks.channels import to_channels, to_image
from mrirecon.models.blocks.checkpointing import repeated
from mrirecon.models.blocks.convolution import ConvStack
from mrirecon.models.blocks.data_consistency import DataConsistency, split_consistency
from mrirecon.models.blocks.unet import NormUNet
from mrirecon.models.blocks.update import UpdateUNet, start_as_linear
from mrirecon.physics.measurement import Measurement, Reconstructor
from mrirecon.physics.sense import SenseOperator


class LPDNet(Reconstructor):
    """Learned primal-dual network.

    iterations: T. primal, dual: numbers of buffers, real and imaginary part of each being two channels. network:
    `cnn`, a stack of `layers` convolutions as in the paper, or `unet` with `pools` halvings of the size as in later
    comparisons, which learns slowly; `channels` features (on the first level). tied: all iterations share their
    weights. residual: the networks' outputs are added to the buffers; without, they take their place. data_consistency:
    A and A^H are part of the network, so nothing but `implicit` is possible.
    """

    def __init__(
        self,
        iterations: int = 5,
        primal: int = 5,
        dual: int = 5,
        network: Literal["cnn", "unet"] = "cnn",
        channels: int = 32,
        pools: int = 2,
        layers: int = 3,
        tied: bool = False,
        residual: bool = True,
        data_consistency: DataConsistency = "implicit",
    ):
        super().__init__()
        split_consistency(data_consistency, ("implicit",), "the operators of an LPD-net are part of the network")
        if primal < 2:
            raise ValueError(f"an LPD-net needs at least 2 primal buffers, not {primal}: A is applied to the second")

        unet = UpdateUNet if residual else NormUNet

        def networks(inputs: int, outputs: int) -> nn.ModuleList:
            return nn.ModuleList(
                unet(channels, pools, 2 * inputs, 2 * outputs)
                if network == "unet"
                else ConvStack(2 * inputs, 2 * outputs, channels, layers)
                for _ in range(1 if tied else iterations)
            )

        self.iterations = iterations
        self.primal, self.dual = primal, dual
        self.residual = residual
        self.dual_networks = networks(dual + 2, dual)
        self.primal_networks = networks(primal + 1, primal)
        if network == "cnn" and residual:
            self._start_as_gradient_descent()

    def _start_as_gradient_descent(self) -> None:
        """Untrained, an iteration is D_0 ← A X_1 − y and X ← X − A^H D_0; plain convolutions find it slowly."""
        predicted, measured, back = 2 * self.dual, 2 * self.dual + 2, 2 * self.primal
        misfit = {(0, 0): -1.0, (0, predicted): 1.0, (0, measured): -1.0}
        step = {(2 * image, back): -1.0 for image in range(self.primal)}
        for networks, real in ((self.dual_networks, misfit), (self.primal_networks, step)):
            imaginary = {(o + 1, i + 1): weight for (o, i), weight in real.items()}
            for network in networks:
                start_as_linear(network, real | imaginary)

    def forward(self, measurement: Measurement) -> list[Tensor]:
        operator = SenseOperator(measurement)
        kspace = measurement.kspace
        image = operator.adjoint_data if measurement.initial_image is None else measurement.initial_image
        measured = to_channels(kspace.flatten(0, 1))
        dual = measured.repeat(1, self.dual, 1, 1)
        primal = to_channels(image).repeat(1, self.primal, 1, 1)
        estimates: list[Tensor] = []
        networks = zip(cycle(self.dual_networks), cycle(self.primal_networks), strict=True)
        for pair in islice(networks, self.iterations):
            dual, primal = repeated(self._iteration, dual, primal, measured, operator, *pair)
            image = to_image(primal[:, :2])
            estimates = [*estimates, image] if self.training else [image]
        return estimates

    def _iteration(
        self,
        dual: Tensor,
        primal: Tensor,
        measured: Tensor,
        operator: SenseOperator,
        dual_network: nn.Module,
        primal_network: nn.Module,
    ) -> tuple[Tensor, Tensor]:
        predicted = to_channels(operator.forward(to_image(primal[:, 2:4])).flatten(0, 1))
        update = dual_network(torch.cat([dual, predicted, measured], dim=1))
        dual = dual + update if self.residual else update
        kspace = to_image(dual[:, :2]).unflatten(0, (len(primal), -1))
        back = to_channels(operator.adjoint(kspace))
        update = primal_network(torch.cat([primal, back], dim=1))
        return dual, primal + update if self.residual else update
