"""Runs another program's network or loader, in the Python in which that is installed; started by `peer.Peer`.

    PYTHON peer_program.py fastmri loader FOLDER THREADS             epoch: all slices once
    PYTHON peer_program.py fastmri|atommic NETWORK FOLDER THREADS    infer, train, tensors, train tensors, resident

What is peculiar to a program is in fastmri_peer.py and atommic_peer.py. A network writes its random weights to
weights.pt, reads kspace.npy, mask.npy and maps.npy, and writes its image to image.npy. Nothing of mrirecon is imported
but files that need only torch, by their paths.
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

HERE = Path(__file__).parent


def main() -> None:
    """Answer each line on stdin with one on stdout."""
    program, what, folder, threads = sys.argv[1:5]
    torch.set_num_threads(int(threads))
    answers, sys.stdout = sys.stdout, sys.stderr  # whatever the package prints is no answer
    peer = module(HERE / f"{program}_peer.py")
    torch.manual_seed(0)
    if what == "loader":
        actions = {"epoch": peer.loader(folder)}
    else:
        model, run = peer.network(what, Path(folder))
        actions = network(model, run, Path(folder))
    print(json.dumps("ready"), file=answers, flush=True)
    for line in sys.stdin:
        print(json.dumps(actions[line.strip()]()), file=answers, flush=True)


def network(model: nn.Module, run: Callable[[], Tensor], folder: Path) -> dict[str, Callable[[], object]]:
    """What can be asked of a network; `run()` is its image (1, y, x) of the data in the folder, real or complex."""
    torch.save(model.state_dict(), folder / "weights.pt")
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-4)

    def infer() -> None:
        model.eval()
        with torch.inference_mode():
            np.save(folder / "image.npy", run().numpy())

    def train() -> None:
        model.train()
        optimiser.zero_grad()
        run().abs().mean().backward()
        optimiser.step()

    peak_bytes = module(HERE.parent / "memory.py").peak_bytes
    return {
        "infer": infer,
        "train": train,
        "tensors": lambda: peak_bytes(infer),
        "train tensors": lambda: peak_bytes(train),
        "resident": module(HERE / "resident.py").peak_of_this_process,
    }


def module(path: Path) -> Any:
    """A file of Python, loaded by its path, as nothing beside this program can be imported by name."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


if __name__ == "__main__":
    main()
