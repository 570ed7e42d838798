"""Coil sensitivity maps by a network (arXiv 2004.06688, section 2.2), learned together with any reconstructor.

    S_c = U(F^-1 M_acs y_c) / sqrt( Σ_j |U(F^-1 M_acs y_j)|² )

U sees one coil at a time, and of k-space the fully sampled centre M_acs only.
"""

import torch
from torch import Tensor, nn

from mrirecon.errors import InputError
from mrirecon.models.blocks.channels import to_channels, to_image
from mrirecon.models.blocks.checkpointing import repeated
from mrirecon.models.blocks.unet import NormUNet
from mrirecon.physics.calibration import calibration_width
from mrirecon.physics.fourier import ifftc
from mrirecon.physics.measurement import Measurement, Reconstructor

#: Images of coils that pass through the network at a time, without gradients: two of 256 × 256.
TOGETHER_BYTES = 2**20


class SensitivityNetwork(nn.Module):
    """From a Measurement to maps S: complex (batch, coils, y, x), Σ|S|² = 1 at every pixel, 0 in empty slices.

    channels, pools: of U. The centre is `measurement.calibration`, or else the largest fully sampled central block of
    each mask. Raises InputError if there are data and no such block.
    """

    def __init__(self, channels: int = 8, pools: int = 4):
        super().__init__()
        self.network = NormUNet(channels, pools)
        self.network.start_as_identity()  # so that maps are smooth from the first step on

    def forward(self, measurement: Measurement) -> Tensor:
        known = measurement.calibration
        acs = measurement.kspace * (central_block(measurement) if known is None else known)
        coils = acs.shape[:2]
        images = to_channels(ifftc(acs).flatten(0, 1))
        # U sees every coil by itself: without gradients, features of all coils need not be in memory at once.
        size = len(images) if torch.is_grad_enabled() else max(1, TOGETHER_BYTES // images[0].nbytes)
        maps = torch.cat([self.network(some) for some in images.split(size)]).unflatten(0, coils)
        # U answers in the units of its input, so a coil's map vanishes with its signal. Only at exactly zero U would
        # put its bias there, and a coil that carries no data would take its share of the others' maps.
        alive = (acs != 0).flatten(2).any(dim=2)
        maps = torch.where(alive[:, :, None, None, None], maps, 0)
        power = self.power(maps)
        maps = maps / torch.where(power > 0, power, 1).sqrt()
        return to_image(maps.flatten(0, 1)).unflatten(0, coils)

    def power(self, maps: Tensor) -> Tensor:
        """What is 1 afterwards: real (batch, coils, 2, y, x) → (batch, 1, 1, y, x)."""
        return maps.square().sum(dim=(1, 2), keepdim=True)


class LearnedSensitivities(Reconstructor):
    """A reconstructor whose coil maps come from a network that is trained with it, whatever maps it is given.

    channels, pools: of the map network. The phase of the maps is free, and with it the image's: train on magnitudes.
    """

    def __init__(self, reconstructor: Reconstructor, channels: int = 8, pools: int = 4):
        super().__init__()
        self.steps_per_cascade = reconstructor.steps_per_cascade
        self.reconstructor = reconstructor
        self.sensitivity = SensitivityNetwork(channels, pools)

    def forward(self, measurement: Measurement) -> list[Tensor]:
        maps = repeated(self.sensitivity, measurement)
        estimates: list[Tensor] = self.reconstructor(measurement.with_sensitivities(maps))
        return estimates


def central_block(measurement: Measurement) -> Tensor:
    """Bool (batch, 1, y, x), True in the largest fully sampled central block of each slice's mask.

    Line masks give all of their central lines. Raises InputError for slices with data and no sampled centre.
    """
    batch, _, height, width = measurement.kspace.shape
    masks = measurement.mask.expand(batch, 1, height, width).cpu()
    block = torch.zeros_like(masks)
    for index, mask in enumerate(masks[:, 0]):
        rows, columns = calibration_width(mask)
        if not rows and measurement.kspace[index].any():
            raise InputError(
                "the centre of k-space was not sampled, so coil sensitivity maps cannot be found in it; use a network "
                "that is given maps."
            )
        top, left = height // 2 - rows // 2, width // 2 - columns // 2
        block[index, 0, top : top + rows, left : left + columns] = True
    return block.to(measurement.kspace.device)
