from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml

from mrirecon.models.blocks.invertible import MixedCoupling
from mrirecon.models.build import build
from mrirecon.models.invertible_rim import InvertibleRIM
from mrirecon.physics.fourier import fftc
from mrirecon.physics.measurement import Measurement
from mrirecon.physics.sense import SenseOperator

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


def measurement(batch=2, coils=3, height=12, width=11, dtype=torch.complex64):
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(batch, coils, height, width, dtype=dtype, generator=generator)
    maps = maps / maps.norm(dim=1, keepdim=True)
    mask = torch.rand(batch, 1, height, width, generator=generator) < 0.5
    image = 0.3 * torch.randn(batch, height, width, dtype=dtype, generator=generator)
    return Measurement(fftc(maps * image[:, None]) * mask, mask, maps)


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


def saved_bytes(memory_free, time_steps, blocks):
    """What autograd keeps for the backward pass, without parameters; each memory once."""
    model = network(memory_free, time_steps, 34, blocks)
    m = measurement(1, 2, 32, 32)
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


def test_every_layer_is_inverted():
    model, operator = network(), SenseOperator(measurement())
    state = start = torch.randn(2, 12, 11, 10)
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
def test_gradients_equal_those_of_ordinary_training(dtype, tolerance):
    m = measurement(dtype=dtype)
    free, ordinary = (gradients(network(way).to(dtype.to_real()), m) for way in (True, False))
    for name, expected in ordinary.items():
        assert expected.norm() > 0, name
        assert (free[name] - expected).norm() <= tolerance * expected.norm(), name


def test_gradients_hold_in_half_precision():
    m = measurement()
    free, ordinary, exact = (
        torch.cat(
            [g.flatten() for name, g in gradients(network(way), m, half).items() if name not in ("maps", "kspace")]
        )
        for way, half in ((True, True), (False, True), (False, False))
    )
    assert (free - ordinary).norm() < 0.1 * (ordinary - exact).norm()


def test_saved_memory_does_not_grow_with_depth():
    assert saved_bytes(True, 4, 1) == saved_bytes(True, 16, 1) == saved_bytes(True, 4, 4)
    assert saved_bytes(False, 16, 1) > 3 * saved_bytes(False, 4, 1)
    assert saved_bytes(False, 4, 4) > 2 * saved_bytes(False, 4, 1)


def test_weights_that_change_before_the_backward_pass_are_noticed():
    model = network()
    loss = model(measurement())[-1].abs().sum()
    with torch.no_grad():
        model.steps[0][2].v.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_frozen_weights_stay_without_gradient():
    model = network()
    model.steps[0].requires_grad_(False)
    model(measurement())[-1].abs().sum().backward()
    assert {p.grad is None for p in model.steps[0].parameters()} == {True}
    assert {p.grad is None for p in model.steps[1].parameters()} == {False}


def test_untrained_it_is_gradient_descent():
    m = measurement()
    operator = SenseOperator(m)
    image = operator.adjoint_data
    for _ in range(8):
        image = image - operator.gradient(image)
    torch.manual_seed(0)
    with torch.no_grad():
        (answer,) = InvertibleRIM(8, 18, (16,) * 4, (1, 2, 2, 1)).eval()(m)
    assert (answer - image).norm() < 0.05 * image.norm()


def test_training_keeps_all_estimates_and_evaluation_only_the_last():
    model, m = network(), measurement()
    estimates = model(m)
    with torch.inference_mode():
        (answer,) = model.eval()(m)
    assert len(estimates) == model.steps_per_cascade == 3
    torch.testing.assert_close(estimates[-1], answer)


def test_it_starts_from_the_image_that_is_given():
    m = measurement()
    same = replace(m, initial_image=SenseOperator(m).adjoint_data)
    other = replace(m, initial_image=torch.zeros_like(same.initial_image))
    model = network().eval()
    torch.testing.assert_close(model(same)[0], model(m)[0])
    assert not torch.allclose(model(other)[0], model(m)[0], atol=1e-2)


@pytest.mark.parametrize(("name", "parameters"), [("invertible_rim", 275_132_424), ("invertible_rim_small", 724_230)])
def test_parameter_counts_of_the_configs(name, parameters):
    config = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())["model"]["model"]
    with torch.device("meta"):
        model = build(config)
    assert sum(p.numel() for p in model.parameters()) == parameters


def test_other_forms_of_data_consistency_are_refused_with_the_reason():
    with pytest.raises(ValueError, match="could not be inverted; choose implicit"):
        InvertibleRIM(data_consistency="soft")


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
