from dataclasses import replace

import pytest
import torch

from mrirecon.errors import InputError
from mrirecon.models import sensitivity
from mrirecon.models.e2evn import E2EVN
from mrirecon.models.rim import RIM
from mrirecon.models.sensitivity import LearnedSensitivities, SensitivityNetwork, central_block
from mrirecon.physics.fourier import fftc
from mrirecon.physics.measurement import Measurement
from mrirecon.training.module import ReconstructionModule


def lines(width, acs, offset=0):
    """`acs` central lines, and every third line that is not beside them: bool (1, 1, 1, width)."""
    mask = torch.arange(width) % 3 == offset
    first = width // 2 - acs // 2
    mask[first - 1 : first + acs + 1] = False
    mask[first : first + acs] = True
    return mask[None, None, None]


def measurement(mask=None, batch=2, coils=3, height=21, width=18, seed=0):
    generator = torch.Generator().manual_seed(seed)
    image = torch.randn(batch, coils, height, width, dtype=torch.complex64, generator=generator)
    mask = lines(width, 5) if mask is None else mask
    return Measurement(fftc(image) * mask, mask)


@pytest.fixture
def network():
    torch.manual_seed(0)
    return SensitivityNetwork(channels=4, pools=2)


def test_coils_may_pass_one_by_one(measurement, monkeypatch):
    network, m = SensitivityNetwork(4, 2), measurement(2, 3, 32, 32)
    with torch.no_grad():
        together = network(m)
        monkeypatch.setattr(sensitivity, "TOGETHER_BYTES", 1)
        torch.testing.assert_close(network(m), together, rtol=1e-5, atol=1e-6)


def test_parameter_count_is_the_papers():
    with torch.device("meta"):
        assert sum(p.numel() for p in SensitivityNetwork().parameters()) == 484_898


def test_maps_have_unit_norm_everywhere(network):
    maps = network(measurement())
    assert maps.shape == (2, 3, 21, 18)
    torch.testing.assert_close(maps.abs().square().sum(dim=1), torch.ones(2, 21, 18))


@pytest.mark.parametrize(("mask", "block"), [(lines(18, 5), (21, 5)), (lines(21, 6).mT, (6, 18)), (None, (7, 6))])
def test_the_centre_is_found_in_masks_of_lines_of_either_axis_and_of_points(network, mask, block):
    if mask is None:  # scattered points around a block
        mask = torch.rand(1, 1, 21, 18, generator=torch.Generator().manual_seed(3)) < 0.2
        mask[:, :, 6:15, 5:13] = False
        mask[:, :, 7:14, 6:12] = True
    m = measurement(mask)
    found = central_block(m)
    assert (int(found[0, 0].any(1).sum()), int(found[0, 0].any(0).sum())) == block
    assert found.sum() == 2 * block[0] * block[1]
    # What lies outside the centre is not looked at.
    outside = replace(m, kspace=torch.where(found, m.kspace, 0))
    torch.testing.assert_close(network(m), network(outside))
    changed = replace(m, kspace=torch.where(found, m.kspace.conj(), m.kspace))
    assert (network(m) - network(changed)).abs().max() > 0.1


def test_every_slice_of_a_batch_has_its_own_centre(network):
    masks = torch.cat([lines(18, 4), lines(18, 9, 1)])
    both = measurement(masks)
    alone = [network(Measurement(both.kspace[i : i + 1], masks[i : i + 1])) for i in range(2)]
    torch.testing.assert_close(network(both), torch.cat(alone))


def test_a_centre_that_is_known_is_taken(network):
    known = torch.zeros(1, 1, 1, 18, dtype=torch.bool)
    known[..., 8:11] = True
    m = measurement(lines(18, 9))
    torch.testing.assert_close(network(replace(m, calibration=known)), network(measurement(lines(18, 3))))


def test_dead_coils_and_empty_slices_change_nothing_else(network):
    torch.nn.init.ones_(network.network.unet.last.bias)  # what it would answer to zeros
    m = measurement()
    kspace = torch.cat([m.kspace, torch.zeros_like(m.kspace[:, :1])], dim=1)
    kspace[1] = 0
    maps = network(replace(m, kspace=kspace))
    torch.testing.assert_close(maps[0, :3], network(m)[0])
    assert maps[0, 3].abs().max() == 0
    assert maps[1].abs().max() == 0
    maps.real.sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in network.parameters())


def test_data_without_a_centre_are_refused_and_empty_slices_are_not(network):
    mask = lines(18, 5) & (torch.arange(18) != 9)
    with pytest.raises(InputError, match="centre of k-space was not sampled"):
        network(measurement(mask))
    assert network(replace(measurement(mask), kspace=torch.zeros(1, 2, 21, 18) * 1j)).abs().max() == 0


@pytest.mark.parametrize("inner", [RIM("indrnn", channels=4, time_steps=2), E2EVN(cascades=2, channels=4, pools=1)])
def test_learned_maps_take_the_place_of_those_that_are_given(inner):
    model, m = LearnedSensitivities(inner, channels=4, pools=1).eval(), measurement()
    assert model.steps_per_cascade == inner.steps_per_cascade
    with torch.no_grad():
        expected = inner(m.with_sensitivities(model.sensitivity(m)))
        torch.testing.assert_close(model(m), expected)
        torch.testing.assert_close(model(m.with_sensitivities(torch.ones_like(m.kspace))), expected)


def test_maps_are_also_learned_with_a_recurrent_machine():
    model = LearnedSensitivities(RIM("indrnn", channels=4, time_steps=2), channels=4, pools=1)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    sum(estimate.abs().square().mean() for estimate in model.train()(measurement())).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any() or not name.startswith("sensitivity"), name


def test_a_loss_that_sees_phase_is_refused():
    model = LearnedSensitivities(E2EVN(cascades=1, channels=4, pools=1), channels=4, pools=1)
    with pytest.raises(ValueError, match="set ssim_share to 1"):
        ReconstructionModule(model, ssim_share=0.5)
    ReconstructionModule(model, ssim_share=1.0)
