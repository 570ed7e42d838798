"""What holds for every network, in every form of data consistency that it admits."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import pytest
import torch

from mrirecon.models.blocks.data_consistency import OUTPUT_FORMS, RECURRENT_FORMS, UNROLLED_FORMS, DataConsistency
from mrirecon.models.build import build
from mrirecon.physics.measurement import Measurement
from mrirecon.physics.sense import SenseOperator
from mrirecon.weights.checkpoint import load_checkpoint, save_checkpoint


@dataclass(frozen=True)
class Network:
    """A small one of its kind. estimates: how many it makes. forms: admitted; reason: why there are no others."""

    class_path: str
    arguments: dict[str, Any]
    estimates: int
    forms: Sequence[str]
    reason: str

    def config(self, form: str) -> dict[str, Any]:
        arguments = {**self.arguments, "data_consistency": form}
        return {"class_path": f"mrirecon.models.{self.class_path}", "init_args": arguments}


class WithLearnedMaps(Network):
    def config(self, form: str) -> dict[str, Any]:
        arguments = {"reconstructor": super().config(form), "channels": 4, "pools": 1}
        return {"class_path": "mrirecon.models.sensitivity.LearnedSensitivities", "init_args": arguments}


RECURRENT = RECURRENT_FORMS, "a RIM has no such form"
CASCADE = UNROLLED_FORMS, "a cascade is given the gradient or takes an explicit step, not both"
ITERATION = UNROLLED_FORMS, "an iteration is given the gradient or takes an explicit step, not both"
PRIMAL_DUAL = ("implicit",), "the operators of an LPD-net are part of the network"
INVERTIBLE = (
    ("implicit",),
    "the gradient step is a layer of the invertible network, and a step after it could not be inverted",
)

RIM = {"channels": 8, "time_steps": 2}
E2EVN = {"cascades": 2, "channels": 4, "pools": 1}
KIKI = {"iterations": 2, "channels": 4, "pools": 1, "layers": 3}
LPD = {"iterations": 2, "primal": 2, "dual": 2, "channels": 14, "pools": 1}
NETWORKS = {
    "RIM-GRU": Network("rim.RIM", RIM | {"unit": "gru"}, 2, *RECURRENT),
    "RIM-MGU": Network("rim.RIM", RIM | {"unit": "mgu"}, 2, *RECURRENT),
    "IRIM": Network("rim.IRIM", RIM, 2, *RECURRENT),
    "CIRIM": Network("cirim.CIRIM", RIM | {"cascades": 2}, 4, *RECURRENT),
    "E2EVN": Network("e2evn.E2EVN", E2EVN, 2, *CASCADE),
    "E2EVN-learned-maps": WithLearnedMaps("e2evn.E2EVN", E2EVN, 2, *CASCADE),
    "CascadeNet": Network("cascadenet.CascadeNet", {"cascades": 2, "channels": 8, "layers": 3}, 2, *CASCADE),
    **{
        f"KIKINet-{kind}": Network(
            "kikinet.KIKINet", KIKI | {"kspace_network": kind, "image_network": kind}, 2, *ITERATION
        )
        for kind in ("cnn", "unet")
    },
    **{
        f"LPDNet-{kind}{'' if residual else '-plain'}": Network(
            "lpdnet.LPDNet", LPD | {"network": kind, "residual": residual}, 2, *PRIMAL_DUAL
        )
        for kind in ("cnn", "unet")
        for residual in (True, False)
    },
    "UNet": Network("unet.UNet", {"channels": 4, "pools": 2}, 1, OUTPUT_FORMS, "a U-Net sees no gradient"),
    "InvertibleRIM": Network(
        "invertible_rim.InvertibleRIM",
        {"time_steps": 2, "channels": 10, "hidden": [8, 8], "strides": [1, 2]},
        2,
        *INVERTIBLE,
    ),
}
PAIRS = [(name, form) for name in NETWORKS for form in (*DataConsistency.__args__, "explicit")]
ADMITTED = [(name, form) for name, form in PAIRS if form in NETWORKS[name].forms]
every_form = pytest.mark.parametrize(("name", "form"), ADMITTED)
every_other_form = pytest.mark.parametrize(("name", "form"), [pair for pair in PAIRS if pair not in ADMITTED])
#: For claims that have little to do with the form.
every_network = pytest.mark.parametrize(
    ("name", "form"), [pair for pair in ADMITTED if pair[1] in ("implicit", "soft")]
)


def network(name, form):
    """With weights away from where they start, so that none is idle because another is zero."""
    model = build(NETWORKS[name].config(form))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return model


def answer(model, m):
    with torch.inference_mode():
        (image,) = model.eval()(m)
    return image


def loss(estimates):
    return sum(estimate.abs().mean() for estimate in estimates)


def slice_of(m, i):
    return Measurement(**{f.name: t[i : i + 1] for f in fields(m) if (t := getattr(m, f.name)) is not None})


def assert_same(actual, expected):
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)


@every_form
def test_it_trains_all_its_weights(name, form, measurement):
    model = network(name, form)
    loss(model.train()(measurement())).backward()
    # At the measured k-space, where this network begins, the first data term is zero, and so is the gradient of λ_0.
    idle = {"cascades.0.consistency.step", "cascades.0.consistency.log_a"} if "E2EVN" in name else set()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key
        assert parameter.grad.any() or key.removeprefix("reconstructor.") in idle, key


@every_other_form
def test_other_forms_are_refused_with_the_reason_and_the_choices(name, form):
    kind = NETWORKS[name]
    message = f"'{form}' is not possible here: {kind.reason}; choose {', '.join(kind.forms)}"
    with pytest.raises(ValueError, match=f"{re.escape(message)}$"):
        build(kind.config(form))


@every_form
def test_training_keeps_all_estimates_and_evaluation_only_the_last(name, form, measurement):
    model, m = network(name, form), measurement(batch=2)
    estimates = model.train()(m)
    assert len(estimates) == NETWORKS[name].estimates
    assert len(estimates) % model.steps_per_cascade == 0
    assert all(e.shape == (2, 15, 12) and e.dtype == torch.complex64 for e in estimates)
    torch.testing.assert_close(answer(model, m), estimates[-1])


@every_form
def test_slices_of_a_batch_do_not_see_each_other(name, form, measurement):
    model, m = network(name, form), measurement(batch=2)
    alone = [answer(model, slice_of(m, i)) for i in range(2)]
    assert_same(answer(model, m), torch.cat(alone))


@every_form
def test_dead_coils_and_empty_slices_change_nothing_else_and_stay_finite(name, form, measurement):
    model, m = network(name, form), replace(measurement(batch=2), noise_std=None)

    def faulty(tensor):
        tensor = torch.cat([tensor, torch.zeros_like(tensor[:, :1])], dim=1)
        tensor[1] = 0
        return tensor

    estimates = model.train()(replace(m, kspace=faulty(m.kspace), sensitivities=faulty(m.sensitivities)))
    assert_same(estimates[-1][0], answer(model, m)[0])
    assert all(estimate.isfinite().all() for estimate in estimates)
    loss(estimates).backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())


@every_form
def test_half_precision_stays_close_and_trains(name, form, measurement):
    model, m = network(name, form), measurement()
    exact = answer(model, m)
    with torch.autocast("cpu", torch.bfloat16):
        half, estimates = answer(model, m), model.train()(m)
    for image in (half, estimates[-1]):
        assert image.dtype == torch.complex64
        assert 0 < (image - exact).norm() < 0.03 * exact.norm()
    loss(estimates).backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())


@every_form
def test_a_saved_network_comes_back_the_same(name, form, measurement, tmp_path):
    model, config, path = network(name, form), NETWORKS[name].config(form), tmp_path / "model.safetensors"
    save_checkpoint(path, model, config, "")
    assert torch.equal(answer(load_checkpoint(path).model, measurement()), answer(model, measurement()))


@every_network
def test_odd_sizes_are_kept(name, form, measurement):
    model = network(name, form)
    for size in [(17, 13), (9, 16), (16, 11)]:
        assert answer(model, measurement(1, 2, *size)).shape == (1, *size)


@every_network
def test_masks_broadcast(name, form, measurement):
    model, m = network(name, form), measurement(batch=2)
    lines = m.mask[:, :, 7:8]
    m = replace(m, kspace=m.kspace * lines)
    assert_same(answer(model, replace(m, mask=lines)), answer(model, replace(m, mask=lines.expand(2, 1, 15, 12))))


@every_network
def test_the_order_of_the_coils_does_not_matter(name, form, measurement):
    model, m = network(name, form), measurement()
    turned = replace(m, kspace=m.kspace.roll(1, 1), sensitivities=m.sensitivities.roll(1, 1))
    assert_same(answer(model, turned), answer(model, m))


@every_network
def test_it_starts_from_the_initial_image_if_there_is_one(name, form, measurement):
    """Only the variational network does not: it starts from the measured k-space."""
    model, m = network(name, form), measurement()
    image = SenseOperator(m).adjoint_data
    change = answer(model, replace(m, initial_image=image + 1)) - answer(model, m)
    assert (change.norm() > 0.1 * image.norm()) == ("E2EVN" not in name)
