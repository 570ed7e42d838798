"""Weights of mridc (Apache-2.0), ATOMMIC's predecessor. Its releases join the cascades of a CIRIM in different ways."""

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from mrirecon.errors import CheckpointError
from mrirecon.models.importers.atommic import translate_release
from mrirecon.models.importers.atommic_release import Release
from mrirecon.models.importers.translation import Translation

V001 = Release(
    "mridc v.0.0.1",
    detach=True,
    carry=False,
    carry_explicit=True,
    keep_matters=True,
    rounds=False,
    padding=15,
    map_network=False,
)
V01 = Release("mridc 0.1 to 0.2", detach=True, carry=False, carry_explicit=False, keep_matters=True)
V03 = Release("mridc 0.3", detach=True, carry=False, carry_explicit=False, start="initial")
#: Settings that v.0.0.1 calls by other names.
RENAMED = {"unet_padding_size": "padding_size", "chans": "channels", "pools": "pooling_layers"}


def translate(
    state_dict: Mapping[str, Tensor], settings: dict[str, Any], model: str | None, version: str | None
) -> Translation:
    """The network of mridc's weights.

    settings: as in `atommic.translate`. version: such as "v.0.0.1", "0.2.0" or "main"; needed for a CIRIM of several
    cascades, unless its names are those of v.0.0.1. Raises CheckpointError for weights that are not understood.
    """
    settings = {RENAMED.get(name, name): value for name, value in settings.items()}
    return translate_release(state_dict, settings, model, lambda weights: _release(version, weights))


def _release(version: str | None, weights: Mapping[str, Tensor]) -> Release:
    if version is not None:
        if version in ("main", "master"):
            return V03
        numbers = re.search(r"(\d+)\.(\d+)", version)
        if numbers is None:
            raise CheckpointError(f"'{version}' is no version of mridc; give one such as 0.0.1, 0.2.0, 0.3 or main.")
        release = int(numbers[1]), int(numbers[2])
        return V001 if release < (0, 1) else V01 if release < (0, 3) else V03
    if any(re.match(r"cascades\.\d+\.layers\.", key) for key in weights):
        return V001
    if any(re.match(r"cirim\.[1-9]", key) for key in weights):
        raise CheckpointError(
            "releases of mridc join the cascades of a CIRIM in different ways; say which one wrote these weights, with "
            "version = 0.1, 0.2 or 0.3 (or main)."
        )
    return V01
