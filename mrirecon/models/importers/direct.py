"""Weights of DIRECT (NKI-AI, Apache-2.0): RIM, LPDNet, KIKINet, EndToEndVarNet and RecurrentVarNet.

Sizes are inferred from shapes, the rest is taken from the settings, which are DIRECT's own configuration of the model.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from mrirecon.models.importers.direct_readers import NETWORKS, sub_network
from mrirecon.models.importers.parts import check_channels
from mrirecon.models.importers.reading import PACKAGE, Foreign, identify, rewrapped, unwrapped
from mrirecon.models.importers.translation import Translation

#: The network that refines coil maps; DIRECT's engines keep it beside the model.
MAP_NETWORK = "sensitivity_model."


def translate(
    state_dict: Mapping[str, Tensor], settings: dict[str, Any], model: str | None, version: str | None
) -> Translation:
    """The network of DIRECT's weights; its releases do not differ in what is imported here, so version is not used.

    settings: the block `model` of DIRECT's YAML (`length`, `skip_connections`, `image_initialization`, `num_iter`, …),
    and from its block `physics` the `forward_operator`, such as "fft2(centered=False)". Networks that work in k-space
    have learned in that transform's layout and scale; without it the centred, orthonormal one is assumed, with a note.
    Keys `sensitivity_model.*`, the network that refines coil maps, are used where they are there.
    Raises CheckpointError for weights that are not understood.
    """
    keys = unwrapped(state_dict)
    foreign = Foreign({name: state_dict[key] for name, key in keys.items()}, settings)
    translation = NETWORKS[identify(foreign, NETWORKS, model)].read(foreign)
    if foreign.has(MAP_NETWORK):
        translation = _with_map_network(foreign, translation)
    return rewrapped(replace(translation, notes=tuple(foreign.notes)), keys)


def _with_map_network(foreign: Foreign, translation: Translation) -> Translation:
    part = sub_network(foreign, MAP_NETWORK, "network.", "sensitivity")
    check_channels(part.arguments, 2, 2)
    foreign.notes.append(
        "The coil maps are those of the checkpoint's own network, made from the sampled centre of k-space without the "
        "Gaussian weighting that DIRECT may have applied; maps that a measurement brings are not used."
    )
    return replace(
        translation,
        config={
            "class_path": f"{PACKAGE}.direct_sensitivities.RefinedSensitivities",
            "init_args": {"reconstructor": translation.config, "network": part.config},
        },
        names={**{key: f"reconstructor.{own}" for key, own in translation.names.items()}, **part.names},
        ignored=translation.ignored | part.ignored,
    )
