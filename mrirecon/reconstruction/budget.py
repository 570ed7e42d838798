"""How much memory a reconstruction takes, found on small inputs before the work, and what fits into a budget."""

import os
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

from mrirecon.acquisition.axes import times
from mrirecon.acquisition.scan import Scan
from mrirecon.errors import ResourceError
from mrirecon.memory import available_bytes, peak_bytes
from mrirecon.models.blocks.recurrent import STRIP_BYTES, strips_of
from mrirecon.physics import sense
from mrirecon.physics.coils import espirit
from mrirecon.physics.measurement import Measurement, Reconstructor
from mrirecon.reconstruction.pipeline import Block, reconstruct_block
from mrirecon.reconstruction.precision import Precision
from mrirecon.reconstruction.volume import Job

#: Sides of the inputs on which methods are tried; memory grows at most linearly with the pixels from there on.
TRIAL_SIDES = 64, 80
#: What is loaded at first use is not to be counted.
WARM_UP_SIDE = 32
#: What libraries load late, scratch space within operations, and gaps between what the allocator hands out: measured.
LATE_BYTES = 80 << 20
GAPS = 1.25
#: Copies of a slice while it is put together from a volume on the disk, and of a partition while it is transformed.
HYBRID_COPIES = 3
#: A CPU is busy with one slice. On a GPU more than these were not tried.
MOST_SLICES = {"cpu": 1, "cuda": 16}
#: Share of the memory that is free which is used when no budget is given.
DEFAULT_SHARE = 0.5


def default_budget() -> int:
    """Bytes that a run may keep in memory where nobody says: half of what is free."""
    return int(DEFAULT_SHARE * available_bytes())


def resident_bytes() -> int:
    """Memory that this process holds now."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:  # no Linux: the most that it ever held
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def slices_that_fit(scan: Scan, job: Job, budget: int | None, most: int) -> tuple[int, int]:
    """(slices that can be reconstructed at a time, bytes that are left beside them), at most `most` slices.

    budget: bytes, of the GPU if the job is for one, else of the whole process; None = half of what is free.
    Raises ResourceError, saying what is needed, if it is too small for a single slice.
    """
    device, method = job.device, job.method.reconstructor.to(job.device)
    each = int(GAPS * slice_bytes(scan, method, job.precision, device))
    held = LATE_BYTES + resident_bytes()  # with the libraries and compiled loops that the trials have loaded
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        budget = budget or int(DEFAULT_SHARE * free)
        torch.cuda.set_per_process_memory_fraction(min(budget / total, 1.0), device)
        held = torch.cuda.memory_allocated(device)
    else:
        budget = budget or default_budget()
    if held + each > budget:
        raise ResourceError(
            f"{scan.path}: one slice of {times(scan.shape[1:])} samples takes about {(held + each) / 1e6:.0f} MB with "
            f"this method, {held / 1e6:.0f} MB of them the program itself, and {budget / 1e6:.0f} MB are allowed; "
            "allow more (--memory), combine coils (--compress-coils), or take another method."
        )
    count = min((budget - held) // each, most, scan.slices)
    return count, budget - held - count * each


def slice_bytes(scan: Scan, method: Reconstructor, precision: Precision, device: torch.device) -> int:
    """Peak of what one slice of a scan takes: while it is read, while its maps are estimated, and in the method."""
    _, coils, height, width = scan.shape
    kspace = 8 * coils * height * width
    pixels = height * width
    for run in _trial(coils, WARM_UP_SIDE, method, precision, device):
        run()
    trials = []
    for side in TRIAL_SIDES:
        with _parts_of(side**2 / pixels):
            trials.append([_peak(run) for run in _trial(coils, side, method, precision, device)])
    maps, reconstruction = (_extrapolated(trial, pixels) for trial in zip(*trials, strict=True))
    # The full and the sampled k-space lie beside the maps' estimation, the sampled one and the maps beside the method.
    return max(_reading_bytes(scan) + kspace, 2 * kspace + maps, 2 * kspace + reconstruction)


@contextmanager
def _parts_of(share: float) -> Iterator[None]:
    """Strips of rows and groups of coils of that share of their usual bytes, so as many as in the slice itself."""
    usual = sense.GROUP_BYTES
    sense.GROUP_BYTES = int(usual * share)
    try:
        with strips_of(int(STRIP_BYTES * share)):
            yield
    finally:
        sense.GROUP_BYTES = usual


def _trial(
    coils: int, side: int, method: Reconstructor, precision: Precision, device: torch.device
) -> list[Callable[[], object]]:
    """The maps' estimation and the method on noise of side × side samples."""
    generator = torch.Generator().manual_seed(0)
    kspace = torch.randn(1, coils, side, side, dtype=torch.complex64, generator=generator).to(device)
    mask = torch.ones(1, 1, side, side, dtype=torch.bool, device=device)
    mask[..., 0] = False  # lines along y, for which a CPU lays out the maps anew: the most that a mask can take
    maps = torch.full_like(kspace, coils**-0.5)
    noise_std = torch.ones(1, device=device)
    block = Block(0, Measurement(kspace, mask, maps, noise_std), None, mask[:, 0])
    return [lambda: espirit(kspace, mask), lambda: reconstruct_block(method, block, precision)]


def _peak(run: Callable[[], object]) -> int:
    """Of tensors and of arrays."""
    tracemalloc.start()
    try:
        return peak_bytes(run) + tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def _extrapolated(peaks: Sequence[int], pixels: int) -> int:
    """The line through the peaks of both trials, at `pixels`."""
    small, large = (side * side for side in TRIAL_SIDES)
    slope = (peaks[1] - peaks[0]) / (large - small)
    return int(max(peaks[0] + slope * (pixels - small), peaks[1] * pixels / large if slope * small > peaks[0] else 0))


def _reading_bytes(scan: Scan) -> int:
    """Peak of arrays while one slice is read: measured, but for 3D scans, which are read as a whole."""
    _, coils, height, width = scan.shape
    if any(step.name == "hybrid" for step in scan.steps):
        # The header does not say how long the readout was: twice the positions that are kept, as it usually is.
        return HYBRID_COPIES * 8 * coils * height * max(width, 2 * 2 * scan.slices)
    return _peak(lambda: scan.kspace(scan.slices // 2))
