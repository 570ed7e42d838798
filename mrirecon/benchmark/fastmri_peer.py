"""fastMRI's networks and loader, for `peer_program`."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn


def loader(folder: str) -> Callable[[], int]:
    """Reads all slices of the files in a folder with fastMRI's data set, and tells how many."""
    from fastmri.data import SliceDataset  # type: ignore[import-not-found]
    from fastmri.data.subsample import create_mask_for_mask_type  # type: ignore[import-not-found]
    from fastmri.data.transforms import VarNetDataTransform  # type: ignore[import-not-found]

    transform = VarNetDataTransform(create_mask_for_mask_type("equispaced_fraction", [0.08], [4]), use_seed=False)
    slices = SliceDataset(folder, "multicoil", transform)

    def epoch() -> int:
        for index in range(len(slices)):
            slices[index]
        return len(slices)

    return epoch


def network(name: str, folder: Path) -> tuple[nn.Module, Callable[[], Tensor]]:
    """fastMRI's VarNet of 12 cascades and 18 channels, or its U-Net in its pipeline; and its real image (1, y, x)."""
    import fastmri  # type: ignore[import-not-found]
    from fastmri.data.transforms import normalize_instance
    from fastmri.models import Unet, VarNet  # type: ignore[import-not-found]

    model: nn.Module = VarNet() if name == "VarNet" else Unet(1, 1)
    kspace = torch.view_as_real(torch.from_numpy(np.load(folder / "kspace.npy"))).contiguous()
    mask = torch.from_numpy(np.load(folder / "mask.npy"))[..., None]

    def run() -> Tensor:
        image: Tensor
        if name == "VarNet":
            image = model(kspace, mask)
        else:
            whole = fastmri.rss(fastmri.complex_abs(fastmri.ifft2c(kspace)), dim=1)
            normalised, mean, std = normalize_instance(whole, eps=1e-11)
            image = model(normalised.clamp(-6, 6)[:, None])[:, 0] * std + mean
        return image

    return model, run
