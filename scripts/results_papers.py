"""The two small comparison grids on real images: docs/results/papers.

    python scripts/results_papers.py DATA -o RUNS                  both grids; what is finished is not done again
    python scripts/results_papers.py DATA -o RUNS --only rim_2020  one of them

DATA is the folder of the files of data_manifests/public_scans.yaml. Scans are simulated from its images of heads, of
which SPLITS says who is trained on. Afterwards the CSV files, a summary and the networks' weights are copied to
docs/results/papers. About two and a half hours on two cores, most of it training.
"""

import argparse
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from mrirecon.cli.main import main as mrirecon
from mrirecon.data.manifest import Entry, Manifest, read_manifest, shipped, write_manifest
from mrirecon.evaluation.grid.config import read_grid

HOME = Path(__file__).resolve().parent.parent
TEST = dict.fromkeys(("ms-patient01", "ms-patient09", "ms-patient12", "synthsr"), "test")
#: Manifest → person → split. No network is tested on anybody whom it was trained or chosen on.
SPLITS: Mapping[str, Mapping[str, str]] = {
    "heads": {"ms-patient03": "train", "ms-patient04": "val", "chris": "test", "studyforrest": "test", **TEST},
    "t1": {"chris": "train", "studyforrest": "val", "ms-patient03": "test", "ms-patient04": "test", **TEST},
    "flair": {"ms-patient03": "train", "ms-patient04": "val", **TEST},
    "lesions": {"ms-lesions-patient07": "test"},
}
LESION_MASK = "images/ms_lesions/patient07_lesion_consensus.nii.gz"
SCANS = {"slices": 2, "train_slices": 28, "matrix": [96, 96], "coils": 8, "snr": 40}
LESIONS = {"slices": 4, "coils": 8, "snr": 40, "seed": 1}
#: Grid → what is other than in configs/papers/GRID_small.yaml; NAME.yaml is a manifest.
GRIDS: Mapping[str, Mapping[str, Any]] = {
    "cirim_2022": {
        "data": {"path": "heads.yaml", **SCANS},
        "shifts": {
            "4 coils, SNR 10": {"path": "heads.yaml", **SCANS, "coils": 4, "snr": 10, "seed": 2},
            "MS lesions, 1 mm": {"path": "lesions.yaml", **LESIONS},
        },
        "acs": 8,  # of 96 lines: with more, 1D masks of 8 and 10 fold would be little but centre
        "training": {"epochs": 5, "acs": [6, 12], "precision": "bf16-mixed"},
        "gap": [],
    },
    "rim_2020": {
        "data": {"path": "t1.yaml", **SCANS, "train_slices": 140},
        "shifts": {
            "FLAIR": {"path": "flair.yaml", **SCANS, "train_slices": 70, "seed": 3},
            "4 coils, SNR 10": {"path": "t1.yaml", **SCANS, "coils": 4, "snr": 10, "seed": 2},
            "MS lesions, 1 mm": {"path": "lesions.yaml", **LESIONS},
        },
        "training": {"epochs": 5, "acs": [8, 16], "precision": "bf16-mixed"},
        "gap": ["FLAIR"],
    },
}


def main() -> None:
    """Run the grids and copy what they found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--only", choices=GRIDS)
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    for name in SPLITS:
        write_manifest(manifest(name, arguments.data.resolve()), arguments.output / f"{name}.yaml")
    for name in [arguments.only] if arguments.only else GRIDS:
        config, run = arguments.output / f"{name}_small.yaml", arguments.output / f"{name}_small"
        config.write_text(yaml.safe_dump(grid(name, arguments.output.resolve()), sort_keys=False), encoding="utf-8")
        if code := mrirecon(["evaluate", "--config", str(config), "-o", str(run)]):
            raise SystemExit(code)
        publish(run, HOME / "docs" / "results" / "papers" / f"{name}_small")


def manifest(name: str, root: Path) -> Manifest:
    """The NIfTI images of those people, with the splits of SPLITS, their files below that folder."""
    files = []
    for entry in read_manifest(shipped()["public_scans"]).files:
        split = SPLITS[name].get(str(entry.subject))
        if not split or entry.file == LESION_MASK or not entry.file.endswith(".nii.gz"):
            continue
        contrast = str(entry.contrast).lower()
        if name == contrast or name in ("heads", "lesions") or (name == "t1" and split == "test"):
            lesions = LESION_MASK if name == "lesions" else None
            files.append(Entry(entry.file, entry.subject, split, contrast, lesions=lesions, sha256=entry.sha256))  # type: ignore[arg-type]
    return Manifest(name, tuple(files), source="see data_manifests/public_scans.yaml", root=str(root))


def grid(name: str, folder: Path) -> dict[str, Any]:
    """The content of a grid's file: the small one, on these manifests."""
    content = yaml.safe_load((HOME / "configs" / "papers" / f"{name}_small.yaml").read_text(encoding="utf-8"))
    changes = GRIDS[name]
    for data in (changes["data"], *changes["shifts"].values()):
        data["path"] = str(folder / data["path"])
    content["robustness"]["gap"] = changes["gap"]
    return content | {key: value for key, value in changes.items() if key != "gap"}


def publish(run: Path, folder: Path) -> None:
    """Copy the tables of a finished run, and the weights under the names that `checkpoints` takes."""
    weights = folder / "checkpoints"
    weights.mkdir(parents=True, exist_ok=True)
    for table in run.glob("*.csv"):
        shutil.copy(table, folder / table.name)
    for variant in read_grid(run / "grid.yaml").variants():
        for training in run.glob(f"training/{variant.file_stem}-*") if variant.spec.config else ():
            print(training)


if __name__ == "__main__":
    main()
