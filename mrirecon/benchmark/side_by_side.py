"""Another program's network beside ours, with the same weights on the same data; theirs runs in a Python of its own."""

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mrirecon.benchmark.measure import Row, Settings, reason, rows, take_turns, threads
from mrirecon.benchmark.networks import autocast
from mrirecon.benchmark.peer import PROGRAM, Peer
from mrirecon.benchmark.resident import peak_resident_bytes
from mrirecon.memory import peak_bytes
from mrirecon.models.blocks.checkpointing import checkpointing
from mrirecon.models.importers import load_foreign
from mrirecon.physics.measurement import Measurement, Reconstructor
from mrirecon.weights.foreign import read_foreign

#: What of a Measurement the peer reads, too → the name of its file.
FILES = {"kspace": "kspace.npy", "mask": "mask.npy", "sensitivities": "maps.npy", "calibration": "calibration.npy"}
RESIDENT = "of a process, Python and libraries included"


@dataclass(frozen=True)
class Case:
    """One network of another program.

    section: of the benchmark, which is also what the importer and the peer's side are called. program: its name.
    kind: of the network, for the peer's side. name: of the network, for reading. data: makes the slice, on the CPU.
    training: whether a training step is measured, too.
    """

    section: str
    program: str
    kind: str
    name: str
    data: Callable[[], Measurement]
    training: bool

    def peer(self, folder: Path, settings: Settings) -> Peer:
        """The network in a process of its own, which finds its data in the folder."""
        assert settings.peers
        return Peer(settings.peers, PROGRAM, self.section, self.kind, str(folder), str(settings.threads))


def side_by_side(cases: list[Case], settings: Settings) -> Iterator[Row]:
    """Inference, training and memory; nothing without `settings.peers`. A peer that fails costs its network's rows."""
    for case in cases:
        if settings.peers is None:
            note = "not measured: name an environment with --peers, see scripts/benchmark_peers.sh"
            yield Row(case.section, f"{case.program}'s networks", "s", (), note=note)
            return
        try:
            with tempfile.TemporaryDirectory() as name, threads(settings.threads):
                folder = Path(name)
                _write(folder, case.data())
                with case.peer(folder, settings) as peer:
                    yield from _beside(case, peer, folder, settings)
        except Exception as error:
            yield Row(case.section, f"{case.name}: {case.program}", "s", (), note=f"failed: {reason(error)}")


def _write(folder: Path, measurement: Measurement) -> None:
    for name, file in FILES.items():
        if (tensor := getattr(measurement, name)) is not None:
            np.save(folder / file, tensor.numpy())


def _read(section: str, folder: Path) -> tuple[Reconstructor, Measurement]:
    """Our network of the peer's weights, and the slice."""
    given = {name: torch.from_numpy(np.load(folder / f)) for name, f in FILES.items() if (folder / f).exists()}
    return load_foreign(section, read_foreign(folder / "weights.pt").state_dict), Measurement(**given)


def _beside(case: Case, peer: Peer, folder: Path, settings: Settings) -> Iterator[Row]:
    network, measurement = _read(case.section, folder)
    network, measurement = network.to(settings.device), measurement.to(settings.device)
    name, theirs = case.name, f"{case.name}, inference {{}}: {case.program} fp32".format
    images: dict[str, Tensor] = {}

    def infer(precision: str) -> None:
        with torch.inference_mode(), autocast(precision, settings.device):
            images[precision] = network.eval()(measurement)[-1]

    settings.say(f"{name}, memory")  # first, because it warms up what is then too slow to be repeated
    ours, other = peak_bytes(lambda: infer("fp32")), peer.call("tensors")
    methods: dict[str, Callable[[], object]] = {
        "fp32": lambda: infer("fp32"),
        "bf16": lambda: infer("bf16"),
        case.program: lambda: peer.call("infer"),
    }
    turns = take_turns(methods, settings)
    for precision in ("fp32", "bf16"):
        note = _difference(images.get(precision), folder / "image.npy", case.program)
        named = {f"{name}, inference {precision}": turns[precision], theirs(precision): turns[case.program]}
        yield from rows(case.section, named, notes={f"{name}, inference {precision}": note})
    yield Row(case.section, f"{name}, tensors", "B", (ours,))
    yield Row(case.section, f"{name}, tensors: {case.program}", "B", (other,), ratio=other / ours)
    if case.training:
        yield from _training(case, Training(network, measurement), peer, folder, settings)


class Training:
    """Steps of Adam on the mean magnitude of the image, which stands for any loss."""

    def __init__(self, network: Reconstructor, measurement: Measurement):
        self.network = network
        self.measurement = measurement
        self.optimiser = torch.optim.Adam(network.parameters(), lr=1e-4)

    def step(self, precision: str, checkpointed: bool = False) -> None:
        self.network.train()
        self.optimiser.zero_grad()
        with checkpointing(checkpointed), autocast(precision, self.measurement.kspace.device):
            loss = self.network(self.measurement)[-1].abs().mean()
        loss.backward()
        self.optimiser.step()


def _training(case: Case, training: Training, peer: Peer, folder: Path, settings: Settings) -> Iterator[Row]:
    methods: dict[str, Callable[[], object]] = {
        "fp32": lambda: training.step("fp32"),
        "bf16": lambda: training.step("bf16"),
        case.program: lambda: peer.call("train"),
    }
    training.step("fp32")  # first steps take up to twice as long, and later ones may be too slow to be repeated
    peer.call("train")
    turns = take_turns(methods, replace(settings, rounds=min(settings.rounds, 2)))
    name, theirs = f"{case.name}, training step", f"{case.program} fp32"
    for precision in ("fp32", "bf16"):
        named = {f"{name} {precision}": turns[precision], f"{name} {precision}: {theirs}": turns[case.program]}
        yield from rows(case.section, named)
    settings.say(f"{name}, memory")
    kinds = {"bf16": False, "bf16 checkpointed": True}
    ours = {kind: peak_bytes(partial(training.step, "bf16", how)) for kind, how in kinds.items()}
    if ours["bf16 checkpointed"] >= ours["bf16"]:
        del kinds["bf16 checkpointed"]  # a network without repeated parts
    other = peer.call("train tensors")
    for kind in kinds:
        yield Row(case.section, f"{name} {kind}, tensors", "B", (ours[kind],))
        yield Row(case.section, f"{name} {kind}, tensors: {theirs}", "B", (other,), ratio=other / ours[kind])
    if settings.device.type != "cpu":
        return
    with case.peer(folder, settings) as fresh:
        fresh.call("train")
        other = fresh.call("resident")
    for kind, how in kinds.items():
        alone = peak_resident_bytes(_alone, case.section, folder, settings.threads, how)
        yield Row(case.section, f"{name} {kind}, resident memory", "B", (alone,), note=RESIDENT)
        yield Row(case.section, f"{name} {kind}, resident memory: {theirs}", "B", (other,), ratio=other / alone)


def _alone(section: str, folder: Path, count: int, checkpointed: bool) -> None:
    """One training step in a fresh process."""
    torch.set_num_threads(count)
    Training(*_read(section, folder)).step("bf16", checkpointed)


def _difference(image: Tensor | None, path: Path, program: str) -> str:
    """The largest difference to the peer's image, as a share of its largest value."""
    if image is None or not path.exists():
        return ""
    theirs = np.load(path)
    difference = np.abs(image.cpu().numpy() - theirs).max() / np.abs(theirs).max()
    return f"image differs from {program}'s by {difference:.0e} of its maximum"
