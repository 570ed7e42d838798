import numpy as np
import pytest
import torch

from mrirecon.physics.fourier import fftc
from mrirecon.physics.measurement import Measurement
from mrirecon.physics.noise import estimate_noise_std
from mrirecon.physics.sampling import mask_by_name
from mrirecon.physics.sense import SenseOperator
from mrirecon.simulation.coils import coil_maps

FULL = torch.ones(1, 1, 1, 1, dtype=torch.bool)


def noise(std, shape=(2, 4, 96, 90), seed=0):
    generator = torch.Generator().manual_seed(seed)
    return std * torch.randn(shape, dtype=torch.complex64, generator=generator)


def disc(height, width):
    y, x = torch.linspace(-1, 1, height)[:, None], torch.linspace(-1, 1, width)
    return fftc(torch.exp(-8 * (y**2 + x**2)).to(torch.complex64))


@pytest.mark.parametrize("std", [0.01, 0.3])
def test_pure_noise_is_measured_within_the_spread_of_few_samples(std):
    torch.testing.assert_close(estimate_noise_std(noise(std), FULL), torch.tensor([std, std]), rtol=0.15, atol=0)


@pytest.mark.parametrize("axis", [-1, -2])
def test_an_object_and_missing_lines_do_not_matter(axis):
    kspace = disc(96, 90) + noise(0.02)
    mask = torch.zeros(1, 1, 1, 90, dtype=torch.bool) if axis == -1 else torch.zeros(1, 1, 96, 1, dtype=torch.bool)
    mask.movedim(axis, 0)[::4] = True
    torch.testing.assert_close(estimate_noise_std(kspace * mask, mask), torch.full((2,), 0.02), rtol=0.15, atol=0)


@pytest.mark.parametrize(("mask", "acceleration"), [("equispaced_fraction", 4), ("gaussian2d", 6)])
def test_fine_detail_of_the_image_is_not_taken_for_noise(mask, acceleration):
    """Sharp edges all over, down to the highest frequencies, as in a magnitude image that is simulated from."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[-1:1:160j, -1:1:192j]
    image = (y**2 + x**2 < 0.7) * (1 + 0.3 * np.sign(np.sin(9 * x + 4 * y) * np.sin(11 * y)))
    coil_images = torch.from_numpy((coil_maps(y.shape, 8, rng) * image).astype(np.complex64))
    std = 0.01
    kspace = (fftc(coil_images) + noise(std, coil_images.shape))[None]
    sampled = mask_by_name(mask, acceleration, 24).mask(y.shape, 0)[None, None]
    found = estimate_noise_std(kspace * sampled, sampled)
    by_single_coils = torch.cat([estimate_noise_std(coil[:, None] * sampled, sampled) for coil in kspace.unbind(1)])
    assert 0.9 * std < found < 1.7 * std
    assert by_single_coils.square().mean().sqrt() > 1.3 * found


def test_zero_filled_edges_and_dead_coils_are_left_out():
    kspace = noise(0.1)
    kspace[:, :, :10] = 0
    kspace[:, 2] = 0
    torch.testing.assert_close(estimate_noise_std(kspace, FULL), torch.full((2,), 0.1), rtol=0.15, atol=0)


def test_an_empty_slice_has_no_noise():
    kspace = noise(0.1)
    kspace[0] = 0
    assert estimate_noise_std(kspace, FULL)[0] == 0


def test_the_operator_prefers_the_level_it_is_told():
    kspace = noise(0.1)
    told = SenseOperator(Measurement(kspace, FULL, kspace, noise_std=torch.tensor([1.0, 2.0])))
    found = SenseOperator(Measurement(kspace, FULL, kspace))
    assert told.noise_std.tolist() == [1, 2]
    torch.testing.assert_close(found.noise_std, torch.full((2,), 0.1), rtol=0.15, atol=0)
