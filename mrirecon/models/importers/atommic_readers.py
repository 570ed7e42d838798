"""How each network of ATOMMIC and mridc is recognised and read; sizes are inferred from shapes."""

import re
from dataclasses import replace
from typing import Any, get_args

from mrirecon.errors import CheckpointError
from mrirecon.models.importers.atommic_release import Released, configured_time_steps
from mrirecon.models.importers.fourier import Norm
from mrirecon.models.importers.parts import (
    Part,
    check_channels,
    convolutions,
    kikinet,
    lpdnet,
    plain_network,
    unet_size,
)
from mrirecon.models.importers.reading import PACKAGE, Network
from mrirecon.models.importers.translation import Translation
from mrirecon.models.importers.unet_names import unet_names

TIME_STEPS = 8

#: Parts of one RIM: the toolbox's name → ours in a `RIMCascade`.
RIM_PARTS = {
    "layers.0.convs.conv_layer.weight": "conv1.weight",
    "layers.0.convs.conv_layer.bias": "conv1.bias",
    "layers.0.rnn.ih.weight": "cell1.w.weight",
    "layers.0.rnn.ih.bias": "cell1.w.bias",
    "layers.0.rnn.hh.weight": "cell1.u.weight",
    "layers.0.rnn.hh": "cell1.u",
    "layers.1.convs.conv_layer.weight": "conv2.weight",
    "layers.1.convs.conv_layer.bias": "conv2.bias",
    "layers.1.rnn.ih.weight": "cell2.w.weight",
    "layers.1.rnn.ih.bias": "cell2.w.bias",
    "layers.1.rnn.hh.weight": "cell2.u.weight",
    "layers.1.rnn.hh": "cell2.u",
    "final_layer.0.conv_layer.weight": "conv3.weight",
}


def _cirim(foreign: Released) -> Translation:
    prefix = r"(reconstruction_module|cirim|cascades)\.(\d+)\."
    start = next(match[1] for key in foreign.weights if (match := re.match(prefix, key)))
    cascades = foreign.count(rf"{start}\.(\d+)\.")
    release = foreign.release
    explicit = f"{start}.0.dc_weight" in foreign.weights
    unit, channels, kernel = _rim_sizes(foreign, f"{start}.0.")

    foreign.check("num_cascades", cascades)
    foreign.check("no_dc", not explicit)
    keep = foreign.given("keep_prediction", "keep_eta")
    if release.keep_matters and cascades > 1 and keep is not None and keep == explicit:
        raise CheckpointError(
            f"with no_dc = {not explicit} and keep_prediction (or keep_eta) = {keep}, {release.name} takes images for "
            "k-space between its cascades; that cannot be imported."
        )
    if explicit:
        foreign.notes.append(
            "With the author's explicit data consistency the cascades compute k-space, as in the toolbox's training; "
            "the answer here is its coil-combined image."
        )
        if release.fails_explicit and cascades > 1:
            foreign.notes.append(
                f"{release.name} itself fails with explicit data consistency and more than one cascade; cascades are "
                "joined as in mridc v.0.0.1."
            )
    names = {}
    for key in foreign.weights:
        match = re.match(prefix, key)
        part = key[match.end() :] if match else ""
        if match and part in RIM_PARTS:
            names[key] = f"cascades.{match[2]}.{RIM_PARTS[part]}"
        elif match and part == "dc_weight":
            names[key] = f"weights.{match[2]}"
    return Translation(
        {
            "class_path": f"{PACKAGE}.atommic_cirim.ExplicitCIRIM" if explicit else "mrirecon.models.cirim.CIRIM",
            "init_args": {
                "cascades": cascades,
                "unit": unit,
                "channels": channels,
                "time_steps": _time_steps(foreign),
                "recurrent_kernel": kernel,
                "detach_between_cascades": release.detach,
                "carry_hidden_state": release.carry_explicit if explicit else release.carry,
                "cascade_start": release.start,
            },
        },
        names,
    )


def _rim_sizes(foreign: Released, prefix: str) -> tuple[str, int, int]:
    """(unit, channels, recurrent kernel) of the RIM at `prefix`; CheckpointError for what a `RIMCascade` is not."""
    if f"{prefix}layers.2.convs.conv_layer.weight" in foreign.weights:
        raise CheckpointError("RIMs of more than two recurrent layers cannot be imported.")
    shapes = []
    for name, inputs, kernel in (("layers.0.convs", 4, 5), ("layers.1.convs", None, 3), ("final_layer.0", None, 3)):
        shape = foreign.shape(f"{prefix}{name}.conv_layer.weight")
        if shape[2] != kernel or inputs not in (None, shape[1]):
            raise CheckpointError(
                f"'{prefix}{name}.conv_layer.weight' makes {shape[0]} of {shape[1]} channels with a kernel of "
                f"{shape[2]}; RIMs with kernels of 5, 3 and 3 on 4 input channels can be imported."
            )
        shapes.append(shape)
    channels = shapes[0][0]
    if [shape[:2] for shape in shapes[1:]] != [(channels, channels), (2, channels)]:
        raise CheckpointError("RIMs whose layers differ in width cannot be imported.")
    cells = [foreign.shape(f"{prefix}layers.{layer}.rnn.ih.weight") for layer in (0, 1)]
    outputs, inputs, kernel = cells[0]
    if f"{prefix}layers.0.rnn.hh" in foreign.weights:
        unit = "IndRNN"
    else:
        unit = {3 * channels: "GRU", 2 * channels: "MGU"}.get(outputs, "")
    if not unit or cells[1] != cells[0] or inputs != channels:
        raise CheckpointError("the recurrent layers are no pair of equal GRU, MGU or IndRNN cells.")

    foreign.check("recurrent_layer", unit)
    foreign.check("conv_filters", [channels, channels, 2])
    foreign.check("conv_kernels", [5, 3, 3])
    foreign.check("recurrent_filters", [channels, channels, 0])
    foreign.check("recurrent_kernels", [kernel, kernel, 0])
    foreign.only("conv_dilations", [1, 2, 1], "a RIM here has these")
    foreign.only("recurrent_dilations", [1, 1, 0], "a RIM here has these")
    foreign.only("conv_dim", 2, "networks here see one slice at a time")
    return unit.lower(), channels, kernel


def _time_steps(foreign: Released) -> int:
    steps = foreign.given("time_steps_used", "time_steps")
    if steps is None:
        foreign.notes.append(f"`time_steps` is not given and is not in the weights; {TIME_STEPS} is assumed.")
        return TIME_STEPS
    if foreign.release.rounds and steps != configured_time_steps(steps):
        foreign.notes.append(
            f"{steps} time steps are run as given; {foreign.release.name} itself would round them up to "
            f"{configured_time_steps(steps)}."
        )
    return int(steps)


#: The settings of a U-Net: features, halvings, padding and normalisation; in KIKINet and LPDNet with a prefix.
UNET = ("channels", "pooling_layers", "padding_size", "normalize")
CROSS_DOMAIN_UNET = ("num_filters", "num_pool_layers", "padding_size", "normalize")


def _padded_unet(foreign: Released, prefix: str, settings: str = "", names: tuple[str, ...] = UNET) -> dict[str, Any]:
    """Arguments of the `PaddedNormUNet` at `prefix`; `settings` begins the names of its settings."""
    size = unet_size(foreign, prefix)
    channels, pools, padding, normalize = (settings + name for name in names)
    foreign.check(channels, size["channels"])
    foreign.check(pools, size["pools"])
    return size | {
        "padding": foreign.assumed(padding, foreign.release.padding),
        "groups": 2 if foreign.assumed(normalize, True) else 0,
    }


def _complex_unet(foreign: Released, prefix: str) -> dict[str, Any]:
    """The same without `inputs` and `outputs`, which are a complex image's."""
    arguments = _padded_unet(foreign, prefix)
    check_channels(arguments, 2, 2)
    return {name: value for name, value in arguments.items() if name not in ("inputs", "outputs")}


def _unet(foreign: Released) -> Translation:
    prefix = next(p for p in ("reconstruction_module.unet.", "unet.") if foreign.has(p))
    arguments = _complex_unet(foreign, prefix)
    if arguments["groups"]:
        arguments["groups"] = foreign.given("norm_groups") or 2
    return Translation(
        {"class_path": f"{PACKAGE}.atommic_unet.AtommicUNet", "init_args": arguments},
        unet_names(foreign.weights, prefix, "network.unet."),
    )


#: What the k-space cascades of VarNet and CascadeNet are called; mridc's CascadeNet has the second name too.
CASCADES = r"(reconstruction_module|cascades)\.(\d+)\."


def _cascades(foreign: Released) -> tuple[str, int, bool, dict[str, str], set[str]]:
    """(prefix, number, data consistency, names of its weights, ignored names) of cascades in k-space."""
    prefix = next(match[1] for key in foreign.weights if (match := re.match(CASCADES, key)))
    cascades = foreign.count(rf"{prefix}\.(\d+)\.")
    foreign.check("num_cascades", cascades)
    consistent = not foreign.assumed("no_dc", False)
    weights = {f"{prefix}.{i}.dc_weight": f"weights.{i}" for i in range(cascades)}
    return prefix, cascades, consistent, weights if consistent else {}, set() if consistent else set(weights)


def _varnet(foreign: Released) -> Translation:
    prefix, cascades, consistent, names, ignored = _cascades(foreign)
    for i in range(cascades):
        names |= unet_names(foreign.weights, f"{prefix}.{i}.model.unet.", f"networks.{i}.unet.")
    arguments = _complex_unet(foreign, f"{prefix}.0.model.unet.")
    return Translation(
        {
            "class_path": f"{PACKAGE}.atommic_cascades.AtommicVarNet",
            "init_args": {"cascades": cascades, **arguments, "data_consistency": consistent},
        },
        names,
        frozenset(ignored),
    )


def _cascadenet(foreign: Released) -> Translation:
    prefix, cascades, consistent, names, ignored = _cascades(foreign)
    slopes = []
    for i in range(cascades):
        size, renamed, slope = convolutions(foreign, f"{prefix}.{i}.model.conv.", f"networks.{i}.")
        names |= renamed
        slopes += slope
    foreign.check("hidden_channels", size["channels"])
    foreign.check("n_convs", size["layers"])
    names[slopes[0]] = "slope"
    return Translation(
        {
            "class_path": f"{PACKAGE}.atommic_cascades.AtommicCascadeNet",
            "init_args": {
                "cascades": cascades,
                "channels": size["channels"],
                "layers": size["layers"],
                "data_consistency": consistent,
            },
        },
        names,
        frozenset(ignored | foreign.tied(slopes)),
    )


def _domain(foreign: Released, before: str, after: str, own: str, settings: str) -> Part:
    """The sub-network of a KIKINet or LPDNet in one domain, the same in all iterations.

    It is called `before`, iteration, `after` there and `own` here; `settings` begins its settings.
    """
    foreign.check("num_iter", foreign.count(rf"{before}\.(\d+)\."))
    prefix = f"{before}.0.{after}"
    if foreign.has(f"{prefix}unet."):
        arguments = _padded_unet(foreign, f"{prefix}unet.", f"{settings}_unet_", CROSS_DOMAIN_UNET)
        config = {"class_path": f"{PACKAGE}.atommic_blocks.PaddedNormUNet", "init_args": arguments}
        return Part(config, unet_names(foreign.weights, f"{prefix}unet.", f"{own}unet."))
    if foreign.has(f"{prefix}conv."):
        return plain_network(foreign, f"{prefix}conv.", own, settings)
    raise CheckpointError(f"the network at '{prefix}' cannot be imported; a U-Net or plain convolutions can.")


def _fourier(foreign: Released) -> dict[str, Any]:
    """Arguments `centered` and `norm` of a network that works in k-space."""
    if foreign.given("fft_type") == "orthogonal":  # mridc 0.1
        return {"centered": True, "norm": "ortho"}
    if foreign.given("fft_type"):
        raise CheckpointError(
            f"fft_type = {foreign.given('fft_type')} is not known here; give fft_centered and fft_normalization."
        )
    norm = foreign.settings.get("fft_normalization")
    norm = "backward" if norm in ("none", "None") else foreign.assumed("fft_normalization", "backward")
    if norm not in get_args(Norm):
        raise CheckpointError(f"fft_normalization = {norm} is none of {', '.join(get_args(Norm))}.")
    return {"centered": foreign.assumed("fft_centered", False), "norm": norm}


def _kikinet(foreign: Released) -> Translation:
    kspace = _domain(foreign, "kspace_model_list", "model.", "kspace_network.", "kspace")
    image = _domain(foreign, "image_model_list", "", "image_network.", "imspace")
    consistent = not foreign.assumed("no_dc", False)
    arguments = {"iterations": foreign.count(r"kspace_model_list\.(\d+)\."), "data_consistency": consistent}
    translation = kikinet(foreign, "atommic_kikinet.AtommicKIKINet", kspace, image, arguments | _fourier(foreign))
    if consistent:
        return replace(translation, names=translation.names | {"dc_weight": "weight"})
    return replace(translation, ignored=translation.ignored | {"dc_weight"})


def _lpdnet(foreign: Released) -> Translation:
    primal = _domain(foreign, "primal_net", "primal_block.", "primal_network.", "primal")
    dual = _domain(foreign, "dual_net", "dual_block.", "dual_network.", "dual")
    arguments = {"iterations": foreign.count(r"primal_net\.(\d+)\."), **_fourier(foreign)}
    return lpdnet(foreign, "atommic_lpdnet.AtommicLPDNet", primal, dual, arguments)


#: What can be imported.
NETWORKS = {
    "CIRIM": Network(("cirim", "rim", "irim"), r"(reconstruction_module|cirim|cascades)\.\d+\.layers\.", _cirim),
    "VarNet": Network(("varnet", "vn", "e2evn"), CASCADES + r"model\.unet\.", _varnet),
    "CascadeNet": Network(("cascadenet", "ccnn"), CASCADES + r"model\.conv\.", _cascadenet),
    "KIKINet": Network(("kikinet", "kiki"), r"(image|kspace)_model_list\.", _kikinet),
    "LPDNet": Network(("lpdnet", "lpd"), r"(primal|dual)_net\.", _lpdnet),
    "UNet": Network(("unet", "normunet"), r"(reconstruction_module\.)?unet\.", _unet),
}
