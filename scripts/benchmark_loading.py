"""Measures loading for training on one CPU thread: header scan of 1,000 small files, and slices of large ones.

    python scripts/benchmark_loading.py [--fastmri-python ENVIRONMENT/bin/python]

Large files are of fastMRI's knee size, 15 coils of 640 × 368, in fastMRI's layout. With --fastmri-python, the Python of
an environment in which the fastmri package is installed, its SliceDataset with VarNetDataTransform reads the same
files, in turns with ours. Times are CPU milliseconds per slice, the best of several rounds, files in the page cache.
Ours is given twice: as loaded, and with the mask applied on the CPU as well, which else is done on the device.
"""

import argparse
import os
import subprocess
import tempfile
import time
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"

import h5py
import numpy as np
import torch

from mrirecon.data.batch import collate
from mrirecon.data.index import index_volumes
from mrirecon.data.scans import ScanSlices
from mrirecon.data.undersampling import Undersampling
from mrirecon.export.fastmri import Acquisition, ismrmrd_header

ROUNDS = 5
FASTMRI = """
import sys, time, torch
torch.set_num_threads(1)
from fastmri.data import SliceDataset
from fastmri.data.subsample import create_mask_for_mask_type
from fastmri.data.transforms import VarNetDataTransform
transform = VarNetDataTransform(create_mask_for_mask_type("equispaced_fraction", [0.08], [4]), use_seed=False)
slices = SliceDataset(sys.argv[1], "multicoil", transform)
for index in range(len(slices)):
    slices[index]
start = time.process_time()
for index in range(len(slices)):
    slices[index]
print((time.process_time() - start) / len(slices))
"""


def main() -> None:
    """Make the files, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--fastmri-python", help="Python of an environment with fastMRI's package")
    python = parser.parse_args().fastmri_python
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = folder
        header_scan(Path(folder) / "small")
        slices(Path(folder) / "large", python)


def header_scan(folder: Path) -> None:
    """Time to know all about 1,000 files: the first time, and again."""
    files = [write(folder / f"{number}.h5", (2, 2, 32, 32), number) for number in range(1000)]
    for what in ("first, reads all samples", "again, from the cache"):
        start = time.perf_counter()
        index_volumes(files)
        print(f"header scan of 1,000 files, {what}: {time.perf_counter() - start:.3f} s")


def slices(folder: Path, fastmri_python: str | None) -> None:
    """CPU time per slice of ours, with and without the mask, and of fastMRI's, in turns."""
    files = [write(folder / f"{number}.h5", (6, 15, 640, 368), number) for number in range(3)]
    undersampling = Undersampling(masks=("equispaced_fraction",), acceleration=(4, 4), acs=(29, 29))
    dataset = ScanSlices(index_volumes(files), undersampling, None, seed=0)
    times: dict[str, list[float]] = {"ours": [], "ours with the mask": [], "fastMRI": []}
    for _ in range(ROUNDS):
        for mask in (False, True):
            times["ours with the mask" if mask else "ours"].append(epoch(dataset, mask))
        if fastmri_python:
            command = [fastmri_python, "-c", FASTMRI, str(folder)]
            times["fastMRI"].append(float(subprocess.run(command, capture_output=True, text=True, check=True).stdout))
    for name, values in times.items():
        if values:
            ratio = f", {min(times['fastMRI']) / min(values):.1f} × fastMRI" if times["fastMRI"] else ""
            print(f"{name}: {min(values) * 1e3:.1f} ms per slice, {1 / min(values):.0f} slices/s per core{ratio}")


def epoch(dataset: ScanSlices, mask: bool) -> float:
    """CPU seconds per slice of one pass."""
    start = time.process_time()
    for index in range(len(dataset)):
        batch = collate([dataset[index]])
        if mask:
            torch.where(batch["mask"], batch["kspace"], 0)
    return (time.process_time() - start) / len(dataset)


def write(path: Path, shape: tuple[int, int, int, int], seed: int) -> Path:
    """A file of noise with all that fastMRI's loader asks for."""
    path.parent.mkdir(exist_ok=True)
    slices, _, height, width = shape
    with h5py.File(path, "w") as file:
        numbers = np.random.default_rng(seed).standard_normal((*shape, 2), dtype=np.float32)
        file["kspace"] = numbers.view(np.complex64)[..., 0]
        file["reconstruction_rss"] = np.ones((slices, min(height, 320), min(width, 320)), np.float32)
        file["ismrmrd_header"] = ismrmrd_header(shape, Acquisition("CORPD_FBK", "none", (0.5, 0.5), 3.0, {}))
        file.attrs.update(acquisition="CORPD_FBK", max=1.0, norm=1.0, patient_id="none")
    return path


if __name__ == "__main__":
    main()
