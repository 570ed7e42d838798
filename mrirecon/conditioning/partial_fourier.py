"""Partial Fourier: the side of k-space that was not measured, completed by the image's phase being smooth.

It is done on the reconstructed image. Of undersampled k-space the phase is not known before the aliasing is resolved;
for fully sampled k-space it comes to the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from mrirecon.acquisition.scan import Axis, Box
from mrirecon.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

PartialFourier = Literal["zero-fill", "homodyne", "pocs"]
#: Samples by which the measured range must reach further to one side of the centre to be partial Fourier.
LEAST_ASYMMETRY = 4
POCS_ITERATIONS = 15


def unmeasured_side(acquired: Box, shape: tuple[int, int]) -> dict[Axis, float]:
    """The axes of k-space `shape` (y, x) that were measured to one side of the centre further than to the other.

    With each its partial Fourier fraction: samples measured, of those of a range as wide to both sides.
    """
    fractions: dict[Axis, float] = {}
    axes: tuple[Axis, Axis] = ("y", "x")
    for axis, (start, stop), length in zip(axes, acquired, shape, strict=True):
        before, after = length // 2 - start, stop - length // 2
        if abs(before - after) >= LEAST_ASYMMETRY:
            fractions[axis] = (before + after) / (2 * max(before, after))
    return fractions


def fraction_text(acquired: Box, shape: tuple[int, int]) -> str | None:
    """Such as "62 % of y measured", for `mrirecon info`; None where the measured range is symmetric."""
    sides = [f"{fraction:.0%} of {axis}" for axis, fraction in unmeasured_side(acquired, shape).items()]
    return " and ".join(sides) + " measured" if sides else None


def complete(image: Tensor, acquired: Box, method: PartialFourier) -> Tensor:
    """The complex image (..., y, x) with the unmeasured side of its k-space filled in; the same where there is none.

    acquired: measured range of its k-space, the grid of which is the image's. method: "zero-fill" leaves the image as
    it is; "homodyne" weighs k-space so that the real part of the image, without its smooth phase, is whole, and puts
    the phase back (Noll et al., IEEE TMI 10:154, 1991); "pocs" alternates between that phase and the measured samples,
    which it keeps (Haacke et al., JMR 92:126, 1991).
    Raises UsageError for homodyne where both axes are partial.
    """
    sides = unmeasured_side(acquired, (image.shape[-2], image.shape[-1]))
    if not sides or method == "zero-fill":
        return image
    if method == "pocs":
        return _pocs(image, acquired)
    if len(sides) > 1:
        raise UsageError("homodyne completes one axis and both are partial Fourier here; take pocs.")
    return _homodyne(image, acquired, -2 if "y" in sides else -1)


def _homodyne(image: Tensor, acquired: Box, axis: int) -> Tensor:
    import torch

    from mrirecon.physics.fourier import fftc, ifftc

    start, stop = acquired[axis]
    length = image.shape[axis]
    offset = torch.arange(length, device=image.device) - length // 2
    # 0 on the side without samples, 2 where their mirror images are missing, and a ramp between, over both-sided ones.
    before, after = length // 2 - start, stop - length // 2
    direction = 1 if after > before else -1
    weight = (1 + direction * offset / min(before, after)).clamp(0, 2)
    measured = (offset >= -before) & (offset < after)
    shape = (-1, 1) if axis == -2 else (-1,)
    weighted = ifftc(fftc(image) * (weight * measured).reshape(shape))
    phase = _smooth_phase(image, acquired)
    return (weighted * phase.conj()).real * phase


def _pocs(image: Tensor, acquired: Box) -> Tensor:
    from mrirecon.physics.fourier import fftc, ifftc

    (y0, y1), (x0, x1) = acquired
    kspace = fftc(image)
    measured = kspace[..., y0:y1, x0:x1]
    phase = _smooth_phase(image, acquired)
    estimate = kspace.new_zeros(kspace.shape)
    estimate[..., y0:y1, x0:x1] = measured
    for _ in range(POCS_ITERATIONS):
        estimate = fftc(ifftc(estimate).abs() * phase)
        estimate[..., y0:y1, x0:x1] = measured
    return ifftc(estimate)


def _smooth_phase(image: Tensor, acquired: Box) -> Tensor:
    """exp(i φ) of the image from the part of k-space that was measured on both sides, under a Hann window."""
    import torch

    from mrirecon.physics.fourier import fftc, ifftc

    kspace = fftc(image)
    for axis, (start, stop) in zip((-2, -1), acquired, strict=True):
        length = image.shape[axis]
        offset = (torch.arange(length, device=image.device) - length // 2).abs()
        half = min(length // 2 - start, stop - length // 2)
        window = torch.where(offset < half, 0.5 + 0.5 * torch.cos(torch.pi * offset / half), 0)
        kspace = kspace * window.reshape((-1, 1) if axis == -2 else (-1,))
    low = ifftc(kspace)
    return torch.polar(torch.ones_like(low.real), low.angle())
