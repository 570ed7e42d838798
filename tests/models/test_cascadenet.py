from dataclasses import replace

import pytest
import torch

from mrirecon.models.blocks.data_consistency import UNROLLED_FORMS
from mrirecon.models.cascadenet import CascadeNet
from mrirecon.physics.fourier import fftc
from mrirecon.physics.measurement import Measurement
from mrirecon.physics.sense import SenseOperator


def measurement(batch=1, coils=3, height=17, width=22, seed=0):
    generator = torch.Generator().manual_seed(seed)
    maps = torch.randn(batch, coils, height, width, dtype=torch.complex64, generator=generator)
    maps = maps / maps.norm(dim=1, keepdim=True)
    mask = torch.rand(batch, 1, height, width, generator=generator) < 0.5
    image = 0.3 * torch.randn(batch, height, width, dtype=torch.complex64, generator=generator)
    noise_std = torch.full((batch,), 0.05)
    return Measurement(fftc(maps * image[:, None]) * mask, mask, maps, noise_std)


def small(form="soft"):
    return CascadeNet(cascades=3, channels=8, layers=3, data_consistency=form)


def test_parameter_count_is_that_of_the_papers_comparison():
    convolutions = 10 * ((2 * 64 * 9 + 64) + 3 * (64 * 64 * 9 + 64) + (64 * 2 * 9 + 2))
    assert convolutions == 1_131_540
    assert sum(p.numel() for p in CascadeNet().parameters()) == convolutions + 10 == 1_131_550


def test_with_networks_that_do_nothing_it_is_gradient_descent():
    model, m = small(), measurement()
    for network in model.networks:
        torch.nn.init.zeros_(network[-1].weight)
    operator = SenseOperator(m)
    image = operator.adjoint_data
    for estimate in model.train()(m):
        image = image - operator.gradient(image)
        torch.testing.assert_close(estimate, image)


def test_untrained_networks_that_are_given_the_gradient_descend():
    model, m = small("implicit"), measurement()
    for network in model.networks:
        torch.nn.init.zeros_(network[-1].weight[:, 4:])
    operator = SenseOperator(m)
    image = operator.adjoint_data
    for estimate in model.train()(m):
        image = image - operator.gradient(image)
        torch.testing.assert_close(estimate, image, rtol=1e-4, atol=1e-5)


def test_too_few_features_to_descend_are_refused():
    with pytest.raises(ValueError, match="at least 4 channels"):
        CascadeNet(channels=2, data_consistency="implicit")


@pytest.mark.parametrize("form", UNROLLED_FORMS)
def test_every_form_of_data_consistency_trains_all_its_weights(form):
    model, m = small(form), measurement()
    estimates = model.train()(m)
    assert len(estimates) == 3
    sum(estimate.abs().mean() for estimate in estimates).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.any(), name
    (answer,) = model.eval()(m)
    assert answer.shape == (1, 17, 22)
    torch.testing.assert_close(answer, estimates[-1])


@pytest.mark.parametrize("form", ["implicit+soft", "explicit"])
def test_other_forms_are_refused_with_the_reason(form):
    with pytest.raises(ValueError, match="not both; choose implicit, soft"):
        small(form)


@pytest.mark.parametrize("form", ["soft", "implicit"])
def test_slices_of_a_batch_do_not_see_each_other(form):
    model, both = small(form).eval(), measurement(batch=2)
    first = Measurement(both.kspace[:1], both.mask[:1], both.sensitivities[:1])
    torch.testing.assert_close(model(both)[0][:1], model(first)[0], rtol=1e-4, atol=1e-5)


def test_it_starts_from_the_initial_image_if_there_is_one():
    model, m = small("none").eval(), measurement()
    for network in model.networks:
        torch.nn.init.zeros_(network[-1].weight)
    start = torch.randn_like(m.kspace[:, 0])
    torch.testing.assert_close(model(replace(m, initial_image=start))[0], start)


@pytest.mark.parametrize("form", UNROLLED_FORMS)
def test_an_empty_slice_and_a_dead_coil_stay_finite(form):
    m = measurement(batch=2)
    m.kspace[0], m.sensitivities[0] = 0, 0
    m.kspace[1, 1], m.sensitivities[1, 1] = 0, 0
    model = small(form)
    estimates = model.train()(m)
    sum(estimate.abs().mean() for estimate in estimates).backward()
    assert all(estimate.isfinite().all() for estimate in estimates)
    assert all(p.grad.isfinite().all() for p in model.parameters())
