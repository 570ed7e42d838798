"""Does every network learn, with every form of data consistency that it admits?

    python scripts/learning_study.py --images IMAGES -o docs/results

Trains each small network with each form and two seeds for the same number of gradient steps on the same simulated
slices, and scores it on held-out volumes of two other subjects. Writes learning.csv, which is also where an interrupted
run continues, and learning.md. About an hour and a quarter on two cores. IMAGES is the folder of MS patients' volumes
that docs/model_cards/cirim.md cites.
"""

import argparse
import csv
import math
import multiprocessing
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mrirecon import __version__
from mrirecon.classical.cg_sense import CGSense
from mrirecon.data.batch import Example, collate, make_example
from mrirecon.data.simulated import Scanner
from mrirecon.data.undersampling import Undersampling
from mrirecon.metrics import psnr
from mrirecon.models.blocks.data_consistency import OUTPUT_FORMS, RECURRENT_FORMS, UNROLLED_FORMS
from mrirecon.models.build import build
from mrirecon.physics.fourier import fftc, ifftc
from mrirecon.physics.measurement import Reconstructor
from mrirecon.physics.sense import SenseOperator
from mrirecon.simulation.images import load_magnitude
from mrirecon.training.module import ReconstructionModule

TRAINING = ("patient01_*", "patient03_*", "patient04_*")
HELD_OUT = (
    "patient09_study2_FLAIR",
    "patient12_study1_T1W",
    "patient12_study1_T2W",
    "patient12_study1_FLAIR",
)
MATRIX, COILS, ACCELERATION, ACS = 80, 8, 4, 16
SCANNER = Scanner(
    matrix=(MATRIX, MATRIX),
    coils=(COILS, COILS),
    snr=(20.0, 60.0),
    undersampling=Undersampling(("gaussian2d",), (ACCELERATION, ACCELERATION), (ACS, ACS)),
)
TRAINING_SLICES, SLICES_PER_VOLUME = 300, 4
STEPS, WARMUP, LEARNING_RATE = 400, 20, 1e-3
SEEDS = (0, 1)
GOAL_DB = 3.0

RIM = {"channels": 16, "time_steps": 5}
LPD = {"iterations": 4, "primal": 3, "dual": 2, "channels": 16}
LPD_UNET = {"iterations": 3, "primal": 3, "dual": 2, "network": "unet", "channels": 6, "pools": 2}
INVERTIBLE = {"time_steps": 4, "channels": 16, "hidden": (32, 32), "strides": (1, 2)}
#: name → class, arguments, forms.
NETWORKS: dict[str, tuple[str, dict[str, Any], tuple[str, ...]]] = {
    "RIM, GRU": ("rim.RIM", RIM | {"unit": "gru"}, RECURRENT_FORMS),
    "RIM, MGU": ("rim.RIM", RIM | {"unit": "mgu"}, RECURRENT_FORMS),
    "IRIM": ("rim.IRIM", RIM, RECURRENT_FORMS),
    "CIRIM": ("cirim.CIRIM", {"cascades": 3, "channels": 16, "time_steps": 3}, RECURRENT_FORMS),
    "E2EVN": ("e2evn.E2EVN", {"cascades": 4, "channels": 8, "pools": 2}, UNROLLED_FORMS),
    "E2EVN, wider": ("e2evn.E2EVN", {"cascades": 4, "channels": 16, "pools": 2}, ("soft", "hard", "calibrated_soft")),
    "CascadeNet": ("cascadenet.CascadeNet", {"cascades": 5, "channels": 24, "layers": 4}, UNROLLED_FORMS),
    "KIKINet": ("kikinet.KIKINet", {"iterations": 2, "channels": 4, "pools": 2}, UNROLLED_FORMS),
    "LPDNet": ("lpdnet.LPDNet", LPD, ("implicit",)),
    "LPDNet, U-Nets": ("lpdnet.LPDNet", LPD_UNET, ("implicit",)),
    "InvertibleRIM": ("invertible_rim.InvertibleRIM", INVERTIBLE, ("implicit",)),
    "UNet": ("unet.UNet", {"channels": 16, "pools": 3}, OUTPUT_FORMS),
}
#: Where it is not LEARNING_RATE.
RATES = {"E2EVN, wider": 2e-3}


def low_resolution(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """The whole head on MATRIX × MATRIX pixels, by cropping its k-space (or padding it)."""
    kspace = fftc(torch.from_numpy(image))
    margins = [(MATRIX // 2 - n // 2, MATRIX - n - (MATRIX // 2 - n // 2)) for n in image.shape]
    kspace = torch.nn.functional.pad(kspace, [*margins[1], *margins[0]])  # negative margins crop
    return (ifftc(kspace).abs() * (MATRIX**2 / image.size) ** 0.5).numpy()


def examples(images: NDArray[np.float32], count: int, seed: int) -> Iterator[Example]:
    """`count` simulated measurements of random images, one slice each."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        image = images[rng.integers(len(images))]
        yield make_example(collate([SCANNER.scan(low_resolution(image), rng)]))


def simulate(folder: Path) -> tuple[list[Example], dict[str, list[Example]]]:
    """Training slices, and the slices of each held-out volume."""
    paths = sorted(path for pattern in TRAINING for path in folder.glob(pattern + ".nii.gz"))
    volumes = [load_magnitude(path)[0] for path in paths]
    training = []
    for index, volume in enumerate(volumes):
        training += list(examples(middle(volume), math.ceil(TRAINING_SLICES / len(volumes)), index))
    held_out = {}
    for index, name in enumerate(HELD_OUT):
        images = middle(load_magnitude(folder / f"{name}.nii.gz")[0])
        chosen = images[np.linspace(0, len(images) - 1, SLICES_PER_VOLUME).astype(int)]
        held_out[name] = [e for i, image in enumerate(chosen) for e in examples(image[None], 1, 1000 + 10 * index + i)]
    return training, held_out


def middle(volume: NDArray[np.float32]) -> NDArray[np.float32]:
    """The central half of the slices."""
    return volume[len(volume) // 4 : 3 * len(volume) // 4]


def train(network: Reconstructor, training: list[Example], seed: int, learning_rate: float) -> float:
    """Train in place; returns seconds of processor time."""
    module = ReconstructionModule(network)
    optimiser = torch.optim.Adam(network.parameters(), lr=learning_rate)
    order = np.random.default_rng(seed)
    network.train()
    start = time.process_time()
    for step in range(STEPS):
        rate = min(1.0, (step + 1) / WARMUP) * (1 + math.cos(math.pi * step / STEPS)) / 2
        optimiser.param_groups[0]["lr"] = learning_rate * rate
        example = training[order.integers(len(training))]
        loss = module.total_loss(network(example.measurement), example.target)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
    return time.process_time() - start


def score(estimate: Any, volumes: dict[str, list[Example]]) -> list[float]:
    """PSNR of each volume inside the maps' support, in dB. estimate: Measurement → image."""
    values = []
    for slices in volumes.values():
        stacks = [(e.target[0].abs(), estimate(e.measurement)[0].abs(), e.target[0] != 0) for e in slices]
        target, prediction, support = (torch.stack(images).numpy() for images in zip(*stacks, strict=True))
        values.append(psnr(target, prediction, support))
    return values


def zero_filled(measurement: Any) -> torch.Tensor:
    """A^H y."""
    return (measurement.sensitivities.conj() * ifftc(measurement.kspace)).sum(dim=1)


def run(job: tuple[str, str, int, Path]) -> dict[str, Any]:
    """One network, form and seed."""
    name, form, seed, data = job
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    training, held_out = torch.load(data, weights_only=False)  # written by this script
    path, arguments, _ = NETWORKS[name]
    config = {"class_path": f"mrirecon.models.{path}", "init_args": arguments | {"data_consistency": form}}
    network = build(config)
    assert isinstance(network, Reconstructor)
    seconds = train(network, training, seed, RATES.get(name, LEARNING_RATE))
    network.eval()
    with torch.inference_mode():
        begin = time.process_time()
        after = score(lambda m: network(m)[-1], held_out)
        slice_seconds = (time.process_time() - begin) / sum(map(len, held_out.values()))
        before = score(zero_filled, held_out)
    gains = np.subtract(after, before)
    return {
        "network": name,
        "form": form,
        "seed": seed,
        "parameters": sum(p.numel() for p in network.parameters()),
        "mean_gain_db": round(float(gains.mean()), 3),
        **{f"gain_db_{volume}": round(float(gain), 3) for volume, gain in zip(held_out, gains, strict=True)},
        "training_s": round(seconds, 1),
        "slice_s": round(slice_seconds, 4),
    }


def references(data: Path) -> dict[str, float]:
    """Mean gains of methods that learn nothing, in dB."""
    _, held_out = torch.load(data, weights_only=False)  # written by this script
    before = np.mean(score(zero_filled, held_out))
    cg_sense = CGSense().eval()

    def one_step(measurement: Any) -> torch.Tensor:
        operator = SenseOperator(measurement)
        return operator.adjoint_data - operator.gradient(operator.adjoint_data)

    with torch.inference_mode():
        return {
            "one gradient step": np.mean(score(one_step, held_out)) - before,
            "CG-SENSE": np.mean(score(lambda m: cg_sense(m)[-1], held_out)) - before,
        }


def report(rows: list[dict[str, str]], gains: dict[str, float]) -> str:
    """The table in Markdown. gains: of methods without training."""
    lines = [
        "# Does every network learn, with every form of data consistency?",
        "",
        f"Made by `scripts/learning_study.py` with mrirecon {__version__}. Simulated data: whole heads on {MATRIX} × "
        f"{MATRIX} pixels, {COILS} coils, Gaussian 2D masks, acceleration {ACCELERATION} (achieved), {ACS} × {ACS} "
        "central samples, coil maps from the undersampled data. Images of MS patients 01, 03 and 04 to train on, "
        f"{len(HELD_OUT)} volumes of patients 09 and 12 held out ({SLICES_PER_VOLUME} slices each). {STEPS} gradient "
        f"steps for all, Adam at {LEARNING_RATE:g} (the wider E2EVN: {RATES['E2EVN, wider']:g}), L1 loss, one slice "
        "per step, small networks.",
        "",
        "Gain in PSNR over the zero-filled image, in dB, inside the coil maps' support: mean over the volumes for each "
        "seed, and the worst volume of both. Seconds are processor time on one core, of the whole training and of one "
        "slice. So short a training says whether a network learns, not which one is best.",
        "",
        "| network | data consistency | parameters | gain, seed 0 | seed 1 | worst volume | training s | slice s |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    below = []
    for name, (_, _, forms) in NETWORKS.items():
        for form in forms:
            runs = sorted((r for r in rows if (r["network"], r["form"]) == (name, form)), key=lambda r: int(r["seed"]))
            if len(runs) < len(SEEDS):
                continue
            means = [float(r["mean_gain_db"]) for r in runs]
            worst = min(float(r[f"gain_db_{volume}"]) for r in runs for volume in HELD_OUT)
            mark = ""
            if min(means) < GOAL_DB:
                below.append(f"{name} with `{form}`")
                mark = " *"
            training, per_slice = (np.mean([float(r[key]) for r in runs]) for key in ("training_s", "slice_s"))
            lines.append(
                f"| {name} | `{form}`{mark} | {int(runs[0]['parameters']):,} | {means[0]:.1f} | {means[1]:.1f} | "
                f"{worst:.1f} | {training:.0f} | {per_slice:.3f} |"
            )
    untrained = " and ".join(f"{name} {gain:.1f} dB" for name, gain in gains.items())
    lines += [
        "",
        f"For comparison, without any training: {untrained}.",
        "",
        f"\\* under {GOAL_DB:g} dB with one of the seeds: {', '.join(below) or 'none'}.",
        "",
        "With `none` a network sees the zero-filled image and nothing else of the measurement, so all that it can do "
        "is to guess, which takes far more training. `soft`, `hard` and `calibrated_soft` on a UNet, and on a RIM of "
        "one cascade that is not given the gradient, are such a guess and one gradient step. In the cascades of a "
        "CIRIM the same step is taken several times, and with `implicit` at every time step. An E2EVN in its own form "
        "moves the image by its U-Nets alone, since its data term leaves the measured k-space as it is; eight channels "
        "learn that too slowly, and sixteen reach it. The U-Nets of an LPDNet work on normalised k-space, of which "
        "they probably see little but the centre.",
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    """Run what is not in learning.csv yet and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True, help="folder of the MS patients' NIfTI volumes")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder for learning.csv and learning.md")
    parser.add_argument("--networks", nargs="*", default=list(NETWORKS), help="run only these")
    parser.add_argument("--processes", type=int, default=2, help="runs side by side (default: 2)")
    options = parser.parse_args()
    table = options.output / "learning.csv"
    rows = list(csv.DictReader(table.open(newline=""))) if table.is_file() else []
    done = {(row["network"], row["form"], int(row["seed"])) for row in rows}
    data = options.output / "learning_data.pt"
    if not data.is_file():
        torch.save(simulate(options.images), data)
    jobs = [
        (name, form, seed, data)
        for name in options.networks
        for form in NETWORKS[name][2]
        for seed in SEEDS
        if (name, form, seed) not in done
    ]
    with multiprocessing.get_context("spawn").Pool(options.processes) as pool:
        for row in pool.imap_unordered(run, jobs):
            print(row["network"], row["form"], row["seed"], row["mean_gain_db"], f"{row['training_s']} s", flush=True)
            new = not table.is_file()
            with table.open("a", newline="") as file:
                writer = csv.DictWriter(file, list(row))
                if new:
                    writer.writeheader()
                writer.writerow(row)
    text = report(list(csv.DictReader(table.open(newline=""))), references(data))
    (options.output / "learning.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
