"""What several toolboxes name alike: U-Nets, plain convolutions, and the KIKINet and LPDNet made of them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mrirecon.errors import CheckpointError
from mrirecon.models.importers.reading import PACKAGE, Foreign
from mrirecon.models.importers.translation import Translation


@dataclass(frozen=True)
class Part:
    """A network within one: config, names and ignored names as in a `Translation`."""

    config: dict[str, Any]
    names: dict[str, str]
    ignored: set[str] = field(default_factory=set)

    @property
    def arguments(self) -> dict[str, Any]:
        """What the part is built with: its inputs, outputs, …"""
        arguments: dict[str, Any] = self.config["init_args"]
        return arguments


def check_channels(arguments: Mapping[str, int], inputs: int, outputs: int, images: str = "complex images") -> None:
    """Raise CheckpointError unless a network, built with `arguments`, takes and gives so many channels."""
    if (arguments["inputs"], arguments["outputs"]) != (inputs, outputs):
        raise CheckpointError(
            f"a network takes {arguments['inputs']} and gives {arguments['outputs']} channels, and {inputs} and "
            f"{outputs} are needed; only {images} can be imported."
        )


def unet_size(foreign: Foreign, prefix: str) -> dict[str, int]:
    """Arguments of the `UNetBlock` at `prefix`, which ends with a dot or is empty; CheckpointError if there is none."""
    level = rf"{re.escape(prefix)}down_sample_layers\.\d+\.layers\.0\.weight"
    pools = sum(re.fullmatch(level, key) is not None for key in foreign.weights)
    keys = ("down_sample_layers.0.layers.0.weight", "conv.layers.0.weight", f"up_conv.{pools - 1}.1.weight")
    layers = [foreign.weights.get(prefix + key) for key in keys]
    first, bottom, last = (() if layer is None else layer.shape for layer in layers)
    if not len(first) == len(bottom) == len(last) == 4 or bottom[0] != first[0] * 2**pools:
        raise CheckpointError(f"'{prefix}' is not a complete U-Net of fastMRI: {', '.join(keys)} do not go together.")
    return {"inputs": first[1], "outputs": last[0], "channels": first[0], "pools": pools}


def convolutions(foreign: Foreign, prefix: str, own: str) -> tuple[dict[str, int], dict[str, str], list[str]]:
    """Arguments of the `ConvPReLU` at `prefix`, names of its convolutions, and foreign names of its one slope.

    Checkpoints hold the slope after every convolution but the last, or after the first alone. CheckpointError for
    other networks.
    """
    if any(key.startswith(prefix) and key.endswith("running_mean") for key in foreign.weights):
        raise CheckpointError("networks with batch norm (batchnorm: true) cannot be imported.")
    convolution = rf"{re.escape(prefix)}\d*[02468]\.weight"
    layers = sum(re.fullmatch(convolution, key) is not None for key in foreign.weights)
    if layers < 2:
        raise CheckpointError(f"the network at '{prefix}' is one convolution alone; two or more can be imported.")
    channels, inputs, _ = foreign.shape(f"{prefix}0.weight")
    outputs, _, _ = foreign.shape(f"{prefix}{2 * layers - 2}.weight")
    size = {"channels": channels, "layers": layers, "inputs": inputs, "outputs": outputs}
    names = {f"{prefix}{2 * i}.{kind}": f"{own}{i}.{kind}" for i in range(layers) for kind in ("weight", "bias")}
    repeated = [f"{prefix}{2 * i + 1}.weight" for i in range(1, layers - 1)]
    return size, names, [f"{prefix}1.weight", *(slope for slope in repeated if slope in foreign.weights)]


def plain_network(foreign: Foreign, prefix: str, own: str, settings: str) -> Part:
    """The `ConvPReLU` at `prefix`; `settings` begins its settings."""
    size, names, slopes = convolutions(foreign, prefix, f"{own}convolutions.")
    foreign.check(f"{settings}_conv_hidden_channels", size["channels"])
    foreign.check(f"{settings}_conv_n_convs", size["layers"])
    names[slopes[0]] = f"{own}slope"
    return Part({"class_path": f"{PACKAGE}.atommic_blocks.ConvPReLU", "init_args": size}, names, foreign.tied(slopes))


def lpdnet(foreign: Foreign, network: str, primal: Part, dual: Part, arguments: dict[str, Any]) -> Translation:
    """The `network`, an `AtommicLPDNet`, of the parts in iteration 0, and of what else it is built with."""
    buffers = {"primal": primal.arguments["outputs"] // 2, "dual": dual.arguments["outputs"] // 2}
    check_channels(primal.arguments, 2 * (buffers["primal"] + 1), 2 * buffers["primal"])
    check_channels(dual.arguments, 2 * (buffers["dual"] + 2), 2 * buffers["dual"])
    for name, number in buffers.items():
        foreign.check(f"num_{name}", number)
    arguments = {"primal_network": primal.config, "dual_network": dual.config} | buffers | arguments
    repeated = foreign.tied_iterations("primal_net") | foreign.tied_iterations("dual_net")
    return Translation(
        {"class_path": f"{PACKAGE}.{network}", "init_args": arguments},
        primal.names | dual.names,
        frozenset(primal.ignored | dual.ignored | repeated),
    )


def kikinet(foreign: Foreign, network: str, kspace: Part, image: Part, arguments: dict[str, Any]) -> Translation:
    """The KIKI `network` of the parts in iteration 0, and of what else it is built with."""
    for part in (kspace, image):
        check_channels(part.arguments, 2, 2)
    repeated = foreign.tied_iterations("kspace_model_list") | foreign.tied_iterations("image_model_list")
    return Translation(
        {
            "class_path": f"{PACKAGE}.{network}",
            "init_args": {"kspace_network": kspace.config, "image_network": image.config, **arguments},
        },
        kspace.names | image.names,
        frozenset(kspace.ignored | image.ignored | repeated),
    )
