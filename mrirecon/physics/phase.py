"""The smooth phase of an image, from the fully sampled centre of k-space, and a measurement without it.

Phase varies slowly, so a low-resolution image shows most of it (homodyne detection: Noll et al., IEEE TMI 10:154,
1991). Handed to the coil maps it leaves the data as they are and an image to find that is nearly real and positive.
"""

from dataclasses import replace

import torch
from torch import Tensor

from mrirecon.physics.calibration import calibration_width
from mrirecon.physics.fourier import ifftc
from mrirecon.physics.measurement import Measurement

#: Samples along each axis that the low-resolution image is made of, at most.
LIMIT = 32


@torch.no_grad()
def low_resolution_phase(measurement: Measurement) -> Tensor:
    """exp(iφ), complex (batch, y, x), of the coil-combined image of the fully sampled centre; 1 where there is none."""
    assert measurement.sensitivities is not None
    kspace = measurement.kspace
    height, width = kspace.shape[-2:]
    known = measurement.mask if measurement.calibration is None else measurement.calibration
    known = known.cpu().expand(len(kspace), 1, height, width)
    windows = torch.stack([_window(calibration_width(m[0]), (height, width)) for m in known]).to(kspace.device)
    image = torch.zeros_like(kspace[:, 0])
    for coil in range(kspace.shape[1]):  # no copy of all of them
        image.addcmul_(measurement.sensitivities[:, coil].conj(), ifftc(kspace[:, coil] * windows))
    return torch.polar(torch.ones_like(image.real), image.angle())


def without_phase(measurement: Measurement, phase: Tensor) -> Measurement:
    """The same data of the image x exp(-iφ): the maps, and the image to start from, for that."""
    assert measurement.sensitivities is not None
    start = measurement.initial_image
    return replace(
        measurement,
        sensitivities=measurement.sensitivities * phase[:, None],
        initial_image=None if start is None else start * phase.conj(),
    )


def _window(block: tuple[int, int], shape: tuple[int, int]) -> Tensor:
    """Hann window over the centred `block` (rows, columns), 0 elsewhere: real (y, x)."""
    sides = []
    for samples, n in zip(block, shape, strict=True):
        samples = min(samples, LIMIT)
        side = torch.zeros(n)
        first = n // 2 - samples // 2
        side[first : first + samples] = torch.hann_window(samples + 2, periodic=False)[1:-1]
        sides.append(side)
    return sides[0][:, None] * sides[1]
