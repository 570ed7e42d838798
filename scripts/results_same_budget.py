"""Networks of several kinds after about the same time of training on the same examples: writes same_budget.md.

    scripts/train_same_budget.sh IMAGES runs/same_budget
    python scripts/results_same_budget.py runs/same_budget --scans brain.mat t1.mat --images IMAGES -o docs/results

Scans, reference and oracle CS are those of results_shipped.py. Some ten minutes on a core.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean

import yaml
from learning_curves import events_of
from results_shipped import BAR, compare, scans

from mrirecon import __version__
from mrirecon.atomic import atomic_path
from mrirecon.evaluation.evaluate import Table
from mrirecon.evaluation.figures import mask_label
from mrirecon.export.hdf5 import DISCLAIMER
from mrirecon.physics.measurement import Reconstructor
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
    gains: dict[str, dict[str, float]] = {}
    for scan, _ in scans(arguments.scans, arguments.images):
        for kind, factor in SETTINGS:
            scores = compare(scan, mask_by_name(kind, factor), 1, networks).rows
            setting = f"{scan.path.name.split('.')[0]}, {mask_label(kind)} {factor:g}×"
            gains[setting] = {name: scores[name].psnr - scores[BAR].psnr for name in networks}
            print(setting, {name: round(gain, 2) for name, gain in gains[setting].items()}, flush=True)
    with atomic_path(arguments.output / "same_budget.md") as temporary:
        temporary.write_text(page(tables(runs, networks, gains)), encoding="utf-8")


def tables(
    runs: Mapping[str, Path], networks: Mapping[str, Reconstructor], gains: Mapping[str, Mapping[str, float]]
) -> str:
    """What each network is, best first, and its gain in each setting: gains[setting][network] in dB."""
    mean = {name: fmean(gain[name] for gain in gains.values()) for name in networks}
    order = sorted(networks, key=lambda name: -mean[name])
    parameters = {name: sum(weights.numel() for weights in networks[name].parameters()) for name in order}
    summary = [
        [name, f"{parameters[name]:,}", f"{steps(runs[name]):,}", f"{minutes(runs[name]):.0f}", f"{mean[name]:+.1f}"]
        for name in order
    ]
    settings = [[setting, *(f"{gain[name]:+.1f}" for name in order)] for setting, gain in gains.items()]
    of_networks = Table(["network", "parameters", "steps", "minutes", "mean gain (dB)"], summary)
    of_settings = Table(["gain (dB)", *order], settings)
    return f"{of_networks.markdown()}\n{of_settings.markdown()}"


def minutes(run: Path) -> float:
    """How long a training took, by the times in its TensorBoard file."""
    events = events_of(run)
    return (events.Scalars("val/psnr")[-1].wall_time - events.Scalars("train/loss")[0].wall_time) / 60


def steps(run: Path) -> int:
    """How many a training made, by its configuration."""
    config = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
    return int(config["data"]["init_args"]["examples"] * config["trainer"]["max_epochs"])


def page(tables: str) -> str:
    """The Markdown page of these tables."""
    return f"""# Other networks on the same data for the same time

Gain: PSNR above that of compressed sensing with the best of its weights for each image, as in [the shipped
models](shipped_models.md). All networks saw the same simulated examples from the first on (`shipped_irim`), one a step,
and as many steps as a free CPU core makes in about ten minutes, so that costly networks made fewer ([learning
curves](same_budget_training.csv)); the minutes below are what they took beside other work. RIM, IRIM and CIRIM have the
gradient as input, a proximal step that knows the noise, and work without the phase; U-Net and E2EVN have soft data
consistency. The loss is that of the shipped models, the logarithm of the NMSE.

{tables}
So short a training says which network learns fast, not which is best after a long one, and one slice of each scan says
little. The largest E2EVN, made for GPUs and days, is far from trained.

Make this page again: `scripts/train_same_budget.sh`, `scripts/results_same_budget.py` and, for the curves,
`scripts/learning_curves.py`, which tell how they are used.

mrirecon {__version__}. {DISCLAIMER}
"""


if __name__ == "__main__":
    main()
