"""How each network of DIRECT is recognised and read; sizes are inferred from shapes."""

import re
from collections.abc import Mapping
from typing import Any

from mrirecon.errors import CheckpointError
from mrirecon.models.importers.parts import Part, check_channels, kikinet, lpdnet, plain_network, unet_size
from mrirecon.models.importers.reading import PACKAGE, Foreign, Network
from mrirecon.models.importers.translation import Translation
from mrirecon.models.importers.unet_names import unet_names

GATES = {"reset_gates": "reset", "update_gates": "update", "out_gates": "candidate"}
KINDS = ("weight", "bias")
#: Defaults of DIRECT for what neither weights nor settings say.
LENGTH, LPD_ITERATIONS, KIKI_ITERATIONS, RECURRENT_STEPS = 8, 25, 10, 15


def _steps(foreign: Foreign, name: str, default: int) -> int:
    """The setting of a number from 1 on, or else the default with a note."""
    number: int = foreign.assumed(name, default)
    if number < 1:
        raise CheckpointError(f"{name} = {number} is not understood; it is 1 or more.")
    return number


def _last_word(value: object) -> str:
    """What DIRECT's configuration chooses, be it written "SENSE", "sense" or "InitType.SENSE"."""
    return str(value).rpartition(".")[2].lower()


def _fourier(foreign: Foreign) -> dict[str, Any]:
    """Arguments `centered` and `norm` of a network that works in k-space."""
    operator = foreign.given("forward_operator")
    if operator is None:
        foreign.notes.append(
            "`forward_operator` is not given; the centred, orthonormal Fourier transform is assumed. Models trained on "
            "the Calgary-Campinas data have fft2(centered=False)."
        )
    match = re.fullmatch(r"(?:[\w.]*\.)?fft2(?:\((.*)\))?", str(operator or "fft2").replace(" ", ""))
    options = dict(option.partition("=")[::2] for option in (match[1] or "").split(",") if option) if match else {}
    if match is None or not options.keys() <= {"centered", "normalized", "complex_input"}:
        raise CheckpointError(f"forward_operator = {operator} cannot be imported; fft2(centered=…, normalized=…) can.")
    return {
        "centered": options.get("centered") != "False",
        "norm": "backward" if options.get("normalized") == "False" else "ortho",
    }


def _rim(foreign: Foreign) -> Translation:
    foreign.only("replication_padding", True, "DIRECT itself runs nothing else")
    cells, shared, steps = _cells(foreign, "cell_list", "length", LENGTH)
    stack, names = _stacks(foreign, [f"cell_list.{i}." for i in range(cells)])
    foreign.check("hidden_channels", stack["hidden"])
    foreign.check("depth", stack["layers"])
    foreign.check("normalized", stack["normalised"])
    foreign.check("instance_norm", stack["instance_norm"])
    dense = foreign.given("dense_connect")
    if not isinstance(dense, int) or min(dense, stack["layers"]) != stack["dense"]:
        foreign.check("dense_connect", stack["dense"])
    if stack["dense"] > 1:
        foreign.notes.append("Layers that are densely connected to several earlier ones see the oldest first.")
    initializer, initializer_names = _initializer(foreign, stack)
    start = _last_word(foreign.assumed("image_initialization", "zero_filled"))
    if start not in ("sense", "zero_filled"):
        raise CheckpointError(f"image_initialization = {start} cannot be imported; sense and zero_filled can.")
    return Translation(
        {
            "class_path": f"{PACKAGE}.direct_rim.DirectRIM",
            "init_args": {
                **stack,
                "steps": steps,
                "shared": shared,
                "skip": foreign.assumed("skip_connections", True),
                "start": start,
                **initializer,
            },
        },
        names | initializer_names,
    )


def _recurrent_varnet(foreign: Foreign) -> Translation:
    cells, shared, steps = _cells(foreign, "block_list", "num_steps", RECURRENT_STEPS)
    stack, names = _stacks(foreign, [f"block_list.{i}.regularizer." for i in range(cells)])
    names |= {f"block_list.{i}.learning_rate": f"rates.{i}" for i in range(cells)}
    foreign.check("recurrent_hidden_channels", stack["hidden"])
    foreign.check("recurrent_num_layers", stack["layers"])
    foreign.check("normalized", stack["normalised"])
    if any([stack.pop("dense"), stack.pop("instance_norm")]):
        raise CheckpointError("the recurrent layers are not those of a RecurrentVarNet.")
    initializer, initializer_names = _initializer(foreign, stack)
    if initializer:
        start = _last_word(foreign.assumed("initializer_initialization", "sense"))
        if start != "sense":
            raise CheckpointError(f"initializer_initialization = {start} cannot be imported; sense can.")
        initializer |= _fourier(foreign)
    return Translation(
        {
            "class_path": f"{PACKAGE}.direct_recurrent_varnet.DirectRecurrentVarNet",
            "init_args": {**stack, "steps": steps, "shared": shared, **initializer},
        },
        names | initializer_names,
    )


def _cells(foreign: Foreign, part: str, length: str, default: int) -> tuple[int, bool, int]:
    """How many recurrent cells `part` has, whether all steps share one, and the steps; `length` is their setting."""
    cells = foreign.count(rf"{part}\.(\d+)\.")
    shared = cells == 1 and not foreign.given("no_parameter_sharing")
    foreign.check("no_parameter_sharing", not shared)
    steps = _steps(foreign, length, default) if shared else cells
    foreign.check(length, steps)
    return cells, shared, steps


def _stacks(foreign: Foreign, prefixes: list[str]) -> tuple[dict[str, Any], dict[str, str]]:
    """Arguments of the `RecurrentStack`s at these prefixes, all alike, and their names as `cells.i`."""
    first = prefixes[0]
    normalised = foreign.has(f"{first}convgru.")
    inner = "convgru." if normalised else ""
    layers = foreign.count(rf"{re.escape(first + inner)}reset_gates\.(\d+)\.")
    # With instance norm, the norm comes first in a gate and the convolution second.
    instance_norm = f"{first}{inner}reset_gates.0.1.weight" in foreign.weights
    hidden, _, gate_kernel = foreign.shape(f"{first}{inner}reset_gates.0.{int(instance_norm)}.weight")
    _, seen, _ = foreign.shape(f"{first}{inner}conv_blocks.{layers}.1.weight")
    names = {}
    for i, prefix in enumerate(prefixes):
        for kind in KINDS:
            for j in range(layers + 1):
                names[f"{prefix}{inner}conv_blocks.{j}.1.{kind}"] = f"cells.{i}.convolutions.{j}.{kind}"
            for theirs, ours in GATES.items():
                for j in range(layers):
                    foreign_name = f"{prefix}{inner}{theirs}.{j}.{int(instance_norm)}.{kind}"
                    names[foreign_name] = f"cells.{i}.{ours}.{j}.{kind}"
    arguments = {
        "hidden": hidden,
        "layers": layers,
        "gate_kernel": gate_kernel,
        "dense": seen // hidden - 1,
        "instance_norm": instance_norm,
        "normalised": normalised,
    }
    return arguments, names


def _initializer(foreign: Foreign, stack: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """Arguments of a `StateInitializer`, empty without one, and its names."""
    learned = foreign.has("initializer.")
    foreign.check("learned_initializer", learned)
    if not learned:
        return {}, {}
    number = foreign.count(r"initializer\.conv_blocks\.(\d+)\.")
    channels = [foreign.shape(f"initializer.conv_blocks.{i}.1.weight")[0] for i in range(number)]
    _, seen, _ = foreign.shape("initializer.out_blocks.0.0.weight")
    scales = next((n for n in range(1, number + 1) if sum(channels[-n:]) == seen), 0)
    dilations = foreign.assumed("initializer_dilations", [1, 1, 2, 4])
    if not scales or len(dilations) != number:
        raise CheckpointError(
            f"the state initializer's {number} layers of {channels} channels do not go with outputs that see {seen} "
            f"channels and with dilations {dilations}."
        )
    foreign.check("initializer_channels", channels)
    foreign.check("initializer_multiscale", scales)
    arguments = {"initializer_channels": channels, "initializer_dilations": dilations, "initializer_scales": scales}
    names = {}
    for kind in KINDS:
        for i in range(number):
            names[f"initializer.conv_blocks.{i}.1.{kind}"] = f"initializer.convolutions.{i}.{kind}"
        for i in range(stack["layers"]):
            names[f"initializer.out_blocks.{i}.0.{kind}"] = f"initializer.outputs.{i}.{kind}"
    return arguments, names


def _varnet(foreign: Foreign) -> Translation:
    cascades = foreign.count(r"layers_list\.(\d+)\.")
    names = {f"layers_list.{i}.learning_rate": f"rates.{i}" for i in range(cascades)}
    for i in range(cascades):
        names |= unet_names(foreign.weights, f"layers_list.{i}.regularizer_model.", f"networks.{i}.")
    size = unet_size(foreign, "layers_list.0.regularizer_model.")
    check_channels(size, 2, 2)
    foreign.check("num_layers", cascades)
    foreign.check("regularizer_num_filters", size["channels"])
    foreign.check("regularizer_num_pull_layers", size["pools"])
    return Translation(
        {
            "class_path": f"{PACKAGE}.direct_varnet.DirectVarNet",
            "init_args": {"cascades": cascades, "channels": size["channels"], "pools": size["pools"]},
        },
        names,
    )


def _lpdnet(foreign: Foreign) -> Translation:
    primal = sub_network(foreign, "primal_net.0.primal_block.", "primal_network.network.", "primal")
    dual = sub_network(foreign, "dual_net.0.dual_block.", "dual_network.network.", "dual")
    arguments = {"iterations": _iterations(foreign, "primal_net", LPD_ITERATIONS), **_fourier(foreign)}
    return lpdnet(foreign, "direct_lpdnet.DirectLPDNet", primal, dual, arguments)


def _kikinet(foreign: Foreign) -> Translation:
    foreign.only("normalize", False, "DIRECT scales by a factor of its own data pipeline there")
    image = sub_network(foreign, "image_model_list.0.", "image_network.", "image")
    kspace = sub_network(foreign, "kspace_model_list.0.model.", "kspace_network.network.", "kspace")
    arguments = {"iterations": _iterations(foreign, "image_model_list", KIKI_ITERATIONS), **_fourier(foreign)}
    return kikinet(foreign, "direct_kikinet.DirectKIKINet", kspace, image, arguments)


def _iterations(foreign: Foreign, part: str, default: int) -> int:
    """The number of tied iterations: as often as the weights are repeated, or else the setting."""
    found = foreign.count(rf"{part}\.(\d+)\.")
    if found > 1:
        foreign.check("num_iter", found)
        return found
    return _steps(foreign, "num_iter", default)


def sub_network(foreign: Foreign, prefix: str, own: str, settings: str) -> Part:
    """The U-Net or plain network at `prefix`, at `own` here; CheckpointError for other kinds.

    settings: begins its settings.
    """
    keys = [key.removeprefix(prefix) for key in foreign.weights if key.startswith(prefix)]
    if "conv.0.weight" in keys:
        architecture = "CONV"
    elif "unet2d.conv.layers.0.weight" in keys:
        architecture, prefix = "NORMUNET", f"{prefix}unet2d."
    elif "conv.layers.0.weight" in keys:
        architecture = "UNET"
    else:
        found = "MWCNN" if any("convblock" in key for key in keys) else "DIDN" if "conv_in.weight" in keys else "other"
        raise CheckpointError(
            f"the {settings} network is of the kind {found}, which cannot be imported (its parts at '{prefix}' "
            f"begin with {', '.join(sorted(keys)[:2]) or 'none'}); UNET, NORMUNET and CONV can."
        )
    given = foreign.given(f"{settings}_model_architecture")
    if given is not None and _last_word(given) != architecture.lower():
        raise CheckpointError(
            f"the settings say {settings}_model_architecture = {given} and the weights {architecture}; they do not "
            "belong together."
        )
    if architecture == "CONV":
        return plain_network(foreign, f"{prefix}conv.", own, settings)
    size = unet_size(foreign, prefix)
    foreign.check(f"{settings}_unet_num_filters", size["channels"])
    foreign.check(f"{settings}_unet_num_pool_layers", size["pools"])
    if architecture == "NORMUNET":
        config = {"class_path": f"{PACKAGE}.atommic_blocks.PaddedNormUNet", "init_args": size | {"padding": 15}}
        return Part(config, unet_names(foreign.weights, prefix, f"{own}unet."))
    config = {"class_path": "mrirecon.models.blocks.unet.UNetBlock", "init_args": size}
    return Part(config, unet_names(foreign.weights, prefix, own))


#: What can be imported.
NETWORKS = {
    "RIM": Network(("rim",), r"cell_list\.", _rim),
    "LPDNet": Network(("lpdnet", "lpd"), r"primal_net\.", _lpdnet),
    "KIKINet": Network(("kikinet", "kiki"), r"kspace_model_list\.", _kikinet),
    "EndToEndVarNet": Network(("endtoendvarnet", "varnet", "e2evn", "vn"), r"layers_list\.", _varnet),
    "RecurrentVarNet": Network(("recurrentvarnet", "rvn"), r"block_list\.\d+\.regularizer\.", _recurrent_varnet),
}
