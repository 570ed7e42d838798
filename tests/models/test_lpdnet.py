from dataclasses import replace

import pytest
import torch

from mrirecon.models.lpdnet import LPDNet
from mrirecon.physics.sense import SenseOperator


def small(network="unet", **more):
    return LPDNet(3, primal=2, dual=2, network=network, channels=14, pools=1, **more)


def parameters(model):
    return sum(p.numel() for p in model.parameters())


def test_parameter_counts_are_those_of_the_papers_comparison():
    """Its U-Nets were tied."""
    assert parameters(LPDNet(network="unet", channels=16, tied=True)) == 236_532
    assert parameters(LPDNet(network="unet", channels=16)) == 5 * 236_532


def linear(outputs, inputs, weights):
    """A 1×1 convolution of complex images that weighs input i by weights[o, i] for output o."""
    convolution = torch.nn.Conv2d(2 * inputs, 2 * outputs, 1, bias=False)
    torch.nn.init.zeros_(convolution.weight)
    with torch.no_grad():
        for (o, i), weight in weights.items():
            for part in (0, 1):
                convolution.weight[2 * o + part, 2 * i + part] = weight
    return convolution


def test_the_buffers_are_connected_as_in_the_paper(measurement):
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


def test_without_residual_the_networks_replace_the_buffers(measurement):
    model, m = small(residual=False), measurement()
    model.dual_networks = torch.nn.ModuleList(linear(2, 4, {(0, 3): 2.0}) for _ in range(3))
    model.primal_networks = torch.nn.ModuleList(linear(2, 3, {(0, 2): 0.5}) for _ in range(3))
    torch.testing.assert_close(model.eval()(m)[0], SenseOperator(m).adjoint_data)


def test_untrained_unets_hardly_change_the_image(measurement):
    m = measurement()
    start = SenseOperator(m).adjoint_data + 1
    (answer,) = small().eval()(replace(m, initial_image=start))
    assert (answer - start).norm() < 0.05 * start.norm()


def test_untrained_convolutions_are_gradient_descent(measurement, gradient_descent):
    model, m = small("cnn"), measurement()
    for networks, carriers in ((model.dual_networks, 12), (model.primal_networks, 4)):
        for network in networks:
            torch.nn.init.zeros_(network[-1].weight[:, carriers:])
    torch.testing.assert_close(model.train()(m), gradient_descent(m, 3), rtol=1e-4, atol=1e-5)


def test_one_primal_buffer_is_too_few():
    with pytest.raises(ValueError, match="at least 2 primal buffers, not 1"):
        LPDNet(primal=1)


def test_tied_iterations_are_one_and_the_same(measurement):
    tied, free = small(tied=True), small()
    for networks, shared in (
        (free.dual_networks, tied.dual_networks[0]),
        (free.primal_networks, tied.primal_networks[0]),
    ):
        for network in networks:
            network.load_state_dict(shared.state_dict())
    torch.testing.assert_close(tied.eval()(measurement()), free.eval()(measurement()))
    assert 3 * parameters(tied) == parameters(free)
