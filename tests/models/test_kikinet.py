from dataclasses import replace

import pytest
import torch

from mrirecon.models.blocks.data_consistency import UNROLLED_FORMS
from mrirecon.models.kikinet import KIKINet
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


def small(network="unet", form="soft", **more):
    return KIKINet(2, network, network, channels=4, pools=1, layers=3, data_consistency=form, **more)


def parameters(model):
    return sum(p.numel() for p in model.parameters())


def test_parameter_counts_are_those_of_the_papers_comparison():
    """Its iterations were tied: one U-Net of 116,546 in k-space, one in the image, one step length."""
    assert parameters(KIKINet(tied=True)) == 2 * 116_546 + 1 == 233_093
    assert parameters(KIKINet()) == 2 * 233_093


def test_with_networks_that_do_nothing_it_is_gradient_descent():
    model, m = small("cnn"), measurement()
    for iteration in model.iterations:
        torch.nn.init.zeros_(iteration.kspace_network[-1].weight)
        torch.nn.init.zeros_(iteration.image_network[-1].weight)
    operator = SenseOperator(m)
    image = operator.adjoint_data
    for estimate in model.train()(m):
        image = image - operator.gradient(image)
        torch.testing.assert_close(estimate, image)


def test_untrained_convolutions_that_are_given_the_gradient_descend():
    model, m = small("cnn", "implicit"), measurement()
    for iteration in model.iterations:
        torch.nn.init.zeros_(iteration.kspace_network[-1].weight)
        torch.nn.init.zeros_(iteration.image_network[-1].weight[:, 4:])
    operator = SenseOperator(m)
    image = operator.adjoint_data
    for estimate in model.train()(m):
        image = image - operator.gradient(image)
        torch.testing.assert_close(estimate, image, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("network", ["cnn", "unet"])
def test_untrained_it_hardly_changes_the_image(network):
    m = measurement()
    start = SenseOperator(m).adjoint_data + 1
    (answer,) = small(network, "none").eval()(replace(m, initial_image=start))
    assert (answer - start).norm() < 0.05 * start.norm()


@pytest.mark.parametrize("network", ["cnn", "unet"])
@pytest.mark.parametrize("form", UNROLLED_FORMS)
def test_every_form_of_data_consistency_trains_all_its_weights(network, form):
    model, m = small(network, form), measurement()
    estimates = model.train()(m)
    assert len(estimates) == 2
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
        small(form=form)


@pytest.mark.parametrize("form", ["soft", "implicit"])
def test_slices_of_a_batch_do_not_see_each_other(form):
    model, both = small(form=form).eval(), measurement(batch=2)
    first = Measurement(both.kspace[:1], both.mask[:1], both.sensitivities[:1])
    torch.testing.assert_close(model(both)[0][:1], model(first)[0], rtol=1e-4, atol=1e-5)


def test_the_kspace_network_sees_every_coil_by_itself():
    m = measurement()
    order = [2, 0, 1]
    turned = replace(m, kspace=m.kspace[:, order], sensitivities=m.sensitivities[:, order])
    model = small().eval()
    torch.testing.assert_close(model(turned)[0], model(m)[0], rtol=1e-4, atol=1e-5)


def test_tied_iterations_are_one_and_the_same():
    tied, free = small("cnn", tied=True), small("cnn")
    for iteration in free.iterations:
        iteration.load_state_dict(tied.iterations[0].state_dict())
    torch.testing.assert_close(tied.eval()(measurement()), free.eval()(measurement()))
    assert 2 * parameters(tied) == parameters(free)


def test_it_starts_from_the_initial_image_if_there_is_one():
    model, m = small("cnn", "none").eval(), measurement()
    for iteration in model.iterations:
        torch.nn.init.zeros_(iteration.kspace_network[-1].weight)
        torch.nn.init.zeros_(iteration.image_network[-1].weight)
    start = torch.randn_like(m.kspace[:, 0])
    torch.testing.assert_close(model(replace(m, initial_image=start))[0], start)


@pytest.mark.parametrize("network", ["cnn", "unet"])
@pytest.mark.parametrize("form", ["soft", "proximal", "implicit"])
def test_an_empty_slice_and_a_dead_coil_stay_finite(network, form):
    m = measurement(batch=2)
    m.kspace[0], m.sensitivities[0] = 0, 0
    m.kspace[1, 1], m.sensitivities[1, 1] = 0, 0
    model = small(network, form)
    estimates = model.train()(m)
    sum(estimate.abs().mean() for estimate in estimates).backward()
    assert all(estimate.isfinite().all() for estimate in estimates)
    assert all(p.grad.isfinite().all() for p in model.parameters())
