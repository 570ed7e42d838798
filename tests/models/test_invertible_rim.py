from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml

from mrirecon.models.blocks.invertible import MixedCoupling
from mrirecon.models.build import build
from mrirecon.models.invertible_rim import InvertibleRIM
from mrirecon.physics.sense import SenseOperator

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


def network(memory_free=True, time_steps=3, channels=10, blocks=3):
    """A network far from its start, with the same weights for both ways of training."""
    torch.manual_seed(0)
    strides = (1, 2, 4, 1)[:blocks]
    model = InvertibleRIM(time_steps, channels, (8,) * blocks, strides, memory_free=memory_free).train()
    for coupling in model.modules():
        if isinstance(coupling, MixedCoupling):
            torch.nn.init.normal_(coupling.f.up.weight, std=0.3)
    return model


def gradients(model, m, autocast=False):
    """Of a loss on all estimates, by name: all parameters', the maps' and the k-space's."""
    leaves = {"maps": m.sensitivities.clone().requires_grad_(), "kspace": m.kspace.clone().requires_grad_()}
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        estimates = model(replace(m, sensitivities=leaves["maps"], kspace=leaves["kspace"]))
    sum((t + 1) * estimate.abs().square().sum() for t, estimate in enumerate(estimates)).backward()
    return {name: tensor.grad for name, tensor in [*model.named_parameters(), *leaves.items()]}


def saved_bytes(m, memory_free, time_steps, blocks):
    """What autograd keeps for the backward pass, without parameters; each memory once."""
    model = network(memory_free, time_steps, 34, blocks)
    m = replace(m, initial_image=SenseOperator(m).adjoint_data.requires_grad_())
    parameters = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        estimates = model(m)
    assert len(estimates) == time_steps
    return sum(kept.values())


def test_every_layer_is_inverted(measurement):
    model, operator = network(), SenseOperator(measurement(batch=2))
    state = start = torch.randn(2, 15, 12, 10)
    couplings = [coupling for step in model.steps for coupling in step]
    with torch.no_grad():
        for coupling in couplings:
            state = coupling(state, operator)
        assert (state - start).abs().max() > 1
        for coupling in reversed(couplings):
            state = coupling.inverse(state, operator)
    torch.testing.assert_close(state, start, rtol=0, atol=1e-4)


def test_a_mixed_coupling_is_a_rotation_an_additive_coupling_and_the_rotation_back():
    coupling, state = network().steps[0][2], torch.randn(2, 12, 11, 10)
    q = coupling.mixing()
    torch.testing.assert_close(q @ q.T, torch.eye(10), rtol=0, atol=1e-5)
    left, right = (state @ q.T).chunk(2, dim=-1)
    right = right + coupling.f(left.movedim(-1, 1)).movedim(1, -1)
    expected = torch.cat([left, right], dim=-1) @ q
    torch.testing.assert_close(coupling(state, None), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.complex128, 1e-10), (torch.complex64, 1e-4)])
def test_gradients_equal_those_of_ordinary_training(dtype, tolerance, measurement):
    m = measurement(batch=2, dtype=dtype)
    free, ordinary = (gradients(network(way).to(dtype.to_real()), m) for way in (True, False))
    for name, expected in ordinary.items():
        assert expected.norm() > 0, name
        assert (free[name] - expected).norm() <= tolerance * expected.norm(), name


def test_gradients_hold_in_half_precision(measurement):
    m = measurement(batch=2)
    free, ordinary, exact = (
        torch.cat(
            [g.flatten() for name, g in gradients(network(way), m, half).items() if name not in ("maps", "kspace")]
        )
        for way, half in ((True, True), (False, True), (False, False))
    )
    assert (free - ordinary).norm() < 0.3 * (ordinary - exact).norm()


def test_saved_memory_does_not_grow_with_depth(measurement):
    m = measurement(1, 2, 32, 32)
    assert saved_bytes(m, True, 4, 1) == saved_bytes(m, True, 16, 1) == saved_bytes(m, True, 4, 4)
    assert saved_bytes(m, False, 16, 1) > 3 * saved_bytes(m, False, 4, 1)
    assert saved_bytes(m, False, 4, 4) > 2 * saved_bytes(m, False, 4, 1)


def test_weights_that_change_before_the_backward_pass_are_noticed(measurement):
    model = network()
    loss = model(measurement())[-1].abs().sum()
    with torch.no_grad():
        model.steps[0][2].v.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_frozen_weights_stay_without_gradient(measurement):
    model = network()
    model.steps[0].requires_grad_(False)
    model(measurement())[-1].abs().sum().backward()
    assert {p.grad is None for p in model.steps[0].parameters()} == {True}
    assert {p.grad is None for p in model.steps[1].parameters()} == {False}


def test_untrained_it_is_gradient_descent(measurement, gradient_descent):
    m = measurement()
    image = gradient_descent(m, 8)[-1]
    with torch.no_grad():
        (answer,) = InvertibleRIM(8, 18, (16,) * 4, (1, 2, 2, 1)).eval()(m)
    assert (answer - image).norm() < 0.05 * image.norm()


@pytest.mark.parametrize(("name", "parameters"), [("invertible_rim", 275_132_424), ("invertible_rim_small", 724_230)])
def test_parameter_counts_of_the_configs(name, parameters):
    config = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())["model"]["model"]
    with torch.device("meta"):
        model = build(config)
    assert sum(p.numel() for p in model.parameters()) == parameters


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((8, 16, (8,), (1,)), "at least 18"),
        ((2, 9, (8,), (1,)), "even"),
        ((2, 8, (8, 8), (1,)), "one number per block"),
    ],
)
def test_wrong_sizes_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        InvertibleRIM(*arguments)
