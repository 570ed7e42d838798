"""Measures coil maps and the likelihood gradient on the CPU, beside sigpy, BART and a textbook implementation.

    python scripts/benchmark_physics.py [--threads 1 2] [--rounds 7]

One simulated slice of 12 coils × 256², calibrated on its 24 × 24 centre. The methods take turns; printed are medians of
wall and of CPU milliseconds, and how often ours would fit into each. BART takes part if `bart` is on the PATH; starting
it and reading and writing its files is part of its time. The textbook gradient S^H F^-1 M (F S x - y) is complex, with
fftshift and ifftshift about each transform.
"""

import argparse
import os
import resource
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from sigpy.mri.app import EspiritCalib

from mrirecon.physics.coils import espirit
from mrirecon.physics.fourier import fftc, ifftc
from mrirecon.physics.measurement import Measurement
from mrirecon.physics.sense import SenseOperator
from mrirecon.simulation.coils import coil_maps

COILS, SIDE, CENTRE = 12, 256, 24


def main() -> None:
    """Measure and print, for each number of threads."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    kspace, maps = simulated_slice()
    centre = torch.zeros(1, 1, SIDE, SIDE, dtype=torch.bool)
    block = slice(SIDE // 2 - CENTRE // 2, SIDE // 2 + CENTRE // 2)
    centre[..., block, block] = True
    random = torch.rand(SIDE, SIDE, generator=torch.Generator().manual_seed(1)) < 0.25
    masks = {"2D": random | centre[0, 0], "y lines": random[:, :1], "x lines": random[:1]}
    for threads in arguments.threads:
        torch.set_num_threads(threads)
        with tempfile.TemporaryDirectory() as folder:
            methods = {"mrirecon": lambda: espirit(kspace, centre)}
            if shutil.which("bart"):
                methods["bart ecalib -m1"] = bart_ecalib(kspace, Path(folder), threads)
            times = take_turns(methods, arguments.rounds)
        times |= take_turns({"sigpy EspiritCalib": sigpy_espirit(kspace)}, 1)
        report(f"ESPIRiT, {threads} threads", times)
        for name, mask in masks.items():
            report(f"gradient, {name} mask, {threads} threads", gradients(kspace, maps, mask, arguments.rounds))


def simulated_slice() -> tuple[torch.Tensor, torch.Tensor]:
    """K-space and maps, complex64 (1, coils, y, x), of a textured ellipse with a little noise."""
    rng = np.random.default_rng(0)
    y, x = np.meshgrid(*2 * [np.linspace(-1, 1, SIDE)], indexing="ij")
    image = ((y / 0.8) ** 2 + (x / 0.7) ** 2 < 1) * (1 + 0.5 * np.sin(7 * x) * np.cos(5 * y))
    maps = torch.from_numpy(coil_maps((SIDE, SIDE), COILS, rng)).to(torch.complex64)[None]
    noise = 0.002 * torch.randn(maps.shape, dtype=maps.dtype, generator=torch.Generator().manual_seed(0))
    return fftc(maps * torch.from_numpy(image).to(maps.dtype)) + noise, maps


def bart_ecalib(kspace: torch.Tensor, folder: Path, threads: int) -> Callable[[], object]:
    """A call of BART on files in `folder`."""
    shape = (SIDE, SIDE, 1, COILS)
    (folder / "kspace.hdr").write_text("# Dimensions\n" + " ".join(map(str, shape)) + "\n")
    kspace[0].numpy().tofile(folder / "kspace.cfl")
    command = ["bart", "ecalib", "-m1", f"-r{CENTRE}", "-k6", str(folder / "kspace"), str(folder / "maps")]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    return lambda: subprocess.run(command, env=environment, check=True, capture_output=True)


def sigpy_espirit(kspace: torch.Tensor) -> Callable[[], object]:
    """A call of sigpy's app, which can run once only and is therefore made anew."""
    return lambda: EspiritCalib(kspace[0].numpy(), calib_width=CENTRE, show_pbar=False).run()


def gradients(kspace: torch.Tensor, maps: torch.Tensor, mask: torch.Tensor, rounds: int) -> dict[str, np.ndarray]:
    """Times of ours and of the textbook's, which must agree."""
    measurement = Measurement(kspace * mask, mask[None, None], maps)
    operator = SenseOperator(measurement)
    image = operator.adjoint_data.clone()

    def textbook() -> torch.Tensor:
        residual = mask * (fftc(maps * image[:, None]) - measurement.kspace)
        return (maps.conj() * ifftc(residual)).sum(dim=1)

    torch.testing.assert_close(operator.gradient(image), textbook(), rtol=1e-4, atol=1e-4)
    return take_turns({"mrirecon": lambda: operator.gradient(image), "textbook": textbook}, 10 * rounds)


def take_turns(methods: dict[str, Callable[[], object]], rounds: int) -> dict[str, np.ndarray]:
    """Medians [wall, CPU] in milliseconds of each method, called one after the other in every round."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in methods}
    for method in methods.values():
        method()
    for _ in range(rounds):
        for name, method in methods.items():
            wall, cpu = time.perf_counter(), cpu_seconds()
            method()
            times[name].append((time.perf_counter() - wall, cpu_seconds() - cpu))
    return {name: 1e3 * np.median(values, axis=0) for name, values in times.items()}


def cpu_seconds() -> float:
    """User and system time of this process and of the finished ones that it started."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def report(title: str, times: dict[str, np.ndarray]) -> None:
    """Print medians and ratios to ours."""
    print(title)
    for name, (wall, cpu) in times.items():
        ratio_wall, ratio_cpu = np.array([wall, cpu]) / times["mrirecon"]
        print(f"  {name:20} {wall:9.1f} ms wall ({ratio_wall:5.1f}×) {cpu:9.1f} ms CPU ({ratio_cpu:5.1f}×)", flush=True)


if __name__ == "__main__":
    main()
