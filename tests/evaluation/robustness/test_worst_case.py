from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from mrirecon.classical.compressed_sensing import CompressedSensing
from mrirecon.classical.zero_filled import ZeroFilled
from mrirecon.evaluation.robustness.corruptions import noise
from mrirecon.evaluation.robustness.worst_case import differentiable, measured_noise, worst_case
from mrirecon.models.cirim import CIRIM
from mrirecon.models.unet import UNet
from mrirecon.physics.measurement import Measurement, Reconstructor
from mrirecon.reconstruction.pipeline import SliceData, reconstruct_slice

#: More strongly than the tests' tolerance for single precision.
LEVEL = 1.0


class WithoutGradients(Reconstructor):
    """A method of another program, say."""

    def forward(self, measurement: Measurement) -> list[Tensor]:
        return [ZeroFilled()(measurement)[-1].detach()]


def network(kind: str) -> Reconstructor:
    torch.manual_seed(0)
    if kind == "CIRIM":
        return CIRIM(cascades=1, channels=4, time_steps=2).eval()
    return UNet(2, 1, data_consistency="soft").eval() if kind == "UNet" else CompressedSensing(iterations=6)


def error(method: Reconstructor, data: SliceData, measurement: Measurement) -> float:
    assert data.reference is not None
    image = reconstruct_slice(method, replace(data, measurement=measurement))
    return float((image.abs() - data.reference.abs()).square().sum())


@pytest.mark.parametrize("kind", ["CIRIM", "UNet", "compressed sensing", "other"])
def test_it_is_within_the_bound_and_worse_than_noise_of_the_same_norm(kind: str, data: SliceData) -> None:
    method = WithoutGradients() if kind == "other" else network(kind)
    before = data.measurement
    perturbed = worst_case(method, data, LEVEL, steps=4)
    change = perturbed.kspace - before.kspace
    measured = before.mask.expand_as(change)
    bound = LEVEL * float(measured_noise(before)) * float(measured.sum()) ** 0.5
    assert 0.5 * bound < float(change.norm()) < bound * 1.001
    assert (change[~measured] == 0).all()
    random = [noise(before, LEVEL, np.random.default_rng(seed)) for seed in range(3)]
    assert error(method, data, perturbed) > 1.2 * max(error(method, data, some) for some in random)


def test_a_bound_of_zero_leaves_everything_as_it_is(data: SliceData) -> None:
    torch.testing.assert_close(worst_case(network("UNet"), data, 0, steps=2).kspace, data.measurement.kspace)


def test_it_repeats_and_changes_neither_data_nor_weights(data: SliceData) -> None:
    method = network("CIRIM")
    before, weights = data.measurement.kspace.clone(), [p.clone() for p in method.parameters()]
    first, second = (worst_case(method, data, LEVEL, steps=2).kspace for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(data.measurement.kspace, before)
    assert all(torch.equal(a, b) and b.grad is None for a, b in zip(weights, method.parameters(), strict=True))


@pytest.mark.parametrize("arguments", [{}, {"approximation": True, "shifts": False, "levels": 2, "weight": 0.02}])
def test_compressed_sensing_with_gradients_is_the_same_method(arguments: dict, data: SliceData) -> None:
    method = CompressedSensing(iterations=5, **arguments)
    theirs = differentiable(method)(data.measurement)[-1]
    torch.testing.assert_close(theirs, method(data.measurement)[-1], atol=1e-6, rtol=1e-5)


def test_gradients_of_compressed_sensing_are_those_of_finite_differences(data: SliceData) -> None:
    method = differentiable(CompressedSensing(iterations=4))
    double = replace(
        data.measurement,
        kspace=data.measurement.kspace.to(torch.complex128),
        sensitivities=data.measurement.sensitivities.to(torch.complex128),  # type: ignore[union-attr]
    )
    direction = torch.randn(double.kspace.shape, dtype=torch.complex128, generator=torch.Generator().manual_seed(0))

    def energy(kspace: Tensor) -> Tensor:
        return method(replace(double, kspace=kspace))[-1].abs().square().sum()

    kspace = double.kspace.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(energy(kspace), kspace)
    slope = (energy(double.kspace + 1e-6 * direction) - energy(double.kspace - 1e-6 * direction)) / 2e-6
    assert float((gradient.conj() * direction).real.sum()) == pytest.approx(float(slope), rel=1e-4)


def test_total_variation_is_left_as_it_is() -> None:
    method = CompressedSensing(total_variation=0.01)
    assert differentiable(method) is method
