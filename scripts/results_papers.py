"""The two small comparison grids on real images: docs/results/papers.

    python scripts/results_papers.py DATA -o RUNS                  both grids; what is finished is not done again
    python scripts/results_papers.py DATA -o RUNS --only rim_2020  one of them

DATA is the folder of the files of data_manifests/public_scans.yaml. Scans are simulated from its images of heads, of
which SPLITS says who is trained on. Afterwards the CSV files, a summary and the networks' weights are copied to
docs/results/papers. Two to three hours on two cores, two of them for the first grid.
"""

import argparse
import copy
import csv
import gzip
import io
import shutil
from collections.abc import Mapping
from itertools import permutations
from pathlib import Path
from statistics import median
from typing import Any

import yaml

from mrirecon.cli.main import main as mrirecon
from mrirecon.data.manifest import Entry, Manifest, read_manifest, shipped, write_manifest
from mrirecon.evaluation.grid import charts, robust_charts
from mrirecon.evaluation.grid.config import read_grid
from mrirecon.evaluation.grid.report import describe
from mrirecon.evaluation.grid.results import OWN, GridRun, Machine
from mrirecon.evaluation.grid.robust_tables import KINDS, corruption_table, gap_table, kinds_of, lesion_table
from mrirecon.evaluation.grid.run import run_grid
from mrirecon.evaluation.grid.tables import (
    PSNR,
    SSIM,
    groups,
    is_unseen,
    ranked_table,
    setting_label,
    setting_table,
    speed_table,
    trained_for,
    tuning_table,
    values_of,
)
from mrirecon.export.hdf5 import DISCLAIMER

HOME = Path(__file__).resolve().parent.parent
WORKERS = 2
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
        "robustness": {"gap": []},
    },
    "rim_2020": {
        "data": {"path": "t1.yaml", **SCANS, "train_slices": 140},
        "shifts": {
            "FLAIR": {"path": "flair.yaml", **SCANS, "train_slices": 70, "seed": 3},
            "4 coils, SNR 10": {"path": "t1.yaml", **SCANS, "coils": 4, "snr": 10, "seed": 2},
            "MS lesions, 1 mm": {"path": "lesions.yaml", **LESIONS},
        },
        "training": {"epochs": 4, "acs": [8, 16], "precision": "bf16-mixed"},
        "robustness": {
            "gap": ["FLAIR"],
            "settings": [["gaussian2d", 8]],
            "corruptions": {
                "noise": [1],
                "motion": [1, 2],
                "shifted_maps": [1, 3],
                "noisy_maps": [1],
                "worst_case": [1],
            },
        },
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
        if code := mrirecon(["evaluate", "--config", str(config), "-o", str(run), "--workers", str(WORKERS)]):
            raise SystemExit(code)
        publish(f"{name}_small", config, run)


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
    changes = copy.deepcopy(dict(GRIDS[name]))
    for data in (changes["data"], *changes["shifts"].values()):
        data["path"] = str(folder / data["path"])
    return content | changes | {"robustness": content["robustness"] | changes["robustness"]}


def publish(name: str, config: Path, run: Path) -> None:
    """Write the tables, charts and CSV files of a finished run, and its weights under the names that a grid takes."""
    machine = Machine(workers=WORKERS)
    found = run_grid(read_grid(config), run, machine)  # nothing is done again
    folder = HOME / "docs" / "results" / "papers" / name
    (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
    for table in run.glob("*.csv"):
        with gzip.GzipFile(folder / f"{table.name}.gz", "wb", mtime=0) as file:
            file.write(table.read_bytes())
    with gzip.GzipFile(folder / "differences.csv.gz", "wb", mtime=0) as packed:
        packed.write(differences(found).encode())
    for variant, path in found.checkpoints.items():
        shutil.copy(path, folder / "checkpoints" / f"{variant.file_stem}.safetensors")
    (folder / "tables.md").write_text(tables(found, machine), encoding="utf-8")
    own = trained_for(found)
    pictures = {"time": charts.pareto(found, own, SSIM), "consistency": charts.consistency(own)}
    pictures |= {"corruptions": robust_charts.against_level(found), "lesions": robust_charts.lesions_seen(found)}
    pictures |= {
        f"acceleration_{contrast}": charts.against_acceleration(cells, SSIM)
        for contrast, cells in groups(own, lambda cell: cell.volume.contrast).items()
    }
    for picture, svg in pictures.items():
        if svg:
            (folder / f"{picture}.svg").write_text(svg, encoding="utf-8")


def differences(run: GridRun) -> str:
    """CSV: for every two methods the median of their differences, paired by subject, and its range."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["data", "settings", "measure", "method", "minus", "n", "median", "least", "most"])
    scopes = groups(run.cells, lambda c: (c.volume.data, "unseen" if is_unseen(run, c.setting) else "trained for"))
    scopes |= groups(run.cells, lambda c: (c.volume.data, setting_label(c.setting)))
    for (data, settings), cells in scopes.items():
        for measure in (SSIM, PSNR):
            for (a, of_a), (b, of_b) in permutations(values_of(cells, measure).items(), 2):
                paired = [of_a[subject] - of_b[subject] for subject in of_a.keys() & of_b.keys()]
                found = [f"{number:.4f}" for number in (median(paired), min(paired), max(paired))]
                writer.writerow([data, settings, measure.name, a, b, len(paired), *found])
    return text.getvalue()


def tables(run: GridRun, machine: Machine) -> str:
    """What was found, as Markdown."""
    own, reference = trained_for(run), run.grid.reference
    parts = [f"# {run.grid.title}", describe(run, machine), run.grid.note]
    parts += ["## All settings that were trained for", ranked_table(own, reference).markdown()]
    others = [cell for cell in run.cells if cell not in own]
    for (data, unseen), cells in groups(others, lambda c: (c.volume.data, is_unseen(run, c.setting))).items():
        heading = {(OWN, True): "Sampling never trained for"}.get((data, unseen), data)
        parts += [f"## {heading}{', sampling never trained for' * (unseen and data != OWN)}"]
        parts += [ranked_table(cells, reference).markdown()]
    for (data, contrast), cells in groups(run.cells, lambda c: (c.volume.data, c.volume.contrast)).items():
        parts += [f"## SSIM by setting: {data}, {contrast.upper()}", setting_table(cells, SSIM).markdown()]
    for kind, setting in kinds_of(run):
        parts += [f"## {KINDS[kind][0]}, {setting_label(setting)}", corruption_table(run, kind, setting).markdown()]
    if run.lesions:
        parts += ["## Inserted lesions", lesion_table(run).markdown()]
    if run.gap:
        parts += ["## Gap to training on the test data's kind", gap_table(run).markdown()]
    parts += ["## Time and size", speed_table(run).markdown(), "## What was tuned", tuning_table(run).markdown()]
    return "\n\n".join([*parts, DISCLAIMER]) + "\n"


if __name__ == "__main__":
    main()
