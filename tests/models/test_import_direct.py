"""Weights of DIRECT compute here what they compute there."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mrirecon.errors import CheckpointError
from mrirecon.models.importers import load_foreign, translate
from mrirecon.models.importers.direct_rim import DirectRIM
from mrirecon.models.importers.direct_sensitivities import RefinedSensitivities
from mrirecon.physics.fourier import fftc, ifftc
from mrirecon.physics.measurement import Measurement

COPIED = [
    "rim_gru",
    "rim_normgru",
    "rim_gru_noshare",
    "lpd_unet_normunet",
    "lpd_normunet_conv",
    "kiki_unet_unet",
    "rvn_multiscale",
]
ELSEWHERE = [
    "rim_gru_dense",
    "rim_gru_depth1",
    "rim_gru_depth3",
    "rim_gru_init",
    "rim_gru_init_ms",
    "rim_gru_instancenorm",
    "rim_gru_noskip",
    "rim_gru_zerofilled",
    "rvn_default",
    "rvn_noinit",
    "rvn_normalized",
    "rvn_shared",
    "varnet",
]


class Golden:
    def __init__(self, folder: Path, name: str):
        self.data = np.load(folder / f"direct_{name}.npz")
        self.settings = json.loads(str(self.data["meta"]))
        self.weights = {k[2:]: torch.from_numpy(self.data[k]) for k in self.data.files if k.startswith("w/")}
        self.measurement = Measurement(
            kspace=self.complex("in/masked_kspace"),
            mask=torch.from_numpy(self.data["in/sampling_mask"])[..., 0],
            sensitivities=self.complex("in/sensitivity_map"),
        )

    def complex(self, name: str) -> torch.Tensor:
        return torch.view_as_complex(torch.from_numpy(self.data[name]).contiguous())

    def network(self):
        return load_foreign("direct", self.weights, self.settings, model=self.settings["model"])


def close(actual, expected):
    # The U-Nets of lpd_unet_normunet amplify rounding: the file's own answer is 1.1e-5 from that in double precision.
    torch.testing.assert_close(actual, expected, rtol=0, atol=2e-5)


def agrees(case: Golden) -> None:
    """Every output that the file holds; states amplify rounding most, so they may differ by twice as much."""
    network = case.network()
    assert sum(p.numel() for p in network.parameters()) == case.settings["params"]
    states = []
    for cell in getattr(network, "cells", []):
        cell.register_forward_hook(lambda cell, inputs, outputs: states.append(outputs[1]))
    with torch.no_grad():
        estimates = network.train()(case.measurement)
        last_states = torch.stack(states[-1], dim=-1) if states else None
        (answer,) = network.eval()(case.measurement)
    assert torch.equal(answer, estimates[-1])
    compared = 0
    for i, estimate in enumerate(estimates):
        if f"out/step_{i}" in case.data:
            step = torch.from_numpy(case.data[f"out/step_{i}"])
            close(torch.view_as_real(estimate).permute(0, 3, 1, 2), step)
            compared += 1
    if "out/state" in case.data:
        assert last_states is not None
        torch.testing.assert_close(last_states, torch.from_numpy(case.data["out/state"]), rtol=0, atol=2e-5)
    if "out/out" in case.data:
        close(answer, case.complex("out/out"))
        compared += 1
    if "out/kspace" in case.data:
        expected = case.complex("out/kspace")
        with torch.no_grad():
            *_, kspace = network.kspaces(case.measurement)
        close(kspace, expected)
        close(answer.real, ifftc(expected).abs().square().sum(dim=1).sqrt())
        compared += 1
    assert compared == (len(estimates) if "out/state" in case.data else 1)


@pytest.mark.parametrize("name", COPIED)
def test_outputs_steps_and_states_equal_directs(name: str, golden: Path):
    agrees(Golden(golden, name))


@pytest.mark.parametrize("name", ELSEWHERE)
def test_outputs_steps_and_states_equal_directs_in_more_cases(name: str, shared: Path):
    agrees(Golden(shared / "golden", name))


def test_what_the_weights_say_needs_no_settings(golden: Path):
    case = Golden(golden, "rim_gru_noshare")
    told = {"image_initialization": "sense", "skip_connections": True}
    (answer,) = load_foreign("direct", case.weights, told)(case.measurement)
    (expected,) = case.network()(case.measurement)
    assert torch.equal(answer, expected)


def test_what_they_do_not_say_is_noted(golden: Path):
    case = Golden(golden, "rim_gru")
    notes = " ".join(translate("direct", case.weights).notes)
    for assumed in ("`length`", "8", "`image_initialization`", "zero_filled", "`skip_connections`"):
        assert assumed in notes
    assert "forward_operator" in " ".join(translate("direct", Golden(golden, "kiki_unet_unet").weights).notes)


def measurement(coils: int, height: int, width: int) -> Measurement:
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(1, coils, height, width, dtype=torch.complex64, generator=generator)
    maps = maps / maps.abs().square().sum(dim=1, keepdim=True).sqrt()
    mask = torch.rand(1, 1, height, width, generator=generator) < 0.4
    mask[..., height // 2 - 2 : height // 2 + 3, width // 2 - 2 : width // 2 + 3] = True
    kspace = torch.randn(1, coils, height, width, dtype=torch.complex64, generator=generator) * mask
    return Measurement(kspace, mask, maps)


def convolution(weights, name, outputs, inputs, kernel):
    generator = torch.Generator().manual_seed(len(weights))
    weights[f"{name}.weight"] = torch.randn(outputs, inputs, kernel, kernel, generator=generator) / kernel / inputs
    weights[f"{name}.bias"] = torch.randn(outputs, generator=generator)


def test_a_rim_of_another_size_is_its_equations():
    weights = {}
    convolution(weights, "cell_list.0.conv_blocks.0.1", 5, 4, 5)
    convolution(weights, "cell_list.0.conv_blocks.1.1", 2, 5, 3)
    for gate in ("reset", "update", "out"):
        convolution(weights, f"cell_list.0.{gate}_gates.0.0", 5, 10, 3)
    seen = measurement(3, 11, 9)
    y, mask, maps = seen.kspace, seen.mask, seen.sensitivities
    image = (maps.conj() * ifftc(y)).sum(dim=1)
    h = torch.zeros(1, 5, 11, 9)

    def gate(name, x):
        prefix = f"cell_list.0.{name}_gates.0.0"
        return F.conv2d(x, weights[f"{prefix}.weight"], weights[f"{prefix}.bias"], padding=1)

    def padded(name, x, padding, dilation):
        prefix = f"cell_list.0.conv_blocks.{name}.1"
        x = F.pad(x, 4 * [padding], mode="replicate")
        return F.conv2d(x, weights[f"{prefix}.weight"], weights[f"{prefix}.bias"], dilation=dilation)

    for _ in range(2):
        g = (maps.conj() * ifftc(mask * fftc(maps * image[:, None]) - y)).sum(dim=1)
        x = padded(0, torch.stack([image.real, image.imag, g.real, g.imag], dim=1), 2, 1).relu()
        update = gate("update", torch.cat([x, h], 1)).sigmoid()
        reset = gate("reset", torch.cat([x, h], 1)).sigmoid()
        h = h * (1 - update) + gate("out", torch.cat([x, h * reset], 1)).tanh() * update
        change = padded(1, h.relu(), 2, 2)
        image = image + torch.complex(change[:, 0], change[:, 1])

    network = load_foreign("direct", weights, {"length": 2, "image_initialization": "sense"}, model="rim")
    with torch.no_grad():
        close(network(seen)[0], image)


def unet_weights(prefix, inputs=2, outputs=2, channels=3):
    """One level of DIRECT's U-Net."""
    shapes = {
        "down_sample_layers.0.layers.0.weight": (channels, inputs, 3, 3),
        "down_sample_layers.0.layers.4.weight": (channels, channels, 3, 3),
        "conv.layers.0.weight": (2 * channels, channels, 3, 3),
        "conv.layers.4.weight": (2 * channels, 2 * channels, 3, 3),
        "up_transpose_conv.0.layers.0.weight": (2 * channels, channels, 2, 2),
        "up_conv.0.0.layers.0.weight": (channels, 2 * channels, 3, 3),
        "up_conv.0.0.layers.4.weight": (channels, channels, 3, 3),
        "up_conv.0.1.weight": (outputs, channels, 1, 1),
        "up_conv.0.1.bias": (outputs,),
    }
    generator = torch.Generator().manual_seed(len(prefix))
    return {prefix + name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def kiki_weights(iterations: int):
    image, kspace = unet_weights(""), unet_weights("model.")
    return {
        f"{part}_model_list.{i}.{key}": value.clone()
        for i in range(iterations)
        for part, network in (("image", image), ("kspace", kspace))
        for key, value in network.items()
    }


@pytest.mark.parametrize("normalized", [True, False])
def test_networks_in_kspace_work_in_the_transform_they_were_trained_in(normalized: bool):
    norm = "ortho" if normalized else "backward"
    operator = f"fft2(centered=False, normalized={normalized})"
    network = load_foreign("direct", kiki_weights(2), {"forward_operator": operator})
    seen = measurement(3, 15, 18)
    maps = seen.sensitivities
    # What DIRECT has on such data: k-space that begins at its zero frequency, an unshifted image.
    kspace = torch.fft.fft2(ifftc(seen.kspace), norm=norm)
    mask = kspace[:, :1].abs() > 1e-4
    assert mask.sum() == seen.mask.sum()

    def complex_network(module, image):
        out = module(torch.stack([image.real, image.imag], dim=1))
        return torch.complex(out[:, 0], out[:, 1])

    with torch.no_grad():
        for _ in range(2):
            refined = complex_network(network.kspace_network.network, kspace[0])[None]
            image = (maps.conj() * torch.fft.ifft2(mask * refined, norm=norm)).sum(dim=1)
            image = complex_network(network.image_network, image)
            kspace = mask * torch.fft.fft2(maps * image[:, None], norm=norm)
        torch.testing.assert_close(network(seen)[0], image, rtol=0, atol=1e-4)
        centred = load_foreign("direct", kiki_weights(2), {"forward_operator": "fft2"})
        assert (centred(seen)[0] - image).abs().max() > 0.1


def test_repeated_weights_are_counted_and_must_be_equal():
    weights = kiki_weights(3)
    assert load_foreign("direct", weights).iterations == 3
    assert load_foreign("direct", kiki_weights(1), {"num_iter": 4}).iterations == 4
    with pytest.raises(CheckpointError, match="num_iter = 2"):
        load_foreign("direct", weights, {"num_iter": 2})
    weights["image_model_list.2.conv.layers.0.weight"] += 1
    with pytest.raises(CheckpointError, match=r"image_model_list\.2\.conv.*differs"):
        load_foreign("direct", weights)


def test_wrappers_are_removed(golden: Path):
    case = Golden(golden, "rim_gru")
    wrapped = {f"model.module.{key}": value for key, value in case.weights.items()}
    (answer,) = load_foreign("direct", wrapped, case.settings)(case.measurement)
    assert torch.equal(answer, case.network()(case.measurement)[0])


def test_maps_come_from_the_checkpoints_own_network(golden: Path):
    case = Golden(golden, "rim_gru")
    refiner = unet_weights("sensitivity_model.")
    found = translate("direct", case.weights | refiner, case.settings)
    network, matching = found.load(case.weights | refiner)
    assert len(matching.matched) == len(case.weights) + len(refiner)
    assert "maps that a measurement brings are not used" in " ".join(found.notes)
    with torch.no_grad():
        maps = network.sensitivities(case.measurement)
        close(maps.abs().square().sum(dim=1), torch.ones(1, *maps.shape[-2:]))
        (answer,) = network(case.measurement)
        assert torch.equal(answer, case.network()(case.measurement.with_sensitivities(maps))[0])


def test_a_network_that_leaves_maps_alone_gives_those_of_direct(shared: Path):
    data = np.load(shared / "golden" / "direct_sens_maps.npz")
    kspace = torch.view_as_complex(torch.from_numpy(data["in/kspace"]))
    acs = torch.from_numpy(data["in/acs_mask"])[..., 0]
    network = RefinedSensitivities(DirectRIM(2, 1, 1), torch.nn.Identity())
    maps = network.sensitivities(Measurement(kspace, torch.ones_like(acs), calibration=acs))
    close(maps, torch.view_as_complex(torch.from_numpy(data["out/rss"])))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"hidden_channels": 9}, "hidden_channels = 9"),
        ({"depth": 3}, "depth = 3"),
        ({"no_parameter_sharing": False}, "no_parameter_sharing"),
        ({"normalized": True}, "normalized"),
        ({"length": 4}, "length = 4"),
        ({"replication_padding": False}, "replication_padding"),
        ({"image_initialization": "input_kspace"}, "input_kspace"),
        ({"skip_connections": "maybe"}, "maybe"),
    ],
)
def test_settings_of_another_network_are_refused(settings: dict, message: str, golden: Path):
    with pytest.raises(CheckpointError, match=message):
        load_foreign("direct", Golden(golden, "rim_gru_noshare").weights, settings)


def test_other_networks_are_refused_by_name(golden: Path):
    weights = Golden(golden, "rim_gru").weights
    with pytest.raises(CheckpointError, match=r"VSharpNet.*RIM, LPDNet, KIKINet"):
        load_foreign("direct", weights, model="direct.nn.vsharp.vsharp.VSharpNet")
    with pytest.raises(CheckpointError, match="of RIM, not of LPDNet"):
        load_foreign("direct", weights, model="LPDNet")
    with pytest.raises(CheckpointError, match=r"no network known here.*RIM, LPDNet"):
        load_foreign("direct", {"rho": torch.ones(3)})
    kspace = {key: value for key, value in kiki_weights(1).items() if key.startswith("kspace")}
    with pytest.raises(CheckpointError, match="MWCNN"):
        load_foreign("direct", kspace | {"image_model_list.0.down.0.convblock0.net.0.weight": torch.ones(2, 2, 3, 3)})


@pytest.mark.parametrize("name", ["rim_cc", "rim_default", "lpd_cc", "kiki_cc", "rvn_cvpr"])
def test_published_layouts_import(name: str, shared: Path):
    layout = json.loads((shared / "golden" / "state_dict_layouts.json").read_text())[f"direct.{name}"]
    weights = {key: torch.rand(shape) for key, shape in layout["shapes"].items()}
    weights |= {key: weights[first].clone() for key, first in dict(layout["tied"]).items()}
    network = load_foreign("direct", weights, layout["config"])
    assert sum(p.numel() for p in network.parameters()) == layout["params"]
