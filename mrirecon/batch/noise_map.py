"""How strong the noise is in each pixel of a SENSE reconstruction, by a formula or by trying it out.

Where the sampled lines form a regular lattice, and a fully sampled centre beside it does not count, each pixel is mixed
with few others only, and SENSE's noise follows from the coil maps there (Pruessmann et al., MRM 42:952, 1999).
Elsewhere pure noise is reconstructed several times (pseudo multiple replica; Robson et al., MRM 60:895, 2008).
"""

from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from mrirecon.classical.cg_sense import CGSense
from mrirecon.physics.calibration import calibration_width
from mrirecon.physics.measurement import Measurement

NoiseMap = Literal["auto", "replica"]
LATTICE, REPLICAS = "SENSE g-factor (analytic)", "pseudo multiple replica of CG-SENSE"
#: Few replicas are enough, as the noise of neighbours is averaged: squares of so many pixels.
COUNT, SMOOTHING = 4, 7
#: Among fewer lines anything looks like a lattice, and a larger step is no parallel imaging.
LEAST_LINES, LARGEST_STEP = 4, 8


def noise_map(measurement: Measurement, sigma: Tensor, how: NoiseMap = "auto") -> tuple[Tensor, str]:
    """(standard deviation of the complex noise, real (batch, y, x), how it was found: LATTICE or REPLICAS).

    measurement: with sensitivities. sigma: real (batch,), of the noise in k-space. Zero outside the maps' support.
    """
    assert measurement.sensitivities is not None
    masks = measurement.mask[:, 0].cpu().numpy()
    lattices = [lattice_of(mask) for mask in masks]
    support = (measurement.sensitivities != 0).any(dim=1)
    if how == "auto" and all(step is not None for step in lattices):
        maps = measurement.sensitivities
        each = [_sense_noise(maps[n], step) for n, step in enumerate(lattices) if step]
        return torch.stack(each) * sigma[:, None, None] * support, LATTICE
    return _replica_noise(measurement, sigma) * support, REPLICAS


def lattice_of(mask: NDArray[Any]) -> tuple[int, int] | None:
    """(step of the sampled rows, of the columns) of a bool mask (y, x), if it is a lattice; else None.

    What the fully sampled centre adds does not count, nor an edge that was not measured at all.
    """
    if not mask.any():
        return 1, 1
    centre = np.zeros_like(mask)
    (height, width), (y, x) = calibration_width(mask), mask.shape
    centre[y // 2 - height // 2 :, x // 2 - width // 2 :][:height, :width] = True
    measured = _range(mask.any(axis=1)), _range(mask.any(axis=0))
    inside, centre = mask[measured], centre[measured]
    for steps in _steps():
        for first in np.ndindex(steps):
            lattice = np.zeros_like(inside)
            lattice[first[0] :: steps[0], first[1] :: steps[1]] = True
            enough = min(lattice.any(axis=0).sum(), lattice.any(axis=1).sum()) >= LEAST_LINES
            if enough and np.array_equal(lattice | centre, inside):
                return steps
    return None


def _steps() -> list[tuple[int, int]]:
    """Of rows and columns, the small ones first."""
    sizes = range(1, LARGEST_STEP + 1)
    return sorted(
        ((a, b) for a in sizes for b in sizes if a * b <= LARGEST_STEP), key=lambda steps: steps[0] * steps[1]
    )


def _range(lines: ArrayLike) -> slice:
    there = np.flatnonzero(lines)
    return slice(int(there[0]), int(there[-1]) + 1)


def _sense_noise(maps: Tensor, steps: tuple[int, int]) -> Tensor:
    """Noise in the image per noise in k-space, real (y, x), of maps (coils, y, x) with Σ|S|² = 1.

    Each pixel is mixed with those a whole number of fields of view / step away, where maps are taken at the nearest
    pixel. The covariance of the mixed pixels is step · (S^H S)^-1.
    """
    _, height, width = maps.shape
    mixed = []
    for a in range(steps[0]):
        for b in range(steps[1]):
            mixed.append(maps.roll((-round(a * height / steps[0]), -round(b * width / steps[1])), (1, 2)))
    pixels = torch.stack(mixed).permute(2, 3, 1, 0)  # (y, x, coils, mixed)
    products = pixels.mH @ pixels
    outside = (pixels == 0).all(dim=-2)
    # A pixel without signal mixes nothing in; and no coil array tells two pixels with the same maps apart.
    products = products + torch.diag_embed(outside + 1e-4).to(products.dtype)
    variance = torch.linalg.inv(products)[..., 0, 0].real
    return (len(mixed) * variance).clamp_(min=0).sqrt_()


def _replica_noise(measurement: Measurement, sigma: Tensor) -> Tensor:
    """Standard deviation over reconstructions of noise alone: CG-SENSE is linear but for the length of its steps."""
    generator = torch.Generator().manual_seed(0)
    shape, dtype = measurement.kspace.shape, measurement.kspace.dtype
    power = torch.zeros_like(measurement.kspace[:, 0].real)
    for _ in range(COUNT):
        noise = torch.randn(shape, dtype=dtype, generator=generator).to(measurement.kspace.device)
        noise = noise * sigma[:, None, None, None] * measurement.mask
        [image] = CGSense()(Measurement(noise, measurement.mask, measurement.sensitivities, sigma))
        power += image.abs().square() / COUNT
    support = (measurement.sensitivities != 0).any(dim=1).to(power.dtype)  # type: ignore[union-attr]
    smooth = torch.nn.AvgPool2d(SMOOTHING, stride=1, padding=SMOOTHING // 2)
    return (smooth(power * support) / smooth(support).clamp_(min=1e-6)).sqrt_()
