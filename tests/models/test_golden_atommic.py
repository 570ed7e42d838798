"""Networks of ATOMMIC and mridc, from their own weights: outputs, all estimates that are known, and gradients."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mrirecon.models.blocks.recurrent import strips_of
from mrirecon.models.importers import translate
from mrirecon.physics.fourier import fftc
from mrirecon.physics.measurement import Measurement
from mrirecon.physics.sense import SenseOperator

CASES = [
    "atommic_rim_gru_8t",
    "atommic_rim_gru_explicit_dc_1c",
    "atommic_cirim_indrnn",
    "atommic_cirim_gru",
    "atommic_cirim_mgu",
    "atommic_cirim_indrnn_k3",
    "atommic_cirim_indrnn_uncentered",
    "atommic_varnet",
    "atommic_varnet_pad",
    "atommic_varnet_nodc",
    "atommic_unet",
    "atommic_unet_pad_4p",
    "atommic_cascadenet",
    "atommic_cascadenet_nodc",
    "atommic_kikinet",
    "atommic_lpdnet",
    "mridc001_cirim_indrnn_implicit",
    "mridc001_cirim_gru_implicit",
    "mridc001_cirim_mgu_implicit",
    "mridc001_cirim_indrnn_explicit",
    "mridc001_cirim_indrnn_reestimate",
    "mridc001_rim_gru_k3_implicit",
]
LARGE = ("atommic_unet_pad_4p",)  # a megabyte: stays beside the project


class Case:
    def __init__(self, path: Path):
        self.data = np.load(path)
        meta = json.loads(str(self.data["meta"]))
        self.peer, self.settings = meta["peer"], meta["hyperparameters"]
        kspace, mask = self.complex("in/y"), torch.from_numpy(self.data["in/mask"])[..., 0] != 0
        if not self.settings.get("fft_centered", True):
            kspace, mask = fftc(torch.fft.ifft2(kspace, norm="backward")), torch.fft.fftshift(mask, dim=(-2, -1))
        initial = self.complex("in/init") if "in/init" in self.data else None
        self.measurement = Measurement(kspace, mask, self.complex("in/sens"), initial_image=initial)
        steps = meta.get("time_steps_used")
        used = self.settings | ({"time_steps_used": steps} if steps else {})
        self.weights = self.tensors("sd/")
        self.translation = translate(self.peer, self.weights, used, meta["model"], meta.get("tag"))
        self.model, _ = self.translation.load(self.weights)

    def complex(self, name):
        return torch.view_as_complex(torch.from_numpy(self.data[name]))

    def tensors(self, prefix):
        return {k.removeprefix(prefix): torch.from_numpy(self.data[k]) for k in self.data.files if k.startswith(prefix)}


@pytest.fixture
def case(request, golden: Path) -> Case:
    name = request.param
    folder = request.getfixturevalue("shared") / "golden" if name in LARGE else golden
    return Case(folder / f"{name}.npz")


@pytest.mark.parametrize("case", CASES, indirect=True)
def test_every_estimate_equals_the_peers(case: Case):
    final = case.complex("out/final")
    steps = case.complex("out/steps").flatten(0, 1) if "out/steps" in case.data else None
    if final.ndim == 4:  # with explicit data consistency ATOMMIC answers with k-space
        operator = SenseOperator(case.measurement)
        final, steps = operator.reduce(final), torch.stack([operator.reduce(k) for k in steps])
    with torch.no_grad():
        (answer,) = case.model(case.measurement)
        estimates = case.model.train()(case.measurement)
    torch.testing.assert_close(answer, final, rtol=0, atol=1e-5)
    torch.testing.assert_close(estimates[-1], final, rtol=0, atol=1e-5)
    if steps is not None:
        torch.testing.assert_close(torch.stack(estimates), steps, rtol=0, atol=1e-5)


@pytest.mark.parametrize("case", CASES, indirect=True)
def test_with_every_fast_path_the_answer_is_the_peers(case: Case):
    """Channels-last weights, and layers in strips of a few rows."""
    final = case.complex("out/final")
    if final.ndim == 4:
        final = SenseOperator(case.measurement).reduce(final)
    model = case.model.eval().to(memory_format=torch.channels_last)
    with torch.inference_mode(), strips_of(2**14):
        (answer,) = model(case.measurement)
    torch.testing.assert_close(answer, final, rtol=0, atol=1e-5)


def atommic_loss(case: Case, estimates):
    """L1 of magnitudes, prediction and target each divided by its own maximum, weighted over steps and cascades."""
    two_parts = "num_primal" in case.settings  # LPDNet's maximum is that over real and imaginary parts

    def error(image):
        peak = torch.view_as_real(image).abs().max() if two_parts else image.abs().max()
        target = case.complex("in/target").abs()
        return (image.abs() / peak - target / target.max()).abs().mean()

    if not case.settings["accumulate_predictions"]:
        return error(estimates[-1])
    steps = case.model.steps_per_cascade
    cascades = len(estimates) // steps
    weights = torch.logspace(-1, 0, cascades)[:, None] * torch.logspace(-1, 0, steps)
    return (weights.flatten() * torch.stack([error(image) for image in estimates])).mean()


def mridc_loss(case: Case, estimates):
    """L1 of complex images; every step's is multiplied by the whole vector of step weights, so all weigh the same."""
    errors = torch.stack([(image - case.complex("in/target")).abs().mean() for image in estimates])
    return errors.mean() * torch.logspace(-1, 0, case.model.steps_per_cascade).sum()


# The gradient of explicit_dc_1c is that of a loss on k-space.
@pytest.mark.parametrize("case", [name for name in CASES if "explicit_dc_1c" not in name], indirect=True)
def test_every_gradient_equals_the_peers(case: Case, golden: Path):
    # In double precision: one pixel on the other side of a kink of |x| moves all gradients by 2e-4.
    given = {name: value for name, value in vars(case.measurement).items() if value is not None}
    precise = {name: value.to(torch.complex128) for name, value in given.items() if value.is_complex()}
    estimates = case.model.train().double()(replace(case.measurement, **precise))
    loss = (atommic_loss if case.peer == "atommic" else mridc_loss)(case, estimates)
    expected = case.data["loss/l1"] if case.peer == "atommic" else case.data["loss/vector"].sum()
    assert loss.item() == pytest.approx(float(expected), rel=1e-5)
    loss.backward()

    gradients = case.tensors("grad/")
    slope = "reconstruction_module.0.model.conv.1.weight"
    if "n_convs" in case.settings and case.settings["no_dc"]:
        # There the one PReLU of all networks had kept the gradient of the run before.
        before = np.load(golden / "atommic_cascadenet.npz")[f"grad/{slope}"]
        gradients[slope] = gradients[slope] - torch.from_numpy(before)
    holder, matching = case.translation.load(gradients, partial=True)
    known = dict(holder.named_parameters())
    assert set(matching.matched.values()) == set(dict(case.model.named_parameters()))
    for name, parameter in case.model.named_parameters():
        assert (parameter.grad - known[name]).norm() <= 1e-4 * known[name].norm(), name
