from dataclasses import replace

import pytest
import torch

from mrirecon.models.blocks.data_consistency import DataConsistency
from mrirecon.models.lpdnet import LPDNet
from mrirecon.physics.fourier import fftc
from mrirecon.physics.measurement import Measurement
from mrirecon.physics.sense import SenseOperator


def measurement(batch=1, coils=3, height=17, width=22, seed=0):
    generator = torch.Generator().manual_seed(seed)
    maps = torch.randn(batch, coils, height, width, dtype=torch.complex64, generator=generator)
    maps = maps / maps.norm(dim=1, keepdim=True)
    mask = torch.rand(batch, 1, height, width, generator=generator) < 0.5
    image = 0.3 * torch.randn(batch, height, width, dtype=torch.complex64, generator=generator)
    return Measurement(fftc(maps * image[:, None]) * mask, mask, maps)


def small(network="unet", **more):
    return LPDNet(3, primal=2, dual=2, network=network, channels=14, pools=1, **more)


def parameters(model):
    return sum(p.numel() for p in model.parameters())


def test_parameter_counts_are_those_of_the_papers_comparison():
    """Its iterations were tied."""
    assert parameters(LPDNet(tied=True)) == 236_532
    assert parameters(LPDNet()) == 5 * 236_532


def linear(outputs, inputs, weights):
    """A 1×1 convolution of complex images that weighs input i by weights[o, i] for output o."""
    convolution = torch.nn.Conv2d(2 * inputs, 2 * outputs, 1, bias=False)
    torch.nn.init.zeros_(convolution.weight)
    with torch.no_grad():
        for (o, i), weight in weights.items():
            for part in (0, 1):
                convolution.weight[2 * o + part, 2 * i + part] = weight
    return convolution


def test_the_buffers_are_connected_as_in_the_paper():
    """With linear networks: D_0 ← D_0 + 0.5 A X_1 − 2 y, X_1 ← X_1 + X_0, X_0 ← X_0 + 0.3 A^H D_0."""
    model, m = small(), measurement()
    model.dual_networks = torch.nn.ModuleList(linear(2, 4, {(0, 2): 0.5, (0, 3): -2.0}) for _ in range(3))
    model.primal_networks = torch.nn.ModuleList(linear(2, 3, {(1, 0): 1.0, (0, 2): 0.3}) for _ in range(3))
    operator = SenseOperator(m)
    dual, first, second = m.kspace, operator.adjoint_data, operator.adjoint_data
    for estimate in model.train()(m):
        dual = dual + 0.5 * operator.forward(second) - 2 * m.kspace
        first, second = first + 0.3 * operator.adjoint(dual), second + first
        torch.testing.assert_close(estimate, first)


def test_without_residual_the_networks_replace_the_buffers():
    model, m = small(residual=False), measurement()
    model.dual_networks = torch.nn.ModuleList(linear(2, 4, {(0, 3): 2.0}) for _ in range(3))
    model.primal_networks = torch.nn.ModuleList(linear(2, 3, {(0, 2): 0.5}) for _ in range(3))
    torch.testing.assert_close(model.eval()(m)[0], SenseOperator(m).adjoint_data)


def test_untrained_unets_hardly_change_the_image():
    m = measurement()
    start = SenseOperator(m).adjoint_data + 1
    (answer,) = small().eval()(replace(m, initial_image=start))
    assert (answer - start).norm() < 0.05 * start.norm()


def test_untrained_convolutions_are_gradient_descent():
    model, m = small("cnn"), measurement()
    for networks, carriers in ((model.dual_networks, 12), (model.primal_networks, 4)):
        for network in networks:
            torch.nn.init.zeros_(network[-1].weight[:, carriers:])
    operator = SenseOperator(m)
    image = operator.adjoint_data
    for estimate in model.train()(m):
        image = image - operator.gradient(image)
        torch.testing.assert_close(estimate, image, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("network", ["cnn", "unet"])
@pytest.mark.parametrize("residual", [True, False])
def test_all_weights_train(network, residual):
    model, m = small(network, residual=residual), measurement()
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


@pytest.mark.parametrize("form", [form for form in DataConsistency.__args__ if form != "implicit"])
def test_explicit_forms_are_refused_with_the_reason(form):
    with pytest.raises(ValueError, match="operators of an LPD-net are part of the network; choose implicit"):
        small(data_consistency=form)


def test_one_primal_buffer_is_too_few():
    with pytest.raises(ValueError, match="at least 2 primal buffers, not 1"):
        LPDNet(primal=1)


def test_slices_of_a_batch_do_not_see_each_other():
    model, both = small().eval(), measurement(batch=2)
    first = Measurement(both.kspace[:1], both.mask[:1], both.sensitivities[:1])
    torch.testing.assert_close(model(both)[0][:1], model(first)[0], rtol=1e-4, atol=1e-5)


def test_the_dual_network_sees_every_coil_by_itself():
    m = measurement()
    order = [2, 0, 1]
    turned = replace(m, kspace=m.kspace[:, order], sensitivities=m.sensitivities[:, order])
    model = small().eval()
    torch.testing.assert_close(model(turned)[0], model(m)[0], rtol=1e-4, atol=1e-5)


def test_tied_iterations_are_one_and_the_same():
    tied, free = small(tied=True), small()
    for networks, shared in (
        (free.dual_networks, tied.dual_networks[0]),
        (free.primal_networks, tied.primal_networks[0]),
    ):
        for network in networks:
            network.load_state_dict(shared.state_dict())
    torch.testing.assert_close(tied.eval()(measurement()), free.eval()(measurement()))
    assert 3 * parameters(tied) == parameters(free)


def test_it_starts_from_the_initial_image_if_there_is_one():
    model, m = small("cnn").eval(), measurement()
    for network in (*model.dual_networks, *model.primal_networks):
        torch.nn.init.zeros_(network[-1].weight)
    start = torch.randn_like(m.kspace[:, 0])
    torch.testing.assert_close(model(replace(m, initial_image=start))[0], start)


@pytest.mark.parametrize("network", ["cnn", "unet"])
def test_an_empty_slice_and_a_dead_coil_stay_finite(network):
    m = measurement(batch=2)
    m.kspace[0], m.sensitivities[0] = 0, 0
    m.kspace[1, 1], m.sensitivities[1, 1] = 0, 0
    model = small(network)
    estimates = model.train()(m)
    sum(estimate.abs().mean() for estimate in estimates).backward()
    assert all(estimate.isfinite().all() for estimate in estimates)
    assert all(p.grad.isfinite().all() for p in model.parameters())
