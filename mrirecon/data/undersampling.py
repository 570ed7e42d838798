"""Random masks for training."""

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from mrirecon.acquisition.scan import Axis
from mrirecon.errors import UsageError
from mrirecon.physics.sampling import mask_by_name


@dataclass(frozen=True)
class Undersampling:
    """The masks that training draws from.

    masks: names of kinds, all as likely. acceleration: whole numbers from, to, low ones being likelier (logarithmic).
    acs: fully sampled lines (side of the block for 2D masks) from, to; never more than 3/4 of what the acceleration
    leaves.
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
        acceleration = round(np.exp(rng.uniform(*np.log(self.acceleration))))
        name = str(rng.choice(self.masks))
        # Lines, or the side of a square, that 3/4 of the samples fill.
        if name.endswith("2d"):
            most = min(int((0.75 * shape[0] * shape[1] / acceleration) ** 0.5), *shape)
        else:
            most = int(0.75 * (shape[1] if readout_axis == "y" else shape[0]) / acceleration)
        acs = min(int(rng.integers(self.acs[0], self.acs[1] + 1)), most)
        return mask_by_name(name, acceleration, acs).mask(shape, int(rng.integers(2**31)), readout_axis)
