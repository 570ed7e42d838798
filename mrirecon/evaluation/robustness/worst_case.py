"""The worst perturbation of the measured k-space within a bound, for each method by itself.

Gradient ascent on the error, projected onto a ball of the bound's radius (Antun et al., PNAS 117:30088, 2020; Darestani
et al., ICML 2021), through networks and through the steps of compressed sensing alike.
"""

import inspect
from dataclasses import replace

import torch
from torch import Tensor

from mrirecon.classical.compressed_sensing import CompressedSensing
from mrirecon.classical.wavelet import Shift, Wavelet
from mrirecon.physics.measurement import Measurement, Reconstructor
from mrirecon.physics.noise import estimate_noise_std
from mrirecon.physics.sense import SenseOperator
from mrirecon.reconstruction.pipeline import SliceData

#: All steps together could go so many times across the bound's radius.
REACH = 2.5


def worst_case(method: Reconstructor, data: SliceData, level: float, steps: int) -> Measurement:
    """The measurement plus what makes the method's magnitude image differ most from the reference.

    level: the perturbation's norm is at most that of noise `level` times as strong as the measurement's own. steps: of
    gradient ascent from no perturbation; the worst that was met counts. Coil maps stay those of the measurement as it
    was. Where no gradient passes through a method, its direction is that of A (error), as though it were A^H alone.
    """
    assert data.reference is not None
    with torch.inference_mode(False), torch.enable_grad():
        measurement = data.measurement
        kspace, mask = measurement.kspace.clone(), measurement.mask.clone()
        measurement = replace(measurement, kspace=kspace, mask=mask)
        operator = SenseOperator(measurement)
        target, method = data.reference.abs(), differentiable(method).eval()
        radius = level * float(measured_noise(measurement)) * float(mask.expand_as(kspace).sum()) ** 0.5
        perturbation, worst, highest = torch.zeros_like(kspace), kspace, -1.0
        for _ in range(steps + 1):
            perturbation.requires_grad_()
            image = method(replace(measurement, kspace=kspace + perturbation * mask))[-1][0] * data.support
            error = (image.abs() - target).square().sum()
            if (now := error.item()) > highest:
                worst, highest = (kspace + perturbation * mask).detach(), now
            if error.requires_grad:
                (ascent,) = torch.autograd.grad(error, perturbation)
            else:
                ascent = operator.forward(((image.abs() - target) * image.sgn())[None])
            ascent = ascent * mask
            longer = perturbation.detach() + ascent * (REACH * radius / steps / _norm(ascent))
            perturbation = longer * min(1.0, radius / _norm(longer))
    return replace(measurement, kspace=worst)


def measured_noise(measurement: Measurement) -> Tensor:
    """Standard deviation of the complex noise in the samples, real (batch,): as it came, else estimated."""
    if measurement.noise_std is not None:
        return measurement.noise_std
    return estimate_noise_std(measurement.kspace, measurement.mask)


def differentiable(method: Reconstructor) -> Reconstructor:
    """The method, in a form that gradients pass through, if there is one."""
    if type(method) is not CompressedSensing or method.total_variation:
        return method
    return _Unrolled(**{name: getattr(method, name) for name in inspect.signature(CompressedSensing).parameters})


class _Unrolled(CompressedSensing):
    """The same steps with gradients. Without total variation, whose dual is updated in place."""

    forward = inspect.unwrap(CompressedSensing.forward)

    def _proximal_point(self, point: Tensor, dual: Tensor, wavelet: Wavelet, shift: Shift) -> Tensor:
        coefficients = wavelet.forward(point, shift)
        # Not hypot, whose gradient is NaN at zero.
        magnitude = torch.complex(*coefficients).abs()
        factor = (magnitude - self.weight).relu() / magnitude.clamp(min=torch.finfo(magnitude.dtype).tiny)
        if not self.approximation:
            step = 2**self.levels
            factor = factor.clone()
            factor[..., ::step, ::step] = 1
        return wavelet.inverse(coefficients * factor, shift)


def _norm(values: Tensor) -> float:
    return max(float(values.abs().square().sum().sqrt()), torch.finfo(values.real.dtype).tiny)
