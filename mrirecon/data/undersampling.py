"""Random masks for training."""

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from mrirecon.acquisition.scan import Axis
from mrirecon.errors import UsageError
from mrirecon.physics.sampling import mask_by_name


@dataclass(frozen=True)
class Undersampling:
    """The masks that training draws from, uniformly.

    masks: names of kinds. acceleration: whole numbers from, to. acs: fully sampled lines (side of the block for 2D
    masks) from, to; never more than 3/4 of the lines that the acceleration leaves.
    """

    masks: tuple[str, ...] = ("equispaced", "random", "gaussian1d", "gaussian2d")
    acceleration: tuple[int, int] = (2, 8)
    acs: tuple[int, int] = (16, 30)

    def __post_init__(self) -> None:
        for name, (low, high) in (("acceleration", self.acceleration), ("acs", self.acs)):
            if not 1 <= low <= high:
                raise UsageError(f"{name} {low} to {high} is not a range of positive numbers.")
        for name in self.masks:
            mask_by_name(name, self.acceleration[0])

    def mask(self, shape: tuple[int, int], readout_axis: Axis, rng: np.random.Generator) -> Tensor:
        """A random mask, bool (y, x)."""
        phase_encodes = shape[1] if readout_axis == "y" else shape[0]
        acceleration = int(rng.integers(self.acceleration[0], self.acceleration[1] + 1))
        acs = min(int(rng.integers(self.acs[0], self.acs[1] + 1)), int(0.75 * phase_encodes / acceleration))
        kind = mask_by_name(str(rng.choice(self.masks)), acceleration, acs)
        return kind.mask(shape, int(rng.integers(2**31)), readout_axis)
