"""Weights of ATOMMIC and mridc of any size: what is inferred, what is refused, and what the networks then compute."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from mrirecon.errors import CheckpointError
from mrirecon.models.blocks.channels import to_channels, to_image
from mrirecon.models.build import build
from mrirecon.models.cirim import CIRIM
from mrirecon.models.importers import load_foreign, translate
from mrirecon.models.importers.atommic_release import configured_time_steps
from mrirecon.models.importers.fourier import PeerFourier
from mrirecon.physics.fourier import fftc, ifftc
from mrirecon.physics.measurement import Measurement

TIGHT = {"rtol": 0, "atol": 1e-5}


def measurement(coils=3, height=21, width=27, seed=0):
    generator = torch.Generator().manual_seed(seed)
    maps = torch.randn(2, coils, height, width, dtype=torch.complex64, generator=generator)
    maps = maps / maps.norm(dim=1, keepdim=True)
    mask = torch.rand(2, 1, height, width, generator=generator) < 0.5
    mask[..., height // 2 - 3 : height // 2 + 4, width // 2 - 3 : width // 2 + 4] = True
    image = torch.randn(2, height, width, dtype=torch.complex64, generator=generator)
    return Measurement(fftc(maps * image[:, None]) * mask, mask, maps)


# The toolbox's layouts with random weights ----------------------------------------------------------------------------


def unet_weights(prefix, channels, pools, inputs=2, outputs=2):
    widths = [channels * 2**p for p in range(pools + 1)]
    shapes = {}
    for p, (i, o) in enumerate(zip([inputs, *widths], widths[:-1], strict=False)):
        shapes |= {f"down_sample_layers.{p}.layers.0": (o, i, 3, 3), f"down_sample_layers.{p}.layers.4": (o, o, 3, 3)}
    shapes |= {"conv.layers.0": (widths[-1], widths[-2], 3, 3), "conv.layers.4": (widths[-1], widths[-1], 3, 3)}
    for p, w in enumerate(reversed(widths[:-1])):
        block = f"up_conv.{p}.0" if p == pools - 1 else f"up_conv.{p}"
        shapes |= {f"up_transpose_conv.{p}.layers.0": (2 * w, w, 2, 2)}
        shapes |= {f"{block}.layers.0": (w, 2 * w, 3, 3), f"{block}.layers.4": (w, w, 3, 3)}
    shapes |= {f"up_conv.{pools - 1}.1": (outputs, channels, 1, 1)}
    weights = {f"{prefix}{name}.weight": 0.3 * torch.randn(shape) for name, shape in shapes.items()}
    return weights | {f"{prefix}up_conv.{pools - 1}.1.bias": 0.1 * torch.randn(outputs)}


def conv_weights(prefix, channels, layers, inputs=2, outputs=2):
    widths = [inputs, *[channels] * (layers - 1), outputs]
    weights = {}
    for layer in range(layers):
        weights[f"{prefix}{2 * layer}.weight"] = 0.2 * torch.randn(widths[layer + 1], widths[layer], 3, 3)
        weights[f"{prefix}{2 * layer}.bias"] = 0.1 * torch.randn(widths[layer + 1])
        if layer < layers - 1:
            weights[f"{prefix}{2 * layer + 1}.weight"] = torch.tensor([0.3])
    return weights


def rim_weights(prefix, channels=6, unit="IndRNN", kernel=1, cascades=2):
    gates = {"IndRNN": 1, "MGU": 2, "GRU": 3}[unit]
    weights = {}
    for i in range(cascades):
        for layer, (inputs, side) in enumerate([(4, 5), (channels, 3)]):
            part = f"{prefix}.{i}.layers.{layer}"
            weights[f"{part}.convs.conv_layer.weight"] = 0.1 * torch.randn(channels, inputs, side, side)
            weights[f"{part}.convs.conv_layer.bias"] = 0.1 * torch.randn(channels)
            weights[f"{part}.rnn.ih.weight"] = 0.2 * torch.randn(gates * channels, channels, kernel, kernel)
            weights[f"{part}.rnn.ih.bias"] = 0.1 * torch.randn(gates * channels)
            if unit == "IndRNN":
                weights[f"{part}.rnn.hh"] = torch.rand(1, channels, 1, 1)
            else:
                weights[f"{part}.rnn.hh.weight"] = 0.2 * torch.randn(gates * channels, channels, kernel, kernel)
        weights[f"{prefix}.{i}.final_layer.0.conv_layer.weight"] = 0.1 * torch.randn(2, channels, 3, 3)
    return weights


def repeated(make, prefix, times):
    """Tied weights: the same tensors under the prefix with every number."""
    first = make(prefix.format(0))
    return {k.replace(prefix.format(0), prefix.format(i)): v for i in range(times) for k, v in first.items()}


# The toolbox's networks, once more, from their formulas ---------------------------------------------------------------


def channels_of(image):
    return torch.stack([image.real, image.imag], dim=1)


def image_of(channels):
    return torch.complex(channels[:, 0], channels[:, 1])


def unet(weights, prefix, x):
    def block(name, x):
        for layer in (0, 4):
            x = F.conv2d(x, weights[f"{prefix}{name}.layers.{layer}.weight"], padding=1)
            x = F.leaky_relu(F.instance_norm(x), 0.2)
        return x

    pools = 1 + max(int(k.split("down_sample_layers.")[1][0]) for k in weights if f"{prefix}down_sample" in k)
    skips = []
    for p in range(pools):
        skips.append(block(f"down_sample_layers.{p}", x))
        x = F.avg_pool2d(skips[-1], 2)
    x = block("conv", x)
    for p in range(pools):
        x = F.conv_transpose2d(x, weights[f"{prefix}up_transpose_conv.{p}.layers.0.weight"], stride=2)
        x = F.leaky_relu(F.instance_norm(x), 0.2)
        skip = skips.pop()
        missing = [skip.shape[axis] - x.shape[axis] for axis in (-1, -2)]
        x = F.pad(x, (0, missing[0], 0, missing[1]), mode="reflect")
        x = block(f"up_conv.{p}.0" if p == pools - 1 else f"up_conv.{p}", torch.cat([x, skip], dim=1))
    last = f"{prefix}up_conv.{pools - 1}.1"
    return F.conv2d(x, weights[f"{last}.weight"], weights[f"{last}.bias"])


def norm_unet(weights, prefix, x, padding=11):
    """Statistics over the first and over the second half of the channels; sizes to ((n − 1) | padding) + 1."""
    halves = x.chunk(2, dim=1)
    means = [half.mean(dim=(1, 2, 3), keepdim=True) for half in halves]
    stds = [half.flatten(1).std(dim=1)[:, None, None, None] for half in halves]
    height, width = x.shape[-2:]
    up, left = ((((n - 1) | padding) + 1 - n) / 2 for n in (height, width))
    pads = (math.floor(left), math.ceil(left), math.floor(up), math.ceil(up))
    x = torch.cat([(half - m) / s for half, m, s in zip(halves, means, stds, strict=True)], dim=1)
    x = unet(weights, prefix, F.pad(x, pads))[..., pads[2] : pads[2] + height, pads[0] : pads[0] + width]
    return torch.cat([half * s + m for half, m, s in zip(x.chunk(2, dim=1), means, stds, strict=True)], dim=1)


def conv_prelu(weights, prefix, x):
    numbers = sorted({int(k.removeprefix(prefix).split(".")[0]) for k in weights if k.startswith(prefix)})
    for n in numbers[::2]:
        x = F.conv2d(x, weights[f"{prefix}{n}.weight"], weights[f"{prefix}{n}.bias"], padding=1)
        x = x if n == numbers[-1] else F.prelu(x, weights[f"{prefix}{n + 1}.weight"])
    return x


def reduce(m, kspace):
    return (m.sensitivities.conj() * ifftc(kspace)).sum(dim=1)


# --------------------------------------------------------------------------------------------------------------------


@torch.no_grad()
@pytest.mark.parametrize("padding", [11, 15])
def test_unet_of_another_size(padding):
    weights = unet_weights("unet.", channels=3, pools=3)
    m = measurement(coils=5)
    (answer,) = load_foreign("mridc", weights, {"padding_size": padding, "normalize": True})(m)
    expected = image_of(norm_unet(weights, "unet.", channels_of(reduce(m, m.kspace)), padding))
    torch.testing.assert_close(answer, expected, **TIGHT)


@torch.no_grad()
def test_unet_without_normalisation_or_with_one_group():
    weights = unet_weights("reconstruction_module.unet.", channels=3, pools=1)
    m = measurement(height=32, width=16)  # sizes that are not padded
    image = channels_of(reduce(m, m.kspace))
    (answer,) = load_foreign("atommic", weights, {"normalize": False})(m)
    torch.testing.assert_close(answer, image_of(unet(weights, "reconstruction_module.unet.", image)), **TIGHT)

    (answer,) = load_foreign("atommic", weights, {"norm_groups": 1})(m)
    mean, std = image.mean(dim=(1, 2, 3), keepdim=True), image.flatten(1).std(dim=1)[:, None, None, None]
    expected = unet(weights, "reconstruction_module.unet.", (image - mean) / std) * std + mean
    torch.testing.assert_close(answer, image_of(expected), **TIGHT)


@torch.no_grad()
@pytest.mark.parametrize("no_dc", [False, True])
@pytest.mark.parametrize("network", ["unet", "conv"])
def test_cascades_in_kspace_of_another_size(network, no_dc):
    weights = {}
    for i in range(3):
        prefix = f"cascades.{i}.model.{network}."
        weights |= unet_weights(prefix, 3, pools=3) if network == "unet" else conv_weights(prefix, 5, layers=4)
        weights[f"cascades.{i}.dc_weight"] = 0.5 + torch.rand(1)
    m = measurement(coils=5)
    model = load_foreign("mridc", weights | {"dc_weight": torch.ones(1)}, {"no_dc": no_dc})
    compute = norm_unet if network == "unet" else conv_prelu
    expected, kspace = [], m.kspace
    for i in range(3):
        image = image_of(compute(weights, f"cascades.{i}.model.{network}.", channels_of(reduce(m, kspace))))
        update = fftc(m.sensitivities * image[:, None])
        misfit = torch.where(m.mask, kspace - m.kspace, 0)
        kspace = update if no_dc else kspace - weights[f"cascades.{i}.dc_weight"] * misfit - update
        expected.append(reduce(m, kspace))
    torch.testing.assert_close(model.train()(m), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(model.eval()(m), expected[-1:], rtol=1e-5, atol=1e-5)


class Uncentred:
    """The peer's own measurement where its transform is torch's plain one."""

    def __init__(self, m: Measurement, norm: str):
        self.norm, self.maps = norm, m.sensitivities
        self.mask = torch.fft.ifftshift(m.mask, dim=(-2, -1))
        full = torch.fft.fft2(ifftc(m.kspace), norm=norm)
        self.y = torch.where(self.mask, full, 0)

    def reduce(self, kspace):
        return (self.maps.conj() * torch.fft.ifft2(kspace, norm=self.norm)).sum(dim=1)

    def expand(self, image):
        return torch.fft.fft2(self.maps * image[:, None], norm=self.norm)


@torch.no_grad()
@pytest.mark.parametrize("no_dc", [False, True])
@pytest.mark.parametrize("kspace_network", ["unet", "conv"])
@pytest.mark.parametrize("norm", ["backward", "forward"])
def test_kikinet_in_the_peers_own_kspace(norm, kspace_network, no_dc):
    prefix = f"kspace_model_list.{{}}.model.{kspace_network}."
    make = (lambda p: unet_weights(p, 3, 2)) if kspace_network == "unet" else (lambda p: conv_weights(p, 4, 3))
    weights = repeated(make, prefix, 3) | repeated(lambda p: unet_weights(p, 2, 3), "image_model_list.{}.unet.", 3)
    weights["dc_weight"] = torch.tensor([0.7])
    m = measurement()
    peer = Uncentred(m, norm)
    settings = {"fft_centered": False, "fft_normalization": norm, "no_dc": no_dc}
    model = load_foreign("atommic", weights, settings, "KIKINet")
    compute = norm_unet if kspace_network == "unet" else conv_prelu
    expected, kspace = [], peer.y
    for _ in range(3):
        misfit = torch.where(peer.mask, kspace - peer.y, 0)
        coils = [image_of(compute(weights, prefix.format(0), channels_of(kspace[:, c]))) for c in range(3)]
        kspace = torch.stack(coils, dim=1)
        image = channels_of(peer.reduce(kspace))
        image = image_of(norm_unet(weights, "image_model_list.0.unet.", image))
        if not no_dc:
            image = peer.reduce(kspace - weights["dc_weight"] * misfit - peer.expand(image))
        kspace = peer.expand(image)
        expected.append(image)
    # Nine networks in a row, each normalising its input: what rounding leaves differs between processors.
    torch.testing.assert_close(model.train()(m), expected, rtol=1e-4, atol=5e-5)
    torch.testing.assert_close(model.eval()(m), expected[-1:], rtol=1e-4, atol=5e-5)


def interleaved(images):
    return torch.cat([channels_of(image) for image in images], dim=1)


@torch.no_grad()
def test_lpdnet_in_the_peers_own_kspace_with_unequal_buffers():
    primal, dual = 4, 2
    weights = repeated(
        lambda p: unet_weights(p, 3, 2, 2 * primal + 2, 2 * primal), "primal_net.{}.primal_block.unet.", 3
    )
    weights |= repeated(lambda p: unet_weights(p, 2, 3, 2 * dual + 4, 2 * dual), "dual_net.{}.dual_block.unet.", 3)
    m = measurement()
    peer = Uncentred(m, "backward")
    model = load_foreign("atommic", weights, {"fft_centered": False, "fft_normalization": "backward"}, "LPDNet")
    x = interleaved(primal * [peer.reduce(peer.y)])
    d = [interleaved(dual * [peer.y[:, c]]) for c in range(3)]
    expected = []
    for _ in range(3):
        forward = torch.where(peer.mask, peer.expand(image_of(x[:, 2:4])), 0)
        inputs = [torch.cat([d[c], channels_of(forward[:, c]), channels_of(peer.y[:, c])], dim=1) for c in range(3)]
        d = [norm_unet(weights, "dual_net.0.dual_block.unet.", i) for i in inputs]
        first = torch.stack([image_of(buffers) for buffers in d], dim=1)
        back = channels_of(peer.reduce(torch.where(peer.mask, first, 0)))
        x = norm_unet(weights, "primal_net.0.primal_block.unet.", torch.cat([x, back], dim=1))
        expected.append(image_of(x))
    torch.testing.assert_close(model.train()(m), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(model.eval()(m), expected[-1:], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("norm", ["ortho", "backward", "forward"])
@pytest.mark.parametrize("centered", [True, False])
@pytest.mark.parametrize("size", [(6, 8), (5, 7)])
def test_the_peers_fourier_transform_inverts_and_keeps_the_image(size, centered, norm):
    image = torch.randn(size, dtype=torch.complex64)
    fourier = PeerFourier(centered, norm)
    torch.testing.assert_close(fourier.inverse(fourier.forward(image)), image)
    torch.testing.assert_close(fourier.inverse(fourier.kspace(fftc(image))), image)
    mask = torch.rand(size) < 0.5
    sampled = fourier.inverse(fourier.forward(image) * fourier.mask(mask))
    torch.testing.assert_close(sampled, ifftc(fftc(image) * mask))


# What is inferred, and from where -------------------------------------------------------------------------------------


def coupling(model: CIRIM):
    return model.detach_between_cascades, model.carry_hidden_state, model.cascade_start


@pytest.mark.parametrize(
    ("source", "prefix", "version", "expected"),
    [
        ("atommic", "reconstruction_module", "1.0.1", (False, True, "previous")),
        ("atommic", "reconstruction_module", None, (False, True, "previous")),
        ("mridc", "cascades", None, (True, False, "previous")),
        ("mridc", "cascades", "v.0.0.1", (True, False, "previous")),
        ("mridc", "cirim", "0.1.0", (True, False, "previous")),
        ("mridc", "cirim", "v0.2.0", (True, False, "previous")),
        ("mridc", "cirim", "0.3", (True, False, "initial")),
        ("mridc", "cirim", "main", (True, False, "initial")),
    ],
)
def test_releases_join_cascades_in_their_own_way(source, prefix, version, expected):
    model = load_foreign(source, rim_weights(prefix), {"time_steps": 8}, "CIRIM", version)
    assert coupling(model) == expected


def test_mridc_needs_a_version_only_where_it_matters():
    with pytest.raises(CheckpointError, match=r"0\.1, 0\.2 or 0\.3"):
        load_foreign("mridc", rim_weights("cirim"))
    load_foreign("mridc", rim_weights("cirim", cascades=1))


@pytest.mark.parametrize(("unit", "kernel", "channels"), [("GRU", 3, 5), ("MGU", 1, 7), ("IndRNN", 3, 9)])
def test_sizes_come_from_shapes(unit, kernel, channels):
    weights = rim_weights("reconstruction_module", channels, unit, kernel, cascades=3)
    translation = translate("atommic", weights, {"time_steps_used": 3})
    arguments = translation.config["init_args"]
    assert arguments["unit"] == unit.lower()
    assert (arguments["recurrent_kernel"], arguments["channels"], arguments["cascades"]) == (kernel, channels, 3)
    model, _ = translation.load(weights)
    assert len(model.train()(measurement())) == 9


def test_explicit_consistency_trains_and_infers_alike():
    weights = rim_weights("reconstruction_module", cascades=3)
    weights |= {f"reconstruction_module.{i}.dc_weight": torch.rand(1) for i in range(3)}
    translation = translate("atommic", weights, {"time_steps_used": 2, "no_dc": False})
    model, _ = translation.load(weights)
    torch.testing.assert_close(model(measurement())[0], model.train()(measurement())[-1])
    assert any("fails" in note for note in translation.notes)


def test_time_steps_are_run_as_given_and_the_toolboxes_rounding_is_told():
    assert [configured_time_steps(n) for n in (1, 8, 9, 16)] == [8, 8, 16, 16]
    weights = rim_weights("reconstruction_module")
    given = translate("atommic", weights, {"time_steps": 5})
    assert given.config["init_args"]["time_steps"] == 5
    assert any("round" in note for note in given.notes)
    absent = translate("atommic", weights)
    assert absent.config["init_args"]["time_steps"] == 8
    assert any("time_steps" in note for note in absent.notes)
    assert not translate("mridc", rim_weights("cascades"), {"time_steps": 5}).notes


def test_what_neither_shapes_nor_settings_say_is_told():
    weights = unet_weights("unet.", 3, 2)
    assert any("padding_size" in note for note in translate("mridc", weights).notes)
    assert not translate("mridc", weights, {"padding_size": 11, "normalize": True}).notes


def test_a_map_network_comes_along():
    weights = unet_weights("reconstruction_module.unet.", 3, 2)
    maps = unet_weights("coil_sensitivity_maps_nn.norm_unet.unet.", 4, 3)
    m = measurement()
    translation = translate("atommic", weights | maps)
    assert any("centre" in note for note in translation.notes)
    model, _ = translation.load(weights | maps)
    alone = load_foreign("atommic", weights)
    with torch.no_grad():
        (answer,) = model(m)
        inner = Measurement(m.kspace, m.mask, model.sensitivity(m))
        torch.testing.assert_close(answer, alone(inner)[0])
        given = load_foreign("atommic", weights | maps, {"estimate_coil_sensitivity_maps_with_nn": False})
        torch.testing.assert_close(given(m)[0], alone(m)[0])


def test_atommic_divides_maps_by_the_root_of_their_summed_magnitudes_and_mridc_by_their_norm():
    weights = unet_weights("reconstruction_module.unet.", 3, 2) | unet_weights("sens_net.norm_unet.unet.", 4, 3)
    m = measurement()
    m = replace(m, calibration=m.mask)
    for source, order in (("atommic", 1), ("mridc", 2)):
        sensitivity = load_foreign(source, weights).sensitivity
        with torch.no_grad():
            u = to_image(sensitivity.network(to_channels(ifftc(m.kspace).flatten(0, 1)))).unflatten(0, (2, 3))
            torch.testing.assert_close(sensitivity(m), u / u.abs().pow(order).sum(dim=1, keepdim=True).sqrt())


def test_the_map_network_that_mridc_001_stored_and_did_not_use_is_ignored():
    weights = rim_weights("cascades")
    unused = unet_weights("sens_net.norm_unet.unet.", 4, 2) | {"dc_weight": torch.ones(1)}
    model = load_foreign("mridc", weights | unused, {"time_steps": 2})
    assert isinstance(model, CIRIM)
    used = load_foreign("mridc", weights | unused, {"time_steps": 2, "use_sens_net": True})
    assert isinstance(used.reconstructor, CIRIM)


@pytest.mark.parametrize("wrapper", ["module.", "model.", "model.module."])
def test_wrappers_and_losses_do_not_matter(wrapper):
    weights = rim_weights("reconstruction_module")
    wrapped = {wrapper + key: value for key, value in weights.items()}
    wrapped[f"{wrapper}train_loss_fn.w"] = torch.ones(1, 1, 7, 7)
    m = measurement()
    with torch.no_grad():
        plain, other = (load_foreign("atommic", w, {"time_steps": 8}) for w in (weights, wrapped))
        torch.testing.assert_close(plain(m)[0], other(m)[0])


# Names by which the papers and the toolboxes call them ----------------------------------------------------------------


@pytest.mark.parametrize("name", ["CIRIM", "irim", "RIM", "atommic.collections.reconstruction.nn.cirim.CIRIM"])
def test_models_have_many_names(name):
    load_foreign("atommic", rim_weights("reconstruction_module"), {"time_steps": 8}, name)


# What is refused ------------------------------------------------------------------------------------------------------


def without(weights, part):
    return {key: value for key, value in weights.items() if part not in key}


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"num_cascades": 3}, "num_cascades"),
        ({"conv_filters": [64, 64, 2]}, "conv_filters"),
        ({"recurrent_layer": "GRU"}, "recurrent_layer"),
        ({"recurrent_kernels": [3, 3, 0]}, "recurrent_kernels"),
        ({"no_dc": False}, "no_dc"),
        ({"conv_dilations": [1, 1, 1]}, "conv_dilations"),
        ({"conv_dim": 3}, "conv_dim"),
        ({"dimensionality": 3}, "dimensionality"),
        ({"consecutive_slices": 3}, "consecutive_slices"),
        ({"num_echoes": 4}, "num_echoes"),
        ({"coil_combination_method": "RSS"}, "coil_combination_method"),
        ({"estimate_coil_sensitivity_maps_with_nn": True}, "missing"),
    ],
)
def test_settings_that_contradict_or_cannot_be_are_refused(settings, match):
    with pytest.raises(CheckpointError, match=match):
        load_foreign("atommic", rim_weights("reconstruction_module"), {"time_steps": 8, **settings})


@pytest.mark.parametrize(
    ("weights", "match"),
    [
        (without(rim_weights("reconstruction_module"), "layers.1.rnn.hh"), "missing"),
        (without(rim_weights("reconstruction_module"), "final_layer"), "missing"),
        (rim_weights("reconstruction_module") | {"reconstruction_module.0.extra": torch.ones(1)}, "unexpected"),
        (rim_weights("reconstruction_module") | {"surprise.weight": torch.ones(1)}, "unexpected"),
        (without(rim_weights("reconstruction_module", cascades=3), "module.1."), "missing"),
        (unet_weights("reconstruction_module.unet.", 3, 2, inputs=1), "only complex images"),
        ({"conv.weight": torch.ones(1)}, "no network known here"),
        ({}, "no network known here"),
    ],
)
def test_weights_that_are_not_understood_are_refused(weights, match):
    with pytest.raises(CheckpointError, match=match):
        load_foreign("atommic", weights, {"time_steps": 8})


@pytest.mark.parametrize("model", ["CRNN", "DUNet", "JointICNet", "RVN", "VSNet", "XPDNet", "MoDL", "qCIRIM"])
def test_other_networks_are_refused_by_name_with_what_can_be_imported(model):
    with pytest.raises(CheckpointError, match=f"{model}.*CIRIM, VarNet, CascadeNet, KIKINet, LPDNet, UNet"):
        load_foreign("atommic", rim_weights("reconstruction_module"), {}, model)


def test_another_model_than_the_weights_is_refused():
    with pytest.raises(CheckpointError, match="of CIRIM, not of VarNet"):
        load_foreign("atommic", rim_weights("reconstruction_module"), {}, "VarNet")


def test_tied_weights_that_differ_are_refused():
    weights = repeated(lambda p: unet_weights(p, 3, 2), "kspace_model_list.{}.model.unet.", 2)
    weights |= repeated(lambda p: unet_weights(p, 3, 2), "image_model_list.{}.unet.", 2)
    weights["dc_weight"] = torch.ones(1)
    load_foreign("atommic", weights)
    key = "image_model_list.1.unet.conv.layers.0.weight"
    with pytest.raises(CheckpointError, match="differ"):
        load_foreign("atommic", weights | {key: weights[key] + 1})


def test_batch_norm_is_refused():
    weights = conv_weights("cascades.0.model.conv.", 4, 3) | {"cascades.0.dc_weight": torch.ones(1)}
    with pytest.raises(CheckpointError, match="batch"):
        load_foreign("atommic", weights | {"cascades.0.model.conv.1.running_mean": torch.ones(4)})


@pytest.mark.parametrize(("explicit", "keep"), [(False, False), (True, True)])
def test_images_taken_for_kspace_are_refused(explicit, keep):
    weights = rim_weights("cascades")
    if explicit:
        weights |= {f"cascades.{i}.dc_weight": torch.ones(1) for i in range(2)}
    load_foreign("mridc", weights, {"keep_eta": not keep})
    with pytest.raises(CheckpointError, match="images for k-space"):
        load_foreign("mridc", weights, {"keep_eta": keep})


# The published sizes --------------------------------------------------------------------------------------------------


def test_published_layouts_are_understood_with_their_parameter_counts(shared: Path):
    layouts = json.loads((shared / "golden" / "atommic_state_dict_layouts.json").read_text())
    for name, layout in layouts.items():
        if name == "sense_net_8ch_4p":  # comes with another network
            continue
        # Equal in all copies of tied weights, and no memory.
        weights = {key: torch.tensor(0.01).expand(shape) for key, shape in layout["state_dict"].items()}
        settings = layout["hyperparameters"] | {"fft_centered": True, "fft_normalization": "ortho"}
        translation = translate("atommic", weights, settings, layout["model"])
        with torch.device("meta"):
            own = build(translation.config).state_dict()
        assert sum(tensor.numel() for tensor in own.values()) == layout["params"], name
        assert weights.keys() == translation.names.keys() | translation.ignored, name
        assert own.keys() == set(translation.names.values()), name
        for foreign, key in translation.names.items():
            assert weights[foreign].numel() == own[key].numel(), foreign


def test_the_published_map_network_imports(shared: Path):
    layouts = json.loads((shared / "golden" / "atommic_state_dict_layouts.json").read_text())
    shapes = layouts["sense_net_8ch_4p"]["state_dict"] | layouts["irim_indrnn64_8t"]["state_dict"]
    model = load_foreign("atommic", {key: torch.zeros(shape) for key, shape in shapes.items()}, {"time_steps": 8})
    assert sum(p.numel() for p in model.sensitivity.parameters()) == 484_898
    assert sum(p.numel() for p in model.reconstructor.parameters()) == 52_992
