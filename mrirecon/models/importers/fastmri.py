"""Weights of fastMRI's U-Net (MIT licence), mapped onto ours: the same layers under other names."""

import re
from collections.abc import Mapping

from torch import Tensor


def unet_from_fastmri(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """State dictionary of a `UNetBlock` from that of `fastmri.models.Unet`. KeyError for parts of another network."""
    pools = 1 + max(int(key.split(".")[1]) for key in weights if key.startswith("down_sample_layers."))
    last = pools - 1
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
        raise KeyError(f"'{key}' is no part of fastMRI's U-Net")

    return {renamed(key): tensor for key, tensor in weights.items()}
