"""Runs fastMRI's networks or loader, in the Python in which fastMRI is installed; started by `peer.Peer`.

    PYTHON fastmri_peer.py loader FOLDER THREADS          epoch: all slices once
    PYTHON fastmri_peer.py VarNet|Unet FOLDER THREADS     infer, train, tensors, train tensors

A network writes its random weights to weights.pt, reads kspace.npy and mask.npy, and writes its image to image.npy.
Nothing of mrirecon is imported but the one file that measures the memory of tensors.
"""

import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


def main() -> None:
    """Answer each line on stdin with one on stdout."""
    what, folder, threads = sys.argv[1:4]
    torch.set_num_threads(int(threads))
    answers, sys.stdout = sys.stdout, sys.stderr  # whatever the package prints is no answer
    actions = loader(folder) if what == "loader" else network(what, Path(folder))
    print(json.dumps("ready"), file=answers, flush=True)
    for line in sys.stdin:
        print(json.dumps(actions[line.strip()]()), file=answers, flush=True)


def loader(folder: str) -> dict[str, Callable[[], object]]:
    """fastMRI's data set of the files in a folder."""
    from fastmri.data import SliceDataset  # type: ignore[import-not-found]
    from fastmri.data.subsample import create_mask_for_mask_type  # type: ignore[import-not-found]
    from fastmri.data.transforms import VarNetDataTransform  # type: ignore[import-not-found]

    transform = VarNetDataTransform(create_mask_for_mask_type("equispaced_fraction", [0.08], [4]), use_seed=False)
    slices = SliceDataset(folder, "multicoil", transform)

    def epoch() -> int:
        for index in range(len(slices)):
            slices[index]
        return len(slices)

    return {"epoch": epoch}


def network(name: str, folder: Path) -> dict[str, Callable[[], object]]:
    """fastMRI's VarNet of 12 cascades and 18 channels, or its U-Net in its pipeline."""
    import fastmri  # type: ignore[import-not-found]
    from fastmri.data.transforms import normalize_instance
    from fastmri.models import Unet, VarNet  # type: ignore[import-not-found]

    torch.manual_seed(0)
    model: nn.Module = VarNet() if name == "VarNet" else Unet(1, 1)
    torch.save(model.state_dict(), folder / "weights.pt")
    kspace = torch.view_as_real(torch.from_numpy(np.load(folder / "kspace.npy"))).contiguous()
    mask = torch.from_numpy(np.load(folder / "mask.npy"))[..., None]
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-4)

    def run() -> Tensor:
        image: Tensor
        if name == "VarNet":
            image = model(kspace, mask)
        else:
            whole = fastmri.rss(fastmri.complex_abs(fastmri.ifft2c(kspace)), dim=1)
            normalised, mean, std = normalize_instance(whole, eps=1e-11)
            image = model(normalised.clamp(-6, 6)[:, None])[:, 0] * std + mean
        return image

    def infer() -> None:
        model.eval()
        with torch.inference_mode():
            np.save(folder / "image.npy", run().numpy())

    def train() -> None:
        model.train()
        optimiser.zero_grad()
        run().abs().mean().backward()
        optimiser.step()

    peak_bytes = memory_module().peak_bytes
    return {
        "infer": infer,
        "train": train,
        "tensors": lambda: peak_bytes(infer),
        "train tensors": lambda: peak_bytes(train),
    }


def memory_module() -> Any:
    """mrirecon/memory.py, which needs nothing but torch, loaded by its path."""
    spec = importlib.util.spec_from_file_location("memory", Path(__file__).parents[1] / "memory.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    main()
