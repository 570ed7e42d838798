"""fastMRI's weights compute here what they compute there."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mrirecon.errors import CheckpointError
from mrirecon.models.build import build
from mrirecon.models.importers import load_foreign, translate
from mrirecon.models.importers.fastmri_networks import FastMRIUnet, FastMRIVarNet, central_lines
from mrirecon.models.importers.unet_names import unet_names
from mrirecon.physics.fourier import fftc
from mrirecon.physics.measurement import Measurement
from mrirecon.physics.sense import SenseOperator
from mrirecon.training.losses import ssim_loss


def close(actual, expected):
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-5)


class Golden:
    """One golden file: settings, weights, gradients, and the measurement with and without known calibration lines."""

    def __init__(self, path: Path):
        self.data = np.load(path)
        self.settings = json.loads(str(self.data["meta"]))
        mask = torch.from_numpy(self.data["in/mask"])[..., 0]
        self.automatic = Measurement(self["in/masked_kspace"], mask)
        lines, width = self.settings.get("num_low_frequencies"), mask.shape[-1]
        known = torch.zeros_like(mask)
        if lines:
            known[..., (width - lines + 1) // 2 :][..., :lines] = True
        self.measurement = replace(self.automatic, calibration=known) if lines else self.automatic

    def __getitem__(self, name):
        array = torch.from_numpy(self.data[name])
        return torch.view_as_complex(array) if array.shape[-1:] == (2,) else array

    def group(self, prefix):
        return {k.removeprefix(prefix): torch.from_numpy(self.data[k]) for k in self.data.files if k.startswith(prefix)}


@pytest.mark.parametrize("case", ["even", "odd"])
def test_maps_kspace_of_every_cascade_and_image_are_fastmris(case, golden):
    file = Golden(golden / f"fastmri_varnet_{case}.npz")
    network = load_foreign("fastmri", file.group("w/"), file.settings)
    with torch.no_grad():
        maps = network.sensitivities(file.measurement)
        close(maps, file["out/sens_maps"])
        operator = SenseOperator(file.measurement.with_sensitivities(maps))
        for i, kspace in enumerate(network.kspaces(file.measurement, operator)):
            close(kspace, file[f"out/kspace_{i}"])
        close(network(file.measurement)[0], file["out/image"] + 0j)
        close(network(file.automatic)[0], file["out/image_auto"] + 0j)
        assert len(network.train()(file.measurement)) == 3


def test_gradients_are_fastmris(golden):
    """In double precision, because one feature of this file lies at the kink of a LeakyReLU.

    It is −1.2e-6, and fastMRI's single precision made it positive. On which side it lies moves the gradients of all
    layers before it by up to 3e-3 of their norm; it is put on fastMRI's side.
    """
    file = Golden(golden / "fastmri_varnet_grad.npz")
    network = load_foreign("fastmri", file.group("w/"), file.settings).train().double()
    kink = torch.zeros(1, 4, 48, 48, dtype=torch.float64)
    kink[0, 1, 16, 34] = 1e-5

    def nudge(_, inputs, feature):
        return feature + kink * feature.std(dim=(-2, -1), keepdim=True)  # the norm divides by it

    network.cascades[0].network.unet.merge[1][2].register_forward_hook(nudge)
    m = replace(file.measurement, kspace=file.measurement.kspace.to(torch.complex128))
    loss = ssim_loss(network(m)[-1].abs(), file["in/target"].double(), file["in/data_range"].double())
    close(loss.float(), file["out/loss"])
    loss.backward()
    # Renaming is linear: gradients are carried over as weights are.
    expected = load_foreign("fastmri", file.group("grad/"), file.settings).state_dict()
    for name, parameter in network.named_parameters():
        scale = expected[name].abs().max()
        assert (parameter.grad - expected[name]).abs().max() <= 1e-4 * scale, name


@pytest.mark.parametrize("case", ["auto", "numlow", "nomaskcenter"])
def test_the_map_network_is_fastmris(case, golden):
    file = Golden(golden / f"fastmri_sens_{case}.npz")
    network = FastMRIVarNet(
        cascades=1,
        channels=2,
        pools=1,
        sensitivity_channels=4,
        sensitivity_pools=2,
        mask_center=file.settings.get("mask_center", True),
    )
    names = unet_names(file.group("w/"), "norm_unet.unet.", "")
    weights = file.group("w/")
    network.sensitivity.network.unet.load_state_dict({name: weights[key] for key, name in names.items()})
    with torch.no_grad():
        close(network.sensitivities(file.measurement), file["out/out"])


def line(*sampled, width):
    mask = torch.zeros(1, 1, 1, width, dtype=torch.bool)
    mask[..., list(sampled)] = True
    return mask


@pytest.mark.parametrize(
    ("sampled", "width", "central"),
    [
        ((0, 3, 4, 5, 6, 9), 10, (3, 4, 5, 6)),  # as many on either side
        ((0, 3, 4, 5, 6, 7, 9), 10, (3, 4, 5, 6)),  # the shorter side counts
        ((2, 3, 4, 5, 8), 9, (3, 4, 5, 6)),  # odd: n lines from (9 − 4 + 1) // 2
        ((0, 5, 8), 10, (5,)),  # at least one
        ((0, 1, 2, 3, 4, 5, 6), 10, (3, 4, 5, 6)),  # a side without a gap; there, one line
        (range(10), 10, range(10)),  # all; there, one line
        (range(9), 9, range(9)),
    ],
)
def test_calibration_lines_are_found_as_there(sampled, width, central):
    assert torch.equal(central_lines(line(*sampled, width=width)), line(*central, width=width))


def unet_layout(channels, pools, images, prefix=""):
    """Keys and shapes of fastMRI's `Unet`."""
    shapes = {}

    def block(name, inputs, outputs):
        shapes[f"{prefix}{name}.layers.0.weight"] = (outputs, inputs, 3, 3)
        shapes[f"{prefix}{name}.layers.4.weight"] = (outputs, outputs, 3, 3)

    for level in range(pools):
        block(f"down_sample_layers.{level}", images if level == 0 else channels * 2 ** (level - 1), channels * 2**level)
        width = channels * 2 ** (pools - level - 1)
        shapes[f"{prefix}up_transpose_conv.{level}.layers.0.weight"] = (2 * width, width, 2, 2)
        block(f"up_conv.{level}" + (".0" if level == pools - 1 else ""), 2 * width, width)
    block("conv", channels * 2 ** (pools - 1), channels * 2**pools)
    shapes[f"{prefix}up_conv.{pools - 1}.1.weight"] = (images, channels, 1, 1)
    shapes[f"{prefix}up_conv.{pools - 1}.1.bias"] = (images,)
    return shapes


def varnet_layout(cascades, channels, pools, sensitivity_channels, sensitivity_pools):
    """Keys and shapes of fastMRI's `VarNet`."""
    shapes = unet_layout(sensitivity_channels, sensitivity_pools, 2, "sens_net.norm_unet.unet.")
    for i in range(cascades):
        shapes[f"cascades.{i}.dc_weight"] = (1,)
        shapes |= unet_layout(channels, pools, 2, f"cascades.{i}.model.unet.")
    return shapes


def weights_of(layout, device=None):
    torch.manual_seed(0)
    return {key: 0.3 * torch.randn(shape, device=device) for key, shape in layout.items()}


@pytest.mark.parametrize(
    ("layout", "keys", "parameters"),
    [(varnet_layout(12, 18, 4, 8, 4), 324, 29_936_966), (unet_layout(256, 4, 1), 24, 496_372_225)],
)
def test_the_published_networks_fit_at_full_size(layout, keys, parameters):
    assert len(layout) == keys
    with torch.device("meta"):
        translation = translate("fastmri", weights_of(layout, "meta"))
        own = build(translation.config).state_dict()
    assert sum(tensor.numel() for tensor in own.values()) == parameters
    assert sorted(translation.names.values()) == sorted(own)
    for foreign, name in translation.names.items():
        assert own[name].squeeze().shape == torch.empty(layout[foreign], device="meta").squeeze().shape, foreign


def measurement(batch=2, coils=5, height=23, width=17):
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(batch, coils, height, width, dtype=torch.complex64, generator=generator)
    masks = torch.rand(batch, 1, 1, width, generator=generator) < 0.4
    masks[0, ..., 6:11] = masks[1, ..., 7:10] = True
    return Measurement(fftc(images) * masks, masks)


def test_other_sizes_are_told_by_the_shapes():
    weights = weights_of(varnet_layout(2, 3, 1, 2, 3))
    network = load_foreign("fastmri", weights)
    m = measurement()
    with torch.no_grad():
        (image,) = network(m)
        alone = [network(Measurement(m.kspace[i : i + 1], m.mask[i : i + 1]))[0] for i in range(2)]
        calibrated = network(replace(m, calibration=m.mask))[0]
        whole = load_foreign("fastmri", weights, {"mask_center": False})(m)[0]
    assert image.shape == (2, 23, 17)
    assert image.imag.abs().max() == 0
    assert image.real.min() >= 0
    close(image, torch.cat(alone))
    torch.testing.assert_close(calibrated, whole)
    assert (whole - image).abs().max() > 0.01


def test_dead_coils_and_empty_slices_change_nothing_else():
    """There, one of them makes the whole batch NaN."""
    network = load_foreign("fastmri", weights_of(varnet_layout(2, 3, 1, 2, 2))).train()
    m = measurement()
    faulty = torch.cat([m.kspace, torch.zeros_like(m.kspace[:, :1])], dim=1)
    faulty[1] = 0
    estimates = network(replace(m, kspace=faulty))
    close(estimates[-1][0], network(m)[-1][0])
    assert estimates[-1][1].abs().max() == 0
    sum(estimate.real.sum() for estimate in estimates).backward()
    assert all(torch.isfinite(p.grad).all() for p in network.parameters())


def test_masks_of_points_have_a_block_for_a_centre():
    network = load_foreign("fastmri", weights_of(varnet_layout(1, 2, 1, 2, 1)))
    mask = torch.zeros(1, 1, 23, 17, dtype=torch.bool)
    mask[..., 9:14, 6:11] = mask[..., ::4, ::4] = True
    block = torch.zeros_like(mask)
    block[..., 9:14, 6:11] = True
    m = Measurement(measurement().kspace * mask, mask)
    close(network.sensitivities(m), network.sensitivities(replace(m, calibration=block)))


@pytest.mark.parametrize(
    ("prefix", "layout"),
    [
        ("varnet.", varnet_layout(2, 2, 1, 2, 1)),
        ("module.", varnet_layout(1, 2, 1, 2, 1)),
        ("unet.", unet_layout(2, 2, 1)),
        ("model.module.", unet_layout(2, 2, 1)),
    ],
)
def test_lightning_checkpoints_are_the_same_networks(prefix, layout):
    plain = weights_of(layout)
    wrapped = {prefix + key: value for key, value in plain.items()}
    beside = {"loss.w": torch.ones(1, 1, 7, 7), "NMSE.quantity": torch.zeros(()), "ValLoss.quantity": torch.zeros(())}
    expected, found = load_foreign("fastmri", plain), load_foreign("fastmri", wrapped | beside)
    torch.testing.assert_close(dict(found.state_dict()), dict(expected.state_dict()), rtol=0, atol=0)


def test_the_unet_sees_the_normalised_root_sum_of_squares():
    m = measurement()
    network = load_foreign("fastmri", weights_of(unet_layout(3, 2, 1)))
    whole = np.sqrt((np.abs(centred_ifft(m.kspace.numpy())) ** 2).sum(axis=1))
    with torch.no_grad():
        for crop, image in ((None, whole), ([10, 7], whole[:, 6:16, 5:12]), ([8, 20], whole[:, 3:20])):
            network.crop = crop
            mean = image.mean(axis=(1, 2), keepdims=True)
            std = image.std(axis=(1, 2), ddof=1, keepdims=True)
            inputs = np.clip((image - mean) / std, -6, 6).astype(np.float32)
            expected = network.unet(torch.from_numpy(inputs[:, None]))[:, 0].numpy() * std + mean
            (answer,) = network(m)
            top, left = (23 - image.shape[1]) // 2, (17 - image.shape[2]) // 2
            inside = answer[:, top : top + image.shape[1], left : left + image.shape[2]]
            np.testing.assert_allclose(inside.real, expected, rtol=0, atol=1e-5)
            assert answer.shape == m.kspace[:, 0].shape
            assert answer.abs().sum().item() == pytest.approx(inside.abs().sum().item())
            assert answer.imag.abs().max() == 0


def centred_ifft(kspace):
    shifted = np.fft.ifftn(np.fft.ifftshift(kspace, axes=(-2, -1)), axes=(-2, -1), norm="ortho")
    return np.fft.fftshift(shifted, axes=(-2, -1))


def test_bright_pixels_are_clamped_and_empty_slices_stay_finite():
    network = FastMRIUnet(channels=2, pools=1).eval()
    with torch.no_grad():
        image = 0.01 * torch.rand(1, 1, 16, 16) + 0j
        image[..., 8, 8] = 1
        answers = []
        for peak in (1, 2):
            mask = torch.ones(1, 1, 1, 1, dtype=torch.bool)
            answers.append(network(Measurement(fftc(image * peak), mask))[0])
        torch.testing.assert_close(answers[1], 2 * answers[0])
        seen = []
        network.unet.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].max().item()))
        network(Measurement(fftc(image), mask))
        assert seen == [6.0]
        assert torch.isfinite(network(Measurement(0 * image, mask))[0].real).all()


def test_what_was_assumed_is_said():
    varnet, unet = weights_of(varnet_layout(1, 2, 1, 2, 1)), weights_of(unet_layout(2, 1, 1))
    assert "mask_center" in translate("fastmri", varnet).notes[0]
    assert "reconstruction matrix" in translate("fastmri", unet).notes[0]
    assert translate("fastmri", varnet, {"mask_center": True}).notes == ()
    assert translate("fastmri", unet, {"crop": [320, 320]}).notes == ()
    json.dumps(translate("fastmri", unet, {"crop": [320, 320]}).config)


@pytest.mark.parametrize("model", ["VarNet", "varnet", "fastmri.models.VarNet", "VarNetModule", "E2EVN"])
def test_models_are_known_by_any_of_their_names(model):
    load_foreign("fastmri", weights_of(varnet_layout(1, 2, 1, 2, 1)), model=model)


VARNET, UNET = varnet_layout(1, 2, 1, 2, 1), unet_layout(2, 1, 1)


@pytest.mark.parametrize(
    ("layout", "settings", "model", "reason"),
    [
        (VARNET, {"chans": 18}, None, "chans = 18 and the weights 2"),
        (VARNET, {"num_cascades": 2}, None, "num_cascades"),
        (VARNET, {"sens_pools": 4}, None, "sens_pools"),
        (UNET, {"num_pool_layers": 4}, None, "num_pool_layers"),
        (UNET, {"crop": [0, 5]}, None, "crop"),
        (UNET, {}, "VarNet", "not weights of VarNet"),
        (VARNET, {}, "CIRIM", "not weights of CIRIM"),
        ({"layers.0.weight": (2, 2)}, {}, None, "VarNet has the parts"),
        ({}, {}, None, "here are none"),
        (unet_layout(2, 1, 2), {}, None, "takes 2 and gives 2"),
        ({k: s for k, s in VARNET.items() if not k.startswith("sens_net")}, {}, None, "parts sens_net"),
        ({k: s for k, s in VARNET.items() if "down_sample" not in k}, {}, None, "down_sample_layers"),
        ({k: s for k, s in VARNET.items() if "up_transpose" not in k}, {}, None, "missing"),
        ({k: s for k, s in VARNET.items() if ".conv." not in k}, {}, None, "not a complete U-Net"),
        (VARNET | {"cascades.0.policy.mask": (3,)}, {}, None, r"unexpected cascades\.0\.policy"),
        (VARNET | {"cascades.0.model.unet.attention": (3,)}, {}, None, "no part of fastMRI's U-Net"),
        (UNET | {f"unet.{key}": shape for key, shape in UNET.items()}, {}, None, "several times"),
        (UNET | {"conv.layers.0.weight": (4, 2)}, {}, None, "not a complete U-Net"),
    ],
)
def test_weights_that_are_not_understood_are_refused_with_the_reason(layout, settings, model, reason):
    with pytest.raises(CheckpointError, match=reason):
        load_foreign("fastmri", weights_of(layout), settings, model)
