"""fastMRI's networks beside ours, with the same weights on the same data; theirs run in a Python of their own."""

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mrirecon.benchmark.measure import Row, Settings, reason, rows, take_turns, threads
from mrirecon.benchmark.networks import autocast
from mrirecon.benchmark.peer import Peer
from mrirecon.benchmark.subjects import ACCELERATION, CENTRE, head
from mrirecon.memory import peak_bytes
from mrirecon.models.importers import load_foreign
from mrirecon.physics.measurement import Measurement, Reconstructor
from mrirecon.physics.sampling import mask_by_name
from mrirecon.weights.foreign import read_foreign

PROGRAM = Path(__file__).with_name("fastmri_peer.py")
#: Their names there → what they are.
NETWORKS = {"VarNet": "VarNet 12 × 18", "Unet": "U-Net 32 × 4"}


def measure_fastmri(settings: Settings) -> Iterator[Row]:
    """Inference, training and memory; nothing without `settings.peers`."""
    if settings.peers is None:
        note = "not measured: name an environment with --peers, see scripts/benchmark_peers.sh"
        yield Row("fastmri", "fastMRI's networks", "s", (), note=note)
        return
    cases = [(kind, settings.coils, settings.matrix, False) for kind in NETWORKS]
    if not settings.quick:
        cases.append(("VarNet", settings.knee[0], settings.knee[1:], True))
    for kind, coils, matrix, large in cases:
        name = NETWORKS[kind] + (f", {coils} × {matrix[0]} × {matrix[1]}" if large else "")
        try:
            with tempfile.TemporaryDirectory() as folder, threads(settings.threads):
                measurement = _data(Path(folder), coils, matrix, settings)
                with Peer(settings.peers, PROGRAM, kind, folder, str(settings.threads)) as peer:
                    yield from _side_by_side(name, peer, Path(folder), measurement, large, settings)
        except Exception as error:  # whatever keeps the peer from running
            yield Row("fastmri", f"{name}: fastMRI", "s", (), note=f"failed: {reason(error)}")


def _data(folder: Path, coils: int, matrix: tuple[int, int], settings: Settings) -> Measurement:
    """One undersampled slice, also as the files that the peer reads."""
    acs = min(CENTRE, min(matrix) // (ACCELERATION * 3 // 2))
    mask = mask_by_name("equispaced", ACCELERATION, acs).mask(matrix, 0, "y")[None, None, :1]
    kspace = head(settings, coils, matrix).kspace * mask.to(settings.device)
    np.save(folder / "kspace.npy", kspace.cpu().numpy())
    np.save(folder / "mask.npy", mask.numpy())
    return Measurement(kspace, mask.to(settings.device))


def _side_by_side(
    name: str, peer: Peer, folder: Path, measurement: Measurement, large: bool, settings: Settings
) -> Iterator[Row]:
    network = load_foreign("fastmri", read_foreign(folder / "weights.pt").state_dict).to(settings.device)
    theirs = f"{name}, inference {{}}: fastMRI fp32".format

    images: dict[str, Tensor] = {}

    def infer(precision: str) -> None:
        with torch.inference_mode(), autocast(precision, settings.device):
            images[precision] = network.eval()(measurement)[-1]

    settings.say(f"{name}, memory")  # first, because it warms up what is then too slow to be repeated
    ours, other = peak_bytes(lambda: infer("fp32")), peer.call("tensors")
    methods: dict[str, Callable[[], object]] = {
        "fp32": lambda: infer("fp32"),
        "bf16": lambda: infer("bf16"),
        "fastMRI": lambda: peer.call("infer"),
    }
    turns = take_turns(methods, settings)
    for precision in ("fp32", "bf16"):
        note = _difference(images.get(precision), folder / "image.npy")
        named = {f"{name}, inference {precision}": turns[precision], theirs(precision): turns["fastMRI"]}
        yield from rows("fastmri", named, notes={f"{name}, inference {precision}": note})
    if not large and not settings.quick:
        yield from _training(name, network, peer, measurement, settings)
    yield Row("fastmri", f"{name}, tensors", "B", (ours,))
    yield Row("fastmri", f"{name}, tensors: fastMRI", "B", (other,), ratio=other / ours)


def _training(
    name: str, network: Reconstructor, peer: Peer, measurement: Measurement, settings: Settings
) -> Iterator[Row]:
    """A step of Adam on the mean magnitude of the image, which stands for any loss."""
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-4)

    def step(precision: str) -> None:
        network.train()
        optimiser.zero_grad()
        with autocast(precision, settings.device):
            loss = network(measurement)[-1].abs().mean()
        loss.backward()
        optimiser.step()

    methods: dict[str, Callable[[], object]] = {
        "fp32": lambda: step("fp32"),
        "bf16": lambda: step("bf16"),
        "fastMRI": lambda: peer.call("train"),
    }
    turns = take_turns(methods, replace(settings, rounds=min(settings.rounds, 2)))
    for precision in ("fp32", "bf16"):
        named = f"{name}, training step {precision}"
        yield from rows("fastmri", {named: turns[precision], f"{named}: fastMRI fp32": turns["fastMRI"]})


def _difference(image: Tensor | None, path: Path) -> str:
    """The largest difference to the peer's image, as a share of its largest value."""
    if image is None or not path.exists():
        return ""
    theirs = np.load(path)
    difference = np.abs(image.real.float().cpu().numpy() - theirs).max() / np.abs(theirs).max()
    return f"image differs from fastMRI's by {difference:.0e} of its maximum"
