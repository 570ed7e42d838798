"""Loading for training: slices of large files on one thread, beside fastMRI's loader, and the headers of many."""

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import h5py
import numpy as np
import torch

from mrirecon.benchmark.measure import Row, Settings, Turns, rows, take_turns, threads
from mrirecon.benchmark.peer import PROGRAM, Peer
from mrirecon.data.batch import collate
from mrirecon.data.index import index_volumes
from mrirecon.data.scans import ScanSlices
from mrirecon.data.undersampling import Undersampling
from mrirecon.export.fastmri import Acquisition, ismrmrd_header

FILES, SLICES = 2, 5


def measure_loading(settings: Settings) -> Iterator[Row]:
    """Wall seconds per slice of one thread, files in the page cache. The floor is a copy of the slice in memory."""
    with tempfile.TemporaryDirectory() as name, _cache(Path(name)), threads(1):
        yield from _headers(Path(name) / "small", settings)
        yield from _slices(Path(name) / "large", settings)


def _headers(folder: Path, settings: Settings) -> Iterator[Row]:
    """Time to know all about many files: the first time, which reads their samples, and again, from the cache."""
    settings.say(f"writing {settings.files} files")
    files = [write(folder / f"{number}.h5", (2, 2, 32, 32), number) for number in range(settings.files)]
    for what in ("first", "again"):
        start = time.perf_counter()
        index_volumes(files)
        seconds = (time.perf_counter() - start,)
        yield Row("loading", f"{settings.files:,} headers {what}", "s", seconds)


def _slices(folder: Path, settings: Settings) -> Iterator[Row]:
    settings.say("writing large files")
    files = [write(folder / f"{number}.h5", (SLICES, *settings.knee), number) for number in range(FILES)]
    undersampling = Undersampling(masks=("equispaced_fraction",), acceleration=(4, 4), acs=(29, 29))
    dataset = ScanSlices(index_volumes(files), undersampling, None, seed=0)
    source = torch.zeros(settings.knee, dtype=torch.complex64)
    name = f"one slice of {' × '.join(map(str, settings.knee))}"

    def epoch(masked: bool) -> None:
        for index in range(len(dataset)):
            batch = collate([dataset[index]])
            if masked:
                torch.where(batch["mask"], batch["kspace"], 0)

    methods: dict[str, Callable[[], object]] = {name: lambda: epoch(False)}
    with ExitStack() as stack:
        if settings.peers:
            methods[f"{name}: fastMRI"] = _fastmri(stack, settings.peers, folder)
        turns = take_turns(methods | {"masked": lambda: epoch(True), "floor": source.clone}, settings)
    floor = turns.pop("floor").median
    turns = {name: Turns(tuple(s / len(dataset) for s in t.seconds), t.failure) for name, t in turns.items()}
    masked = turns.pop("masked")
    notes = {f"{name}: fastMRI": "SliceDataset with VarNetDataTransform, mask applied"}
    yield from rows("loading", turns, floor, notes)
    yield Row("loading", f"{name}, mask applied", "s", masked.seconds, floor, note=masked.failure)


def _fastmri(stack: ExitStack, python: Path, folder: Path) -> Callable[[], object]:
    """A call that starts fastMRI's loader when it is first used, so that its failure costs its own row only."""
    peers: list[Peer] = []

    def epoch() -> object:
        if not peers:
            peers.append(stack.enter_context(Peer(python, PROGRAM, "fastmri", "loader", str(folder), "1")))
        return peers[0].call("epoch")

    return epoch


@contextmanager
def _cache(folder: Path) -> Iterator[None]:
    """Keep the index of files in this folder instead of the user's."""
    before = os.environ.get("XDG_CACHE_HOME")
    os.environ["XDG_CACHE_HOME"] = str(folder)
    try:
        yield
    finally:
        os.environ.pop("XDG_CACHE_HOME")
        if before is not None:
            os.environ["XDG_CACHE_HOME"] = before


def write(path: Path, shape: tuple[int, int, int, int], seed: int) -> Path:
    """A file of noise in fastMRI's layout, with all that fastMRI's loader asks for."""
    path.parent.mkdir(exist_ok=True)
    slices, _, height, width = shape
    with h5py.File(path, "w") as file:
        numbers = np.random.default_rng(seed).standard_normal((*shape, 2), dtype=np.float32)
        file["kspace"] = numbers.view(np.complex64)[..., 0]
        file["reconstruction_rss"] = np.ones((slices, min(height, 320), min(width, 320)), np.float32)
        file["ismrmrd_header"] = ismrmrd_header(shape, Acquisition("CORPD_FBK", "none", (0.5, 0.5), 3.0, {}))
        file.attrs.update(acquisition="CORPD_FBK", max=1.0, norm=1.0, patient_id="none")
    return path
