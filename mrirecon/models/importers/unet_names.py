"""The names in fastMRI's U-Net, which ATOMMIC and DIRECT share, and those of the same layers in a `UNetBlock`."""

import re
from collections.abc import Iterable

from mrirecon.errors import CheckpointError


def unet_names(foreign_keys: Iterable[str], prefix: str, own_prefix: str) -> dict[str, str]:
    """Foreign key → key of a `UNetBlock` at `own_prefix`, for those of `foreign_keys` that begin with `prefix`.

    Both prefixes end with a dot or are empty. Raises CheckpointError for keys there that are no part of a U-Net.
    """
    inside = [key.removeprefix(prefix) for key in foreign_keys if key.startswith(prefix)]
    depths = [int(match[1]) for key in inside if (match := re.match(r"down_sample_layers\.(\d+)\.", key))]
    if not depths:
        raise CheckpointError(f"no U-Net in fastMRI's layout at '{prefix}': its `down_sample_layers` are not there.")
    last = max(depths)
    rules = [
        (r"down_sample_layers\.(\d+)\.layers\.([03])\.weight", r"down.\1.\2.weight"),
        (r"conv\.layers\.([03])\.weight", r"bottom.\1.weight"),
        (r"up_transpose_conv\.(\d+)\.layers\.0\.weight", r"up.\1.0.weight"),
        (rf"up_conv\.{last}\.0\.layers\.([03])\.weight", rf"merge.{last}.\1.weight"),
        (r"up_conv\.(\d+)\.layers\.([03])\.weight", r"merge.\1.\2.weight"),
        (rf"up_conv\.{last}\.1\.(weight|bias)", r"last.\1"),
    ]

    def renamed(key: str) -> str:
        # A dropout without weights counts there as a layer between the two convolutions of a block.
        counted = key.replace("layers.4.", "layers.3.")
        for pattern, name in rules:
            if match := re.fullmatch(pattern, counted):
                return match.expand(name)
        raise CheckpointError(f"'{prefix}{key}' is no part of fastMRI's U-Net.")

    return {prefix + key: own_prefix + renamed(key) for key in inside}
