"""Chooses the defaults of CompressedSensing and CGSense on simulated slices, and prints Markdown tables of PSNR.

    python scripts/tune_compressed_sensing.py [--images VOLUME.nii.gz …] > table.md

Each image gets simulated coils, phase and noise, is undersampled by four masks, and is reconstructed with each setting
with the maps that ESPIRiT finds in the undersampled data. PSNR in dB, over the support of the maps, against the coil
combination of all of k-space. Images are the middle slices of NIfTI magnitude volumes, or else phantoms in four
contrasts. Never run it on scans that are meant for testing.
"""

import argparse
from pathlib import Path

import nibabel
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mrirecon.acquisition.scan import Scan
from mrirecon.classical.cg_sense import CGSense
from mrirecon.classical.compressed_sensing import CompressedSensing
from mrirecon.metrics import psnr
from mrirecon.physics.coils import espirit
from mrirecon.physics.fourier import fftc, ifftc
from mrirecon.physics.measurement import Measurement, Reconstructor
from mrirecon.physics.sampling import mask_by_name
from mrirecon.simulation.coils import coil_maps
from mrirecon.simulation.noise import coil_noise
from mrirecon.simulation.phantom import head_phantom
from mrirecon.simulation.phase import smooth_phase

MASKS = (("equispaced", 3), ("equispaced", 4), ("gaussian2d", 4), ("gaussian2d", 8))
ACS = 24
PHANTOM_SEED = 20_000  # a head that nothing is trained on
WEIGHTS = (0.001, 0.002, 0.003, 0.004, 0.006, 0.008, 0.012)
FISTA_STEPS = (30, 60)
CG_STEPS = (3, 4, 5, 6, 7, 8, 10, 12, 15)

Case = tuple[Measurement, NDArray[np.complex64]]


def main() -> None:
    """Simulate, sweep, print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", nargs="*", type=Path, default=[], help="NIfTI magnitude volumes; none = phantoms")
    parser.add_argument("--size", type=int, default=256, help="largest matrix; k-space is cropped to it (default 256)")
    parser.add_argument("--coils", type=int, default=8, help="receive coils (default 8)")
    parser.add_argument("--snr", type=float, nargs="+", default=[45], help="brightest signal / noise (default 45)")
    arguments = parser.parse_args()
    images = [middle_slice(path) for path in arguments.images] or phantoms(arguments.size)
    scans = [
        simulate(image, arguments.size, arguments.coils, snr, seed)
        for snr in arguments.snr
        for seed, image in enumerate(images)
    ]
    cases = [[undersample(*scan, name, acceleration) for scan in scans] for name, acceleration in MASKS]
    for steps in FISTA_STEPS:
        table(
            f"CompressedSensing, {steps} iterations, by weight",
            {w: CompressedSensing(w, steps) for w in WEIGHTS},
            cases,
        )
    table("CGSense, by iterations", {n: CGSense(n) for n in CG_STEPS}, cases)


def middle_slice(path: Path) -> NDArray[np.float32]:
    """The middle of a volume's third axis."""
    volume = nibabel.Nifti1Image.from_filename(path).get_fdata(dtype=np.float32)
    return volume[:, :, volume.shape[2] // 2]


def phantoms(size: int) -> list[NDArray[np.float32]]:
    """One slice of a head in each contrast, each of another person."""
    return [
        head_phantom((size, size), 3, contrast, PHANTOM_SEED + i, lesions=6).images[1]
        for i, contrast in enumerate(("t1", "t2", "flair", "pd"))
    ]


def simulate(image: NDArray[np.float32], size: int, coils: int, snr: float, seed: int) -> tuple[Tensor, float]:
    """Noisy k-space (1, coils, y, x) of a magnitude image, and the scan's scale that methods expect it divided by."""
    rng = np.random.default_rng(seed)
    kspace = fftc(torch.from_numpy(image / np.percentile(image, 99.9)).to(torch.complex64))
    cropped = [min(n, size) for n in image.shape]
    y, x = (n // 2 - m // 2 for n, m in zip(image.shape, cropped, strict=True))
    height, width = cropped
    object_ = ifftc(kspace[y : y + height, x : x + width]) * (height * width / image.size) ** 0.5
    maps = torch.from_numpy(coil_maps((height, width), coils, rng))
    phase = torch.from_numpy(smooth_phase((height, width), rng))
    noise = coil_noise((coils, height, width), 1 / snr, rng)
    measured = fftc(maps * (object_.abs() * torch.exp(1j * phase))) + torch.from_numpy(noise)
    scan = Scan(Path("simulated"), "simulated", (1, coils, height, width), lambda _: measured.numpy())
    return measured[None], scan.survey.scale


def undersample(kspace: Tensor, scale: float, name: str, acceleration: float) -> Case:
    """What a method sees of it, and the coil combination of all of it with the same maps."""
    height, width = kspace.shape[-2:]
    mask = mask_by_name(name, acceleration, ACS).mask((height, width), seed=0)[None, None]
    maps = espirit(kspace * mask, mask)
    reference = (maps.conj() * ifftc(kspace / scale)).sum(dim=1)
    return Measurement(kspace * mask / scale, mask, maps), reference.numpy()


def score(method: Reconstructor, case: Case) -> float:
    """PSNR in dB over the support of the maps."""
    measurement, reference = case
    assert measurement.sensitivities is not None
    support = measurement.sensitivities.abs().amax(dim=1).numpy() > 0
    return psnr(np.abs(reference), np.abs(method(measurement)[-1].numpy()), support)


def table(title: str, methods: dict[float, Reconstructor], cases: list[list[Case]]) -> None:
    """Print the mean PSNR of each method for each mask, and over all masks; the best of each column in bold."""
    rows = np.array([[np.mean([score(method, case) for case in of]) for of in cases] for method in methods.values()])
    rows = np.column_stack([rows, rows.mean(axis=1)])
    print(f"\n{title}\n\n| | {' | '.join(f'{name} {r}×' for name, r in MASKS)} | mean |")
    print("| --- " * (len(MASKS) + 2) + "|")
    for setting, row in zip(methods, rows, strict=True):
        cells = [f"**{v:.2f}**" if v == best else f"{v:.2f}" for v, best in zip(row, rows.max(axis=0), strict=True)]
        print(f"| {setting:g} | {' | '.join(cells)} |", flush=True)
    print(f"\nBest: {list(methods)[int(rows[:, -1].argmax())]:g}", flush=True)


if __name__ == "__main__":
    main()
