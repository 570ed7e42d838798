"""ATOMMIC's networks, for `peer_program`.

ATOMMIC 1.0.1 asks for Python 3.10 and packages of that time. What its modules import and its networks do not use gets a
stand-in here, so that it need be neither there nor in order; all that computes is ATOMMIC's own, unchanged.
"""

import importlib
import sys
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import torch
from torch import Tensor, nn

#: For files, downloads, configuration, masks and logging. torchvision is asked for by torchmetrics, and PyPI's does not
#: fit every build of torch. The dataclasses of atommic.core.conf are refused from Python 3.11 on.
STAND_INS = ("atommic.core.conf", "defusedxml", "huggingface_hub", "hydra", "numba", "torchvision", "wandb")
FOURIER = {"fft_centered": True, "fft_normalization": "ortho", "spatial_dims": [-2, -1]}
RIM = {
    "conv_filters": [64, 64, 2],
    "conv_kernels": [5, 3, 3],
    "conv_dilations": [1, 2, 1],
    "conv_bias": [True, True, False],
    "recurrent_filters": [64, 64, 0],
    "recurrent_kernels": [1, 1, 0],
    "recurrent_dilations": [1, 1, 0],
    "recurrent_bias": [True, True, False],
    "depth": 2,
    "conv_dim": 2,
    "time_steps": 8,
    "no_dc": True,  # implicit: the gradient is an input
    "keep_prediction": True,
}
#: Name of our configuration → module, class and settings there.
NETWORKS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "cirim": ("cirim", "CIRIM", {**RIM, "recurrent_layer": "IndRNN", "num_cascades": 5}),
    "rim_gru": ("cirim", "CIRIM", {**RIM, "recurrent_layer": "GRU", "num_cascades": 1}),
    "e2evn": (
        "varnet",
        "VarNet",
        {
            "num_cascades": 8,
            "channels": 18,
            "pooling_layers": 4,
            "no_dc": False,
            "estimate_coil_sensitivity_maps_with_nn": True,
            "coil_sensitivity_maps_nn_mask_type": "1D",
        },
    ),
    "unet": ("unet", "UNet", {"channels": 64, "pooling_layers": 2}),
}


class StandIns(MetaPathFinder, Loader):
    """Modules in which everything is found and nothing happens."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        known = any(f"{name}.".startswith(f"{package}.") for package in STAND_INS)
        return ModuleSpec(name, self, is_package=True) if known else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return MagicMock(name=spec.name, __path__=[])

    def exec_module(self, module: ModuleType) -> None:
        pass


def network(name: str, folder: Path) -> tuple[nn.Module, Callable[[], Tensor]]:
    """The network, and its complex image (1, y, x)."""
    import atommic  # type: ignore[import-not-found]  # noqa: F401 (or say that it is not there)

    sys.meta_path.insert(0, StandIns())
    from atommic.collections.common.parts.fft import ifft2  # type: ignore[import-not-found]
    from atommic.collections.common.parts.utils import coil_combination_method  # type: ignore[import-not-found]
    from omegaconf import OmegaConf  # type: ignore[import-not-found]

    module, kind, settings = NETWORKS[name]
    made = getattr(importlib.import_module(f"atommic.collections.reconstruction.nn.{module}"), kind)
    model: nn.Module = made(OmegaConf.create({**settings, **FOURIER, "coil_dim": 1, "dimensionality": 2}))
    kspace, given = (
        torch.view_as_real(torch.from_numpy(np.load(folder / file))).contiguous() for file in ("kspace.npy", "maps.npy")
    )
    mask = torch.from_numpy(np.load(folder / "mask.npy"))[..., None]

    def run() -> Tensor:
        """As in ATOMMIC's training step: maps, if a network makes them, then the start image, then the network."""
        make_maps = getattr(model, "coil_sensitivity_maps_nn", None)
        maps = make_maps(kspace, mask, torch.ones_like(kspace)) if make_maps else given
        start = coil_combination_method(ifft2(kspace, *FOURIER.values()), maps, "SENSE", 1)
        image = model(kspace, maps, mask, start)
        while isinstance(image, list):  # of cascades, of time steps
            image = image[-1]
        complex_image: Tensor = image
        return complex_image

    return model, run
