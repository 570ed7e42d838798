"""A whole scan, file to file, as `mrirecon reconstruct` does it: where the time goes, and what memory it takes."""

import cProfile
import inspect
import logging
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import CodeType
from typing import Any

import numpy as np
import torch

from mrirecon.acquisition.sampling import sampling_of
from mrirecon.acquisition.scan import Scan, sha256_of
from mrirecon.benchmark.measure import Row, Settings, rows, take_turns, threads
from mrirecon.benchmark.resident import peak_resident_bytes
from mrirecon.benchmark.subjects import ACCELERATION, SNR, centre
from mrirecon.conditioning.opening import open_scans
from mrirecon.export.fastmri import Acquisition, write_fastmri
from mrirecon.export.hdf5 import ReconstructionWriter, reconstruction_file
from mrirecon.export.nifti import write_nifti
from mrirecon.export.png import preview
from mrirecon.physics.coils import espirit
from mrirecon.physics.sampling import mask_by_name
from mrirecon.reconstruction.methods import default_method, method_by_name
from mrirecon.reconstruction.outputs import FOLDER_DEFAULT, outputs_for
from mrirecon.reconstruction.pipeline import measure_blocks, reconstruct_block
from mrirecon.reconstruction.precision import fast_precision
from mrirecon.reconstruction.volume import Job, reconstruct_volume
from mrirecon.simulation.phantom import head_phantom
from mrirecon.simulation.scan import simulate_slices

#: Slices of the two scans whose memory is compared.
FEW, MANY = 4, 16


def measure_scan(settings: Settings) -> Iterator[Row]:
    """Time of an undersampled scan with the default method. The floor is the sum of its coil maps and its network."""
    with tempfile.TemporaryDirectory() as name, threads(settings.threads):
        folder = Path(name)
        path = write_scan(folder / "scan.h5", settings, settings.slices)
        method = default_method()
        turns = take_turns(
            {
                "file to file": lambda: reconstruct(path, folder / "out", method, settings.device),
                "sum": maps_and_network(path, method, settings.device),
            },
            settings,
        )
        floor = turns.pop("sum").median
        note = f"{settings.slices} slices of {settings.size} with {method}; the floor is its maps and network"
        yield from rows("scan", turns, floor, {"file to file": note})
        settings.say("where the time of a scan goes")
        for part, seconds in breakdown(lambda: reconstruct(path, folder / "out", method, settings.device)).items():
            yield Row("scan", f"of which {part}", "s", (seconds,), note="in one run under a profiler")
    if settings.device.type == "cpu" and not settings.quick:
        yield from _memory(settings)


def reconstruct(path: Path, output: Path, method: str, device: torch.device) -> None:
    """Read, reconstruct and write, with the default outputs of a folder."""
    scan = open_scans(path)[0]
    found = method_by_name(method)
    job = Job(method=found, device=device, precision=fast_precision(found.reconstructor, device))
    logging.disable(logging.WARNING)  # the position of the head is not known, and need not be
    try:
        reconstruct_volume(scan, sampling_of(scan), outputs_for(output, FOLDER_DEFAULT, None), job)
    finally:
        logging.disable(logging.NOTSET)


def maps_and_network(path: Path, method: str, device: torch.device) -> Callable[[], object]:
    """A call that does nothing but the maps of every slice and the method on it, all being in memory already."""
    scan = open_scans(path)[0]
    reconstructor = method_by_name(method).reconstructor.to(device)
    precision = fast_precision(reconstructor, device)
    blocks = list(measure_blocks(scan, sampling_of(scan), device=device))

    def run() -> None:
        for block in blocks:
            maps = espirit(block.measurement.kspace, block.measurement.mask)
            made = replace(block, measurement=block.measurement.with_sensitivities(maps))
            reconstruct_block(reconstructor, made, precision)

    return run


def breakdown(run: Callable[[], object]) -> dict[str, float]:
    """Seconds of the parts of a reconstruction, from a profile of this thread."""
    parts: dict[str, list[Callable[..., Any]]] = {  # none of these is called by another
        "reading": [Scan.kspace, sha256_of],
        "maps": [espirit],
        "network": [reconstruct_block],
        "writing": [ReconstructionWriter.__call__, reconstruction_file, write_nifti],
        "preview": [preview],
    }
    owner: dict[CodeType, str] = {
        inspect.unwrap(function).__code__: part for part, functions in parts.items() for function in functions
    }
    profile = cProfile.Profile()
    profile.runcall(run)
    seconds = dict.fromkeys([*parts, "the rest"], 0.0)
    entries = profile.getstats()
    for entry in entries:
        if isinstance(entry.code, CodeType) and (part := owner.get(entry.code)):
            seconds[part] += entry.totaltime
    total = max(entry.totaltime for entry in entries)
    seconds["the rest"] = total - sum(seconds.values())
    return seconds


def write_scan(path: Path, settings: Settings, slices: int) -> Path:
    """An undersampled scan of a simulated head."""
    images = head_phantom(settings.matrix, slices, "t2", seed=20_000).images
    mask = mask_by_name("equispaced", ACCELERATION, centre(settings)).mask(settings.matrix, 0, "y").numpy()
    kspace = (np.where(mask, full, 0) for full in simulate_slices(images, settings.coils, SNR, seed=0))
    acquisition = Acquisition("AXT2", "simulated", (1.0, 1.0), 4.0, {})
    write_fastmri(path, kspace, (slices, settings.coils, *settings.matrix), acquisition, {"simulated": True})
    return path


def _memory(settings: Settings) -> Iterator[Row]:
    """Peak memory of a process that reconstructs a scan of few slices and many, with the quickest method."""
    peaks = {}
    for slices in (FEW, MANY):
        settings.say(f"memory of a scan of {slices} slices")
        with tempfile.TemporaryDirectory() as name:
            path = write_scan(Path(name) / "scan.h5", settings, slices)
            output = Path(name) / "out"
            peaks[slices] = peak_resident_bytes(reconstruct, path, output, "zero-filled", torch.device("cpu"))
    yield Row("scan", f"resident memory, {FEW} slices", "B", (peaks[FEW],))
    many = f"resident memory with {MANY // FEW} times as many slices"
    yield Row("scan", many, "B", (peaks[MANY],), floor=peaks[FEW], note="the floor is that of the few slices")
