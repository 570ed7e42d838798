"""Weights of fastMRI (MIT licence): the end-to-end variational network and the U-Net, raw or from Lightning modules."""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from mrirecon.errors import CheckpointError
from mrirecon.models.importers.parts import check_channels, unet_size
from mrirecon.models.importers.reading import PACKAGE, Foreign, rewrapped, unwrapped
from mrirecon.models.importers.translation import Translation
from mrirecon.models.importers.unet_names import unet_names

#: What fastMRI's Lightning modules store beside the network: the SSIM loss's window, the sums of metrics.
BESIDE = re.compile(r"loss\..+|\w+\.quantity")
MODELS = {"varnet": "VarNet", "e2evn": "VarNet", "vn": "VarNet", "unet": "Unet"}


def translate(
    state_dict: Mapping[str, Tensor], settings: dict[str, Any], model: str | None, version: str | None
) -> Translation:
    """What `VarNet` and `Unet` of fastMRI are here; its releases do not differ in what they compute.

    settings: arguments there, `num_cascades`, `chans`, `pools`, `sens_chans`, `sens_pools` and `mask_center` of a
    VarNet, `chans` and `num_pool_layers` of a Unet; and, for a Unet, `crop`, [rows, columns] of the image that it sees.
    Raises CheckpointError for other networks and for settings that do not belong to the weights.
    """
    beside = frozenset(key for key in state_dict if BESIDE.fullmatch(key))
    keys = unwrapped([key for key in state_dict if key not in beside], "varnet", "unet")
    foreign = Foreign({name: state_dict[key] for name, key in keys.items()}, settings)
    translation = {"VarNet": _varnet, "Unet": _unet}[_model_of(foreign.weights, model)](foreign)
    return replace(rewrapped(translation, keys), ignored=beside, notes=tuple(foreign.notes))


def _model_of(weights: Mapping[str, Tensor], model: str | None) -> str:
    parts = {key.split(".")[0] for key in weights}
    found = "VarNet" if {"sens_net", "cascades"} <= parts else "Unet" if "down_sample_layers" in parts else None
    wanted = found if model is None else MODELS.get(model.rpartition(".")[2].lower().removesuffix("module"))
    if found is None or wanted != found:
        raise CheckpointError(
            f"these are not weights of {'a network of fastMRI' if model is None else model} that is known here: VarNet "
            "has the parts sens_net and cascades, Unet has down_sample_layers, and here are "
            f"{', '.join(sorted(parts)[:5]) or 'none'}; name the toolbox and the model that they are from."
        )
    return found


def _varnet(foreign: Foreign) -> Translation:
    names = unet_names(foreign.weights, "sens_net.norm_unet.unet.", "sensitivity.network.unet.")
    cascades = [match[1] for key in foreign.weights if (match := re.fullmatch(r"cascades\.(\d+)\.dc_weight", key))]
    for i in cascades:
        names[f"cascades.{i}.dc_weight"] = f"cascades.{i}.consistency.step"
        names |= unet_names(foreign.weights, f"cascades.{i}.model.unet.", f"cascades.{i}.network.unet.")
    size = unet_size(foreign, "cascades.0.model.unet.")
    maps = unet_size(foreign, "sens_net.norm_unet.unet.")
    for unet in (size, maps):
        check_channels(unet, 2, 2)
    foreign.check("num_cascades", len(cascades))
    foreign.check("chans", size["channels"])
    foreign.check("pools", size["pools"])
    foreign.check("sens_chans", maps["channels"])
    foreign.check("sens_pools", maps["pools"])
    arguments = {
        "cascades": len(cascades),
        "channels": size["channels"],
        "pools": size["pools"],
        "sensitivity_channels": maps["channels"],
        "sensitivity_pools": maps["pools"],
        "mask_center": foreign.assumed("mask_center", True),
    }
    return Translation({"class_path": f"{PACKAGE}.fastmri_networks.FastMRIVarNet", "init_args": arguments}, names)


def _unet(foreign: Foreign) -> Translation:
    names = unet_names(foreign.weights, "", "unet.")
    size = unet_size(foreign, "")
    check_channels(size, 1, 1, "magnitude images")
    foreign.check("chans", size["channels"])
    foreign.check("num_pool_layers", size["pools"])
    crop = foreign.given("crop")
    if not crop:
        foreign.notes.append(
            "crop is not in the settings: the network sees the whole image. fastMRI showed it the central part only, "
            "as large as the header's reconstruction matrix; give crop: [rows, columns] for the same."
        )
    arguments = {"channels": size["channels"], "pools": size["pools"], "crop": crop}
    return Translation({"class_path": f"{PACKAGE}.fastmri_networks.FastMRIUnet", "init_args": arguments}, names)
