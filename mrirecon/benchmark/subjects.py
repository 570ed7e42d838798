"""What is measured on: one simulated slice of a head, whose true image is known."""

from dataclasses import dataclass

import torch
from torch import Tensor

from mrirecon.benchmark.measure import Settings
from mrirecon.physics.coils import espirit
from mrirecon.physics.measurement import Measurement
from mrirecon.physics.sampling import mask_by_name
from mrirecon.simulation.phantom import head_phantom
from mrirecon.simulation.scan import simulate_slices

SNR = 30
ACCELERATION = 4
#: Side of the fully sampled centre, or lines of it.
CENTRE = 24


@dataclass(frozen=True)
class Subject:
    """kspace: complex64 (1, coils, y, x), fully sampled, on the device. truth: real (1, y, x), in the same units."""

    kspace: Tensor
    truth: Tensor

    def measured(self, mask: Tensor) -> Measurement:
        """What is left under a mask, bool (y, x), with the maps that it gives."""
        mask = mask.to(self.kspace.device)[None, None]
        kspace = self.kspace * mask
        return Measurement(kspace, mask, espirit(kspace, mask))


def head(settings: Settings, coils: int | None = None, matrix: tuple[int, int] | None = None) -> Subject:
    """A slice of a simulated head in units in which its brightest tissue is about 1."""
    images = head_phantom(matrix or settings.matrix, 3, "t2", seed=20_000).images[1:2]
    images = images / images.max()
    kspace = next(simulate_slices(images, coils or settings.coils, SNR, seed=0))
    return Subject(torch.from_numpy(kspace)[None].to(settings.device), torch.from_numpy(images))


def centre(settings: Settings) -> int:
    """What a matrix has of CENTRE samples to calibrate from: small ones have less."""
    return min(CENTRE, min(settings.matrix) // (ACCELERATION * 3 // 2))


def masks(settings: Settings, matrix: tuple[int, int] | None = None) -> dict[str, Tensor]:
    """Bool (y, x), four times fewer samples, by what they look like."""
    shape, acs = matrix or settings.matrix, centre(settings)
    lines = mask_by_name("equispaced", ACCELERATION, acs)
    return {
        "2D mask": mask_by_name("gaussian2d", ACCELERATION, acs).mask(shape, 0),
        "lines along y": lines.mask(shape, 0, "y"),
        "lines along x": lines.mask(shape, 0, "x"),
    }
