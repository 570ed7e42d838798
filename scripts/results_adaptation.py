"""Adapts a shipped model to a few scans of one protocol, and shows what that gains on slices it was not given.

    python scripts/results_adaptation.py --image IMAGES/images/other/brain_flair_synthsr.nii.gz --work runs/adaptation

Simulates two scans of one protocol (16 coils, SNR 25, sagittal 3D FLAIR) from an image that no shipped model was
trained on: slices of one side of the head to adapt to, of the other side to test on, with 20 mm between them. Then it
runs the commands that docs/training.md recommends, and writes adaptation.md. About half an hour on two cores.
"""

import argparse
import csv
import shlex
import subprocess
import time
from pathlib import Path

import nibabel
import numpy as np

from mrirecon import __version__
from mrirecon.atomic import atomic_path
from mrirecon.evaluation.evaluate import Table
from mrirecon.evaluation.figures import label
from mrirecon.export.hdf5 import DISCLAIMER

SLICES, COILS, SNR, GAP_MM = 24, 16, 25, 20
MASK, ACCELERATION, ACS = "equispaced", 6, 20
#: Network, and arguments of its training beside the data.
RECIPE = {
    "irim": ["--model.learning_rate", "3e-4", "--trainer.max_epochs", "50"],
    "cirim": ["--model.learning_rate", "2e-4", "--trainer.max_epochs", "30"],
}


def main() -> None:
    """Simulate, adapt, compare, write."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--image", type=Path, required=True, help="NIfTI volume of a head")
    parser.add_argument("--model", choices=list(RECIPE), default="irim", help="shipped model (default irim)")
    parser.add_argument("--work", type=Path, default=Path("runs/adaptation"), help="folder for scans and training")
    parser.add_argument("-o", "--output", type=Path, default=Path("docs/results"), help="folder (default docs/results)")
    arguments = parser.parse_args()
    work: Path = arguments.work
    for seed, side in enumerate(("train", "test")):
        half = save_half(arguments.image, work / f"{side}.nii.gz", side)
        scan = ["--slice-axis", "0", "--slices", str(SLICES), "--coils", str(COILS), "--snr", str(SNR)]
        mrirecon("simulate", str(work / side / "scan.h5"), "--from", str(half), "--seed", str(seed), *scan)
    start = time.perf_counter()
    command = mrirecon("train", *training(arguments.model, work / "train", work / "adapted"))
    minutes = (time.perf_counter() - start) / 60
    adapted = work / "adapted" / "best.safetensors"
    methods = ["zero-filled", "cs", arguments.model, str(adapted)]
    masks = ["--masks", MASK, "--accelerations", str(ACCELERATION), "--acs", str(ACS)]
    mrirecon("evaluate", str(work / "test"), "--methods", ",".join(methods), *masks, "-o", str(work / "evaluation"))
    with (work / "evaluation" / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    lines = [[label(r["method"]), f"{float(r['psnr']):.2f}", f"{float(r['ssim']):.3f}"] for r in rows]
    lines[-1][0] = f"{arguments.model}, adapted"
    table = Table(["method", "PSNR (dB) ↑", "SSIM ↑"], lines).markdown()
    with atomic_path(arguments.output / "adaptation.md") as temporary:
        temporary.write_text(page(arguments.image.name, table, command, minutes, work), encoding="utf-8")


def save_half(image: Path, path: Path, side: str) -> Path:
    """The left or right part of the volume, without GAP_MM / 2 from the middle on."""
    volume = nibabel.load(image)
    data = np.asanyarray(volume.dataobj)
    filled = np.flatnonzero((data > 0.1 * np.percentile(data, 99)).mean(axis=(1, 2)) > 0.1)
    middle = (filled[0] + filled[-1]) // 2
    gap = round(GAP_MM / 2 / float(volume.header.get_zooms()[0]))
    part = slice(filled[0], middle - gap) if side == "train" else slice(middle + gap, filled[-1])
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(volume.slicer[part], path)
    return path


def training(model: str, scans: Path, output: Path) -> list[str]:
    """Arguments of `mrirecon train` that adapt a shipped model to the scans of one protocol."""
    data = f'["{scans}"]'
    return [
        *(
            "--config",
            f"shipped_{model}",
            "--init",
            model,
            "--init_share",
            "0.5",
            "--data",
            "ScanData",
            "--data.train",
            data,
            "--data.val",
            data,
        ),
        *("--data.matrix", "[128,128]", "--data.undersampling.masks", f'["{MASK}"]'),
        *("--data.undersampling.acceleration", f"[{ACCELERATION - 1},{ACCELERATION + 1}]"),
        *("--data.undersampling.acs", f"[{ACS // 2},{ACS}]", "--trainer.check_val_every_n_epoch", "10"),
        *RECIPE[model],
        *("--output", str(output)),
    ]


def mrirecon(*words: str) -> str:
    """Run the command; returns it as one would type it."""
    subprocess.run(["mrirecon", *words], check=True)
    return shlex.join(["mrirecon", *words])


def page(image: str, table: str, command: str, minutes: float, work: Path) -> str:
    """The Markdown page."""
    return f"""# A shipped model adapted to one protocol

A few fully sampled scans of one's own protocol make a shipped model better at that protocol. Here: sagittal 3D FLAIR,
{COILS} coils, SNR {SNR}, {ACCELERATION}× {MASK} with {ACS} central lines, simulated from `{image}`,
a head that the model was not trained on. {SLICES} slices of one side were given to adapt to; the table is of {SLICES}
slices of the other side, {GAP_MM} mm away. The coils are others, too.

{table}
One head, simulated: an example of what to expect, not a proof. The training took {minutes:.0f} minutes:

    {command.replace(str(work), "runs/adaptation")}

Make this page again: `python scripts/results_adaptation.py --image {image}`

mrirecon {__version__}. {DISCLAIMER}
"""


if __name__ == "__main__":
    main()
