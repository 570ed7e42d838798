"""What the checks of `mrirecon batch` measure on good and on spoilt reconstructions, and the thresholds between them.

    python scripts/calibrate_checks.py docs/results/checks.csv mrirecon/batch/thresholds.json

Scans are simulated (other heads, coils and noise for each), undersampled in the ways that are common, and
reconstructed by compressed sensing, CG-SENSE and the shipped model. Each is also spoilt in ways that happen. A
threshold for REVIEW is a margin above the 99th percentile of the good ones, one for REJECT a multiple of that. Those on
coils, slices and spikes are not learnt: what simulated data without faults show there is always the same.
"""

import argparse
import csv
import json
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mrirecon.acquisition.sampling import Sampling, undersample
from mrirecon.acquisition.scan import Scan
from mrirecon.batch.checks import Checks
from mrirecon.physics.sampling import mask_by_name
from mrirecon.reconstruction.methods import Method, default_method, method_by_name
from mrirecon.reconstruction.pipeline import Block, measure_blocks, reconstruct_block
from mrirecon.simulation.phantom import head_phantom
from mrirecon.simulation.scan import object_mean, simulate_slices

MATRIX, SLICES = (128, 128), 1
CONTRASTS = ("t1", "t2", "flair", "pd")
#: Coils, SNR of the combined image, mask, acceleration: one of each after the other.
COILS, SNRS = (4, 8, 12, 16), (80.0, 40.0, 20.0, 10.0)
MASKS = (("equispaced", 2.0), ("equispaced", 4.0), ("gaussian1d", 4.0), ("poisson2d", 6.0), ("random", 3.0))
MARGIN, REJECT = 1.25, 4.0
#: Below these nothing is wrong, however good all the good ones are.
LEAST = {"residual": 1.0, "misfit": 0.05, "region": 0.002}
LEARNT = tuple(LEAST)
GIVEN = {
    "spike": {"review": 100.0},
    "dead_coils": {"review": 0.25, "reject": 0.75},
    "empty_slices": {"review": 0.25},
}
SETTING = ("case", "method", "contrast", "coils", "snr", "noise", "mask", "acceleration")
COLUMNS = (*SETTING, *LEARNT, "spike")

Spoil = Callable[[Block], Block]
SpoilImages = Callable[[torch.Tensor], torch.Tensor]


def simulated(number: int, contrast: str, coils: int, snr: float, noise_known: bool) -> Scan:
    """A fully sampled scan. noise_known: its level is stated, as after whitening; else it must be estimated."""
    images = head_phantom(MATRIX, SLICES, contrast, number).images
    kspace = np.stack(list(simulate_slices(images, coils, snr, number)))
    scan = Scan(Path(f"calibration-{number}"), "simulated", kspace.shape, lambda index: kspace[index].copy())
    return replace(scan, noise_std=object_mean(images) / snr) if noise_known else scan


def shifted_maps(block: Block) -> Block:
    """Coil maps of an object that has moved by three pixels."""
    maps = block.measurement.sensitivities
    assert maps is not None
    return replace(block, measurement=block.measurement.with_sensitivities(maps.roll(3, -1)))


def moved(block: Block) -> Block:
    """The object moved by two pixels half-way through the scan."""
    kspace = block.measurement.kspace.clone()
    half = kspace.shape[-1] // 2
    x = torch.arange(kspace.shape[-1]) - half
    ramp = torch.exp(-2j * torch.pi * 2 * x / kspace.shape[-1])
    kspace[..., half:] *= ramp[half:]
    return replace(block, measurement=replace(block.measurement, kspace=kspace))


def spiked(block: Block) -> Block:
    """One sample in the outer k-space is as large as the centre."""
    kspace = block.measurement.kspace.clone()
    y, x = (int(n) for n in block.measurement.mask[0, 0].nonzero()[3])
    kspace[..., y, x] = kspace.abs().amax()
    return replace(block, measurement=replace(block.measurement, kspace=kspace))


def smoothed(images: torch.Tensor) -> torch.Tensor:
    """Five pixels averaged along both axes."""
    return torch.complex(*(torch.nn.functional.avg_pool2d(p, 5, 1, 2) for p in (images.real, images.imag)))


def invented(radius: float, contrast: float) -> SpoilImages:
    """A lesion of that radius in pixels and that share of the scan's intensity, which is not there."""
    y, x = np.mgrid[: MATRIX[0], : MATRIX[1]]
    lesion = torch.from_numpy((y - MATRIX[0] * 0.45) ** 2 + (x - MATRIX[1] * 0.4) ** 2 < radius**2)
    return lambda images: images + contrast * lesion * torch.exp(1j * images.angle())


CASES: dict[str, tuple[Spoil, SpoilImages]] = {
    "good": (lambda block: block, lambda images: images),
    "coil maps shifted": (shifted_maps, lambda images: images),
    "moved": (moved, lambda images: images),
    "spike": (spiked, lambda images: images),
    "smoothed": (lambda block: block, smoothed),
    "large lesion invented": (lambda block: block, invented(4, 0.3)),
    "small lesion invented": (lambda block: block, invented(1.5, 0.2)),
}


def measured(
    scan: Scan, sampling: Sampling, block: Block, method: Method, folder: Path
) -> Iterator[tuple[str, dict[str, Any]]]:
    """What the checks measure, case by case. block: the scan's only slice."""
    good: torch.Tensor | None = None
    for case, (spoil, spoil_images) in CASES.items():
        spoilt = spoil(block)
        if spoilt is block and good is not None:
            images = good
        else:
            images = reconstruct_block(method.reconstructor, spoilt)
            good = images if case == "good" else good
        checks = Checks(scan, sampling, method, "auto")
        with checks.writing(folder / "checks.h5"):
            checks.add(spoilt, spoil_images(images))
        yield case, checks.measured()


def main() -> None:
    """Measure, write the table, write the thresholds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("table", type=Path)
    parser.add_argument("thresholds", type=Path)
    parser.add_argument("--scans", type=int, default=24)
    parser.add_argument("--methods", default=f"cs,cg-sense,{default_method()}")
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(options.scans):
            contrast, coils = CONTRASTS[number // 2 % 4], COILS[(number + 1) // 3 % 4]
            snr, (mask, acceleration) = SNRS[number % 4], MASKS[number % 5]
            scan = simulated(number, contrast, coils, snr, noise_known=number % 3 > 0)
            sampling = undersample(scan, mask_by_name(mask, acceleration, 20), number)
            [block] = measure_blocks(scan, sampling, device=torch.device("cpu"))
            for name in options.methods.split(","):
                for case, facts in measured(scan, sampling, block, method_by_name(name), Path(folder)):
                    noise = "estimated" if scan.noise_std is None else "known"
                    setting = (case, name, contrast, coils, snr, noise, mask, sampling.acceleration)
                    rows.append(dict(zip(SETTING, setting, strict=True)) | {k: facts[k] for k in (*LEARNT, "spike")})
                    print(rows[-1], flush=True)
    limits: dict[str, dict[str, float]] = {}
    for name in LEARNT:
        review = MARGIN * max(np.percentile([row[name] for row in rows if row["case"] == "good"], 99), LEAST[name])
        limits[name] = {"review": float(f"{review:.2g}")}
        if name != "region":
            limits[name]["reject"] = float(f"{REJECT * review:.2g}")
    origin = "scripts/calibrate_checks.py; distributions in docs/results/checks.csv"
    options.thresholds.write_text(json.dumps({"origin": origin, "limits": {**limits, **GIVEN}}, indent=1) + "\n")
    with options.table.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        for row in rows:
            writer.writerow({k: f"{v:.4g}" if isinstance(v, float) else v for k, v in row.items()})


if __name__ == "__main__":
    main()
