"""LPDNet as DIRECT has it: the equations of `AtommicLPDNet`, with coils and slices one after the other."""

from torch import nn

from mrirecon.models.importers.atommic_lpdnet import AtommicLPDNet
from mrirecon.models.importers.direct_blocks import OneByOne
from mrirecon.models.importers.fourier import Norm


class DirectLPDNet(AtommicLPDNet):
    """`direct.nn.lpd.lpd.LPDNet`; arguments as of `AtommicLPDNet`."""

    def __init__(
        self,
        primal_network: nn.Module,
        dual_network: nn.Module,
        iterations: int,
        primal: int,
        dual: int,
        centered: bool = True,
        norm: Norm = "ortho",
    ):
        super().__init__(OneByOne(primal_network), OneByOne(dual_network), iterations, primal, dual, centered, norm)
