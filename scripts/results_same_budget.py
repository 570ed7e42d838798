"""Networks of several kinds after about the same time of training on the same examples: writes same_budget.md.

    scripts/train_same_budget.sh IMAGES runs/same_budget
    python scripts/results_same_budget.py runs/same_budget --scans brain.mat t1.mat --images IMAGES -o docs/results

Scans, reference and oracle CS are those of results_shipped.py. Some ten minutes on a core.
"""

import argparse
from pathlib import Path

import numpy as np
import yaml
from results_shipped import BAR, compare, scans

from mrirecon import __version__
from mrirecon.atomic import atomic_path
from mrirecon.evaluation.evaluate import Table
from mrirecon.evaluation.figures import mask_label
from mrirecon.export.hdf5 import DISCLAIMER
from mrirecon.physics.sampling import mask_by_name
from mrirecon.processor import set_up_for_tensors
from mrirecon.reconstruction.methods import method_by_name

SETTINGS = [(kind, factor) for kind in ("equispaced_fraction", "gaussian2d") for factor in (4.0, 8.0)]


def main() -> None:
    """Reconstruct, score and write."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("runs", type=Path, help="folder of the trainings")
    parser.add_argument("--scans", type=Path, nargs="+", required=True, help="fully sampled scans")
    parser.add_argument("--images", type=Path, required=True, help="folder of the validation subjects' images")
    parser.add_argument("-o", "--output", type=Path, default=Path("docs/results"), help="folder (default docs/results)")
    arguments = parser.parse_args()
    set_up_for_tensors()
    runs = {path.parent.name: path.parent for path in arguments.runs.glob("*/best.safetensors")}
    networks = {name: method_by_name(str(run / "best.safetensors")).reconstructor for name, run in runs.items()}
    gains: dict[str, list[float]] = {name: [] for name in networks}
    columns = []
    for scan, _ in scans(arguments.scans, arguments.images):
        for kind, factor in SETTINGS:
            rows = compare(scan, mask_by_name(kind, factor), 1, networks).rows
            columns.append(f"{scan.path.name.split('.')[0]}, {mask_label(kind)} {factor:g}×")
            for name, psnrs in gains.items():
                psnrs.append(rows[name].psnr - rows[BAR].psnr)
            print(columns[-1], {name: round(psnrs[-1], 2) for name, psnrs in gains.items()}, flush=True)
    lines = []
    for name in sorted(networks, key=lambda name: -float(np.mean(gains[name]))):
        config = yaml.safe_load((runs[name] / "config.yaml").read_text(encoding="utf-8"))
        steps = config["data"]["init_args"]["examples"] * config["trainer"]["max_epochs"]
        parameters = sum(parameter.numel() for parameter in networks[name].parameters())
        lines.append(
            [name, f"{parameters:,}", f"{steps:,}", *(f"{gain:+.1f}" for gain in (np.mean(gains[name]), *gains[name]))]
        )
    table = Table(["network", "parameters", "steps", "mean", *columns], lines).markdown()
    with atomic_path(arguments.output / "same_budget.md") as temporary:
        temporary.write_text(page(table), encoding="utf-8")


def page(table: str) -> str:
    """The Markdown page."""
    return f"""# Other networks on the same data for the same time

PSNR in dB above compressed sensing with the best of its weights for each image, as in [the shipped
models](shipped_models.md). All networks saw the same simulated examples from the first on (`shipped_irim`),
one a step, for about a quarter of an hour on one CPU core each, so that costly networks made fewer steps. RIM, IRIM and
CIRIM have the gradient as input, a proximal step that knows the noise, and work without the phase; U-Net and E2EVN have
soft data consistency. The loss is that of the shipped models.

{table}
A quarter of an hour says which network learns fast, not which is best after a long training, and one slice of each scan
says little. The largest E2EVN, made for GPUs and days, is far from trained.

Make this page again: `scripts/train_same_budget.sh` and `scripts/results_same_budget.py`, which tell how they are used.

mrirecon {__version__}. {DISCLAIMER}
"""


if __name__ == "__main__":
    main()
