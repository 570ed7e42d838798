"""Learning curves of finished trainings as one CSV, read from the TensorBoard files that `mrirecon train` leaves.

    python scripts/learning_curves.py runs/same_budget/* -o docs/results/same_budget_training.csv

Rows: the loss as the mean of each hundred steps, and what validation measured. A folder's name is the name of its run.
"""

import argparse
import csv
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mrirecon.atomic import atomic_path

COLUMNS = ["run", "step", "training_loss", "validation_psnr_db", "validation_ssim"]
STEPS = 100


def main() -> None:
    """Read, average and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("-o", "--output", type=Path, required=True)
    arguments = parser.parse_args()
    with atomic_path(arguments.output) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        for run in arguments.runs:
            writer.writerows(curve(run))


def events_of(run: Path) -> EventAccumulator:
    """All scalars of a training's TensorBoard files."""
    events = EventAccumulator(str(run), size_guidance={"scalars": 0})
    events.Reload()
    return events


def curve(run: Path) -> Iterator[dict[str, object]]:
    """The rows of one training."""
    events = events_of(run)
    losses = defaultdict(list)
    for event in events.Scalars("train/loss"):
        losses[event.step // STEPS + 1].append(event.value)
    for hundred, values in losses.items():
        yield {"run": run.name, "step": STEPS * hundred, "training_loss": f"{fmean(values):.3f}"}
    for psnr, ssim in zip(events.Scalars("val/psnr"), events.Scalars("val/ssim"), strict=True):
        measured = {"validation_psnr_db": f"{psnr.value:.3f}", "validation_ssim": f"{ssim.value:.4f}"}
        yield {"run": run.name, "step": psnr.step + 1, **measured}


if __name__ == "__main__":
    main()
