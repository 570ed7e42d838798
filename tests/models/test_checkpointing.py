"""Training with checkpointing gives the same gradients for less memory, for every network that repeats itself."""

from dataclasses import replace

import pytest
import torch

from mrirecon.memory import peak_bytes
from mrirecon.models.blocks.checkpointing import checkpointing
from mrirecon.models.build import build
from mrirecon.physics.sense import SenseOperator

LEARNED_MAPS = {"class_path": "mrirecon.models.e2evn.E2EVN", "init_args": {"cascades": 2, "channels": 4, "pools": 1}}
RIM = {"channels": 8, "time_steps": 4}
NETWORKS = [
    ("rim.RIM", RIM | {"unit": "gru"}),
    ("rim.RIM", RIM | {"unit": "mgu", "data_consistency": "implicit+soft"}),
    ("rim.IRIM", RIM | {"data_consistency": "proximal"}),
    ("cirim.CIRIM", RIM | {"cascades": 2}),
    ("e2evn.E2EVN", {"cascades": 4, "channels": 4, "pools": 1}),
    ("e2evn.E2EVN", {"cascades": 4, "channels": 4, "pools": 1, "data_consistency": "implicit"}),
    ("e2evn.E2EVN", {"cascades": 4, "channels": 4, "pools": 1, "data_consistency": "calibrated_proximal"}),
    ("cascadenet.CascadeNet", {"cascades": 4, "channels": 8, "layers": 3, "data_consistency": "implicit"}),
    ("cascadenet.CascadeNet", {"cascades": 4, "channels": 8, "layers": 3}),
    ("kikinet.KIKINet", {"iterations": 3, "channels": 4, "pools": 1}),
    ("kikinet.KIKINet", {"iterations": 3, "channels": 4, "pools": 1, "tied": True, "data_consistency": "implicit"}),
    ("lpdnet.LPDNet", {"iterations": 4, "primal": 2, "dual": 2, "channels": 8}),
    ("sensitivity.LearnedSensitivities", {"reconstructor": LEARNED_MAPS, "channels": 4, "pools": 1}),
    ("invertible_rim.InvertibleRIM", {"time_steps": 2, "channels": 10, "hidden": [8], "strides": [1]}),
    ("unet.UNet", {"channels": 4, "pools": 2}),
]
#: What has nothing that repeats, or keeps no activations anyway.
UNCHANGED = ("invertible_rim.InvertibleRIM", "unet.UNet")


def network(class_path, arguments):
    model = build({"class_path": f"mrirecon.models.{class_path}", "init_args": arguments}).train()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    return model


def gradients(model, measurement, active, dtype=torch.float32):
    model.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16), checkpointing(active):
        estimates = model(measurement)
    sum(estimate.abs().mean() for estimate in estimates).backward()
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


@pytest.mark.parametrize(("start", "dtype"), [("zero-filled", torch.bfloat16), ("initial image", torch.float32)])
@pytest.mark.parametrize(("class_path", "arguments"), NETWORKS)
def test_gradients_are_the_same(class_path, arguments, start, dtype, measurement):
    model, m = network(class_path, arguments), measurement(2)
    if start == "initial image":
        m = replace(m, initial_image=SenseOperator(m).adjoint_data)
    expected = gradients(model, m, False, dtype)
    for name, gradient in gradients(model, m, True, dtype).items():
        assert torch.equal(gradient, expected[name]), name


@pytest.mark.parametrize(("class_path", "arguments"), NETWORKS)
def test_activations_of_repeated_parts_are_not_kept(class_path, arguments, measurement):
    model, m = network(class_path, arguments), measurement(1, 2, 64, 64)
    gradients(model, m, False)
    plain, saving = (peak_bytes(lambda active=active: gradients(model, m, active)) for active in (False, True))
    assert (saving == plain) if class_path in UNCHANGED else (saving < 0.7 * plain), (saving, plain)


def test_nothing_is_recomputed_without_gradients(measurement):
    model, m = network(*NETWORKS[0]), measurement()
    with torch.no_grad(), checkpointing(True):
        assert not model(m)[-1].requires_grad
