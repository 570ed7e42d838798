"""Weights of ATOMMIC (Apache-2.0, the toolbox of the CIRIM paper's author), and what its predecessor mridc shares.

Both name the parts of a network alike; releases differ in prefixes and in how they join cascades (`Release`). Sizes are
inferred from shapes, the rest is taken from the settings, which are the toolbox's own configuration of the model.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from mrirecon.errors import CheckpointError
from mrirecon.models.importers.atommic_readers import NETWORKS
from mrirecon.models.importers.atommic_release import Release, Released
from mrirecon.models.importers.parts import unet_size
from mrirecon.models.importers.reading import PACKAGE, identify, rewrapped, unwrapped
from mrirecon.models.importers.translation import Translation
from mrirecon.models.importers.unet_names import unet_names

ATOMMIC = Release("ATOMMIC", detach=False, carry=True, carry_explicit=True, fails_explicit=True, map_magnitudes=True)
#: The network that estimates coil maps: in ATOMMIC, and in mridc.
MAP_NETWORKS = ("coil_sensitivity_maps_nn.", "sens_net.")


def translate(
    state_dict: Mapping[str, Tensor], settings: dict[str, Any], model: str | None, version: str | None
) -> Translation:
    """The network of ATOMMIC's weights; its releases do not differ in what is imported here, so version is not used.

    settings: `model` of its YAML; `time_steps_used`, or else `time_steps`, is the number really run (see
    `configured_time_steps`). Raises CheckpointError for weights that are not understood.
    """
    return translate_release(state_dict, settings, model, lambda _: ATOMMIC)


def translate_release(
    state_dict: Mapping[str, Tensor],
    settings: Mapping[str, Any],
    model: str | None,
    release_of: Callable[[Mapping[str, Tensor]], Release],
) -> Translation:
    """`translate`, with the release told by a function of the weights, whose names are without wrappers there."""
    keys = unwrapped(state_dict)
    weights = {name: state_dict[key] for name, key in keys.items()}
    foreign = Released(weights, settings, release=release_of(weights))
    foreign.only("dimensionality", 2, "networks here see one slice at a time")
    foreign.only("consecutive_slices", 1, "networks here see one slice at a time")
    if foreign.given("num_echoes") not in (None, 0, 1):
        raise CheckpointError("num_echoes over 1 cannot be imported: networks here see one image at a time.")
    for name in ("coil_combination_method", "output_type"):
        foreign.only(name, "SENSE", "networks here work on coil-combined images")
    name = identify(foreign, NETWORKS, model)
    translation = NETWORKS[name].read(foreign)
    translation = _with_map_network(foreign, translation, used=name != "CIRIM" or foreign.release.map_network)
    unused = {key for key in weights if "loss" in key.split(".")[0]}
    if name != "KIKINet":
        unused.add("dc_weight")  # mridc stores one that it does not use
    translation = replace(translation, ignored=translation.ignored | unused, notes=tuple(foreign.notes))
    return rewrapped(translation, keys)


def _with_map_network(foreign: Released, translation: Translation, used: bool) -> Translation:
    """The translation, inside `LearnedSensitivities` if there is a map network. used: where the settings are silent."""
    prefix = next((p for p in MAP_NETWORKS if foreign.has(p)), None)
    wanted = foreign.given("estimate_coil_sensitivity_maps_with_nn", "use_sens_net")
    if prefix is None:
        if wanted:
            raise CheckpointError("the settings say that a network estimates the coil maps; its weights are missing.")
        return translation
    keys = {key for key in foreign.weights if key.startswith(prefix)}
    if not (used if wanted is None else wanted):
        return replace(translation, ignored=translation.ignored | keys)
    for name in ("coil_sensitivity_maps_nn_mask_center", "sens_mask_center"):
        foreign.only(name, True, "the map network here sees the centre of k-space alone")
    for name in ("coil_sensitivity_maps_nn_normalize", "sens_normalize"):
        foreign.only(name, True, "the map network here normalises its input")
    size = unet_size(foreign, f"{prefix}norm_unet.unet.")
    for settings in ("coil_sensitivity_maps_nn", "sens"):
        foreign.check(f"{settings}_chans", size["channels"])
        foreign.check(f"{settings}_pools", size["pools"])
    foreign.notes.append(
        "The coil maps come from the network's own, which there saw the centre of fully sampled k-space; "
        "here it sees the sampled centre only."
    )
    return replace(
        translation,
        config={
            "class_path": f"{PACKAGE}.atommic_sensitivities.AtommicSensitivities"
            if foreign.release.map_magnitudes
            else "mrirecon.models.sensitivity.LearnedSensitivities",
            "init_args": {
                "reconstructor": translation.config,
                "channels": size["channels"],
                "pools": size["pools"],
            },
        },
        names={
            **{key: f"reconstructor.{own}" for key, own in translation.names.items()},
            **unet_names(keys, f"{prefix}norm_unet.unet.", "sensitivity.network.unet."),
        },
    )
