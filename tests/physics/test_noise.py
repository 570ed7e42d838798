import pytest
import torch

from mrirecon.physics.fourier import fftc
from mrirecon.physics.measurement import Measurement
from mrirecon.physics.noise import estimate_noise_std
from mrirecon.physics.sense import SenseOperator

FULL = torch.ones(1, 1, 1, 1, dtype=torch.bool)


def noise(std, shape=(2, 4, 96, 90), seed=0):
    generator = torch.Generator().manual_seed(seed)
    return std * torch.randn(shape, dtype=torch.complex64, generator=generator)


def disc(height, width):
    y, x = torch.linspace(-1, 1, height)[:, None], torch.linspace(-1, 1, width)
    return fftc(torch.exp(-8 * (y**2 + x**2)).to(torch.complex64))


@pytest.mark.parametrize("std", [0.01, 0.3])
def test_pure_noise_is_measured_within_a_few_percent(std):
    torch.testing.assert_close(estimate_noise_std(noise(std), FULL), torch.tensor([std, std]), rtol=0.05, atol=0)


@pytest.mark.parametrize("axis", [-1, -2])
def test_an_object_and_missing_lines_do_not_matter(axis):
    kspace = disc(96, 90) + noise(0.02)
    mask = torch.zeros(1, 1, 1, 90, dtype=torch.bool) if axis == -1 else torch.zeros(1, 1, 96, 1, dtype=torch.bool)
    mask.movedim(axis, 0)[::4] = True
    torch.testing.assert_close(estimate_noise_std(kspace * mask, mask), torch.full((2,), 0.02), rtol=0.1, atol=0)


def test_zero_filled_edges_and_dead_coils_are_left_out():
    kspace = noise(0.1)
    kspace[:, :, :10] = 0
    kspace[:, 2] = 0
    torch.testing.assert_close(estimate_noise_std(kspace, FULL), torch.full((2,), 0.1), rtol=0.1, atol=0)


def test_an_empty_slice_has_no_noise():
    kspace = noise(0.1)
    kspace[0] = 0
    assert estimate_noise_std(kspace, FULL)[0] == 0


def test_the_operator_prefers_the_level_it_is_told():
    kspace = noise(0.1)
    told = SenseOperator(Measurement(kspace, FULL, kspace, noise_std=torch.tensor([1.0, 2.0])))
    found = SenseOperator(Measurement(kspace, FULL, kspace))
    assert told.noise_std.tolist() == [1, 2]
    torch.testing.assert_close(found.noise_std, torch.full((2,), 0.1), rtol=0.05, atol=0)
