import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import h5py
import nibabel
import numpy as np
import pytest
import yaml
from pytorch_lightning import Trainer

from mrirecon.acquisition.scan import sha256_of
from mrirecon.errors import InputError, UsageError
from mrirecon.evaluation.evaluate import Setting
from mrirecon.evaluation.grid import run as grid_run
from mrirecon.evaluation.grid.charts import looks, pareto_front
from mrirecon.evaluation.grid.config import Grid, as_content, grid_of, read_grid
from mrirecon.evaluation.grid.data import fitted_to, of_split, simulate, volumes_of
from mrirecon.evaluation.grid.jobs import run_jobs
from mrirecon.evaluation.grid.report import write_report
from mrirecon.evaluation.grid.results import GridRun, Machine
from mrirecon.evaluation.grid.robust_tables import corruption_table, gap_table, lesion_table
from mrirecon.evaluation.grid.run import run_grid
from mrirecon.evaluation.grid.tables import SSIM, ranked_table, trained_for, values_of
from mrirecon.evaluation.robustness.corruptions import CORRUPTIONS, WORST_CASE, Corruption
from mrirecon.training.callbacks import ValidationImages

pytestmark = pytest.mark.filterwarnings("ignore")

ROOT = Path(__file__).resolve().parents[2]
PAPERS = sorted((ROOT / "configs" / "papers").glob("*.yaml"))
CONTENT = {
    "title": "A < B",
    "note": "Plumbing.",
    "reference": "UNet, none",
    "masks": ["equispaced"],
    "accelerations": [3, 4],
    "acs": 12,
    "data": {
        "train": 1, "val": 1, "test": 2, "contrasts": ["t1"], "slices": 1, "matrix": [48, 48], "coils": 3, "lesions": 4,
    },
    "shifts": {
        "other coils": {
            "train": 1, "val": 1, "test": 1, "contrasts": ["t1"], "slices": 1, "matrix": [48, 48], "coils": 2,
            "seed": 1,
        },
    },
    "robustness": {
        "settings": [["equispaced", 3]],
        "methods": ["CS", "UNet, none"],
        "corruptions": {"noise": [1, 3], "worst_case": [1]},
        "steps": 2,
        "lesions": {"diameters": [4], "contrasts": [0.5]},
        "gap": ["other coils"],
    },
    "training": {"epochs": 1, "acs": [8, 12]},
    "methods": {
        "Zero-filled": {"method": "zero-filled"},
        "CS": {"method": "cs", "arguments": {"iterations": 3}, "tune": {"weight": [0.005, 5.0]}},
        "CS best": {"method": "cs", "arguments": {"iterations": 3}, "oracle": {"weight": [5.0, 0.005]}},
        "UNet": {
            "config": "unet_small", "data_consistency": ["none", "soft"], "arguments": {"channels": 2, "pools": 1},
        },
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def grid() -> Grid:
    return grid_of(CONTENT)


@pytest.fixture(scope="module")
def finished(grid: Grid, tmp_path_factory) -> tuple[GridRun, Path]:
    folder = tmp_path_factory.mktemp("run")
    run = run_grid(grid, folder, Machine())
    write_report(folder, run, Machine(), "mrirecon evaluate 'a & b'")
    return run, folder


def test_every_method_form_volume_and_setting_has_a_cell(finished: tuple[GridRun, Path]) -> None:
    run, _ = finished
    cells = {(c.variant.name, c.volume.data, c.volume.subject, c.setting) for c in run.cells}
    assert len(cells) == len(run.cells) == 5 * (2 + 1) * 2
    assert run.failures == []
    assert run.missing == 0
    assert {c.variant.name for c in run.cells} == {"Zero-filled", "CS", "CS best (oracle)", "UNet, none", "UNet, soft"}
    assert {c.row.simulated for c in run.cells} == {"yes"}


def test_the_weight_is_tuned_on_the_validation_split(finished: tuple[GridRun, Path]) -> None:
    run, _ = finished
    assert {facts["value"] for facts in run.tuned.values()} == {0.005}  # the other wipes the image out
    assert len(run.tuned) == 2 + 2  # a contrast, two accelerations; and for the gap


def test_the_oracle_takes_the_best_for_each_volume_and_has_no_speed(finished: tuple[GridRun, Path]) -> None:
    run, _ = finished
    best = [cell for cell in run.cells if cell.variant.name == "CS best (oracle)"]
    tuned = {(c.volume, c.setting): c.row.nmse for c in run.cells if c.variant.name == "CS"}
    assert {cell.oracle for cell in best} == {"weight = 0.005"}
    assert all(cell.row.nmse == tuned[cell.volume, cell.setting] for cell in best if cell.volume.data == "own")
    assert "CS best (oracle)" not in run.speeds


def test_corruptions_cost_quality_and_the_worst_case_more_than_noise(finished: tuple[GridRun, Path]) -> None:
    run, _ = finished
    assert len(run.corrupted) == 2 * 2 * 3  # methods, volumes, kinds and levels
    assert {cell.setting for cell in run.corrupted} == {Setting("equispaced", 3, 12)}
    errors = {(c.volume, c.variant, c.corruption): c.row.nmse for c in run.corrupted}
    for volume, variant in {(c.volume, c.variant) for c in run.corrupted}:
        some, more, worst = (
            errors[volume, variant, corruption]
            for corruption in (Corruption("noise", 1), Corruption("noise", 3), Corruption("worst_case", 1, 2))
        )
        assert some < worst
        assert some < more or variant.name != "CS"  # the network was hardly trained and sees little of anything
    table = corruption_table(run, "noise", Setting("equispaced", 3, 12))
    assert [line[0] for line in table.rows] == ["CS", "UNet, none"]
    assert table.columns[2:6] == ["clean", "1", "3", "loss at 3"]


def test_inserted_lesions_are_counted_by_subject(finished: tuple[GridRun, Path]) -> None:
    run, folder = finished
    table = lesion_table(run)
    assert [line[:3] for line in table.rows] == [["CS", "2", "2"], ["UNet, none", "2", "2"]]
    with (folder / "lesions.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 4
    detected = [line["detected"] == "True" for line in lines if line["method"] == "CS"]
    assert table.rows[0][3] == f"{np.mean(detected):.0%}"


def test_the_gap_is_what_training_on_the_test_data_would_gain(finished: tuple[GridRun, Path]) -> None:
    run, _ = finished
    table = gap_table(run)
    assert [line[:3] for line in table.rows] == [["other coils", "CS", "1"], ["other coils", "UNet, none", "1"]]
    there = next(c for c in run.gap["other coils"] if c.variant.name == "UNet, none")
    own = next(c for c in run.cells if (c.volume, c.variant, c.setting) == (there.volume, there.variant, there.setting))
    assert table.rows[1][5] == f"{there.row.ssim - own.row.ssim:+.4f}"
    assert there.row.ssim != own.row.ssim  # other weights


def test_a_second_run_does_nothing_and_finds_the_same(
    finished: tuple[GridRun, Path], grid: Grid, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, folder = finished
    for work in ("simulate", "train_network", "tune", "score", "find_lesions"):
        monkeypatch.setattr(grid_run, work, lambda job: pytest.fail("was done again"))
    again = run_grid(grid, folder, Machine())
    assert [cell.row for cell in again.cells] == [cell.row for cell in run.cells]
    assert (again.corrupted, again.lesions, again.gap) == (run.corrupted, run.lesions, run.gap)


def test_checkpoints_that_come_with_the_grid_are_not_trained(
    finished: tuple[GridRun, Path], grid: Grid, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, _ = finished
    weights = tmp_path / "weights"
    weights.mkdir()
    for variant, path in run.checkpoints.items():
        shutil.copy(path, weights / f"{variant.file_stem}.safetensors")
    monkeypatch.setattr(grid_run, "train_network", lambda job: pytest.fail("was trained"))
    brought = run_grid(replace(grid, checkpoints=weights, robustness=None), tmp_path / "run", Machine())
    assert {variant.name for variant in brought.checkpoints} == {"UNet, none", "UNet, soft"}

    def scores(of: GridRun) -> dict[object, float | None]:
        return {(c.variant.name, c.volume.data, c.volume.subject, c.setting): c.row.nmse for c in of.cells}

    assert scores(brought) == scores(run)


def test_only_what_is_missing_is_done_again_and_the_numbers_repeat(
    finished: tuple[GridRun, Path], grid: Grid, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, folder = finished
    before = (folder / "results.csv").read_bytes()
    cells = sorted((folder / "cells").glob("*.json"))
    cells[0].unlink()
    cells[1].write_text(cells[1].read_text()[:50])  # a file system's accident
    monkeypatch.setattr(grid_run, "train_network", lambda job: pytest.fail("was trained again"))
    again = run_grid(grid, folder, Machine())
    write_report(folder, again, Machine(), "mrirecon evaluate")
    assert (folder / "results.csv").read_bytes() == before
    assert json.loads(cells[1].read_text())["version"] == run.cells[0].row.version


@pytest.mark.slow
def test_the_same_seed_gives_the_same_numbers_in_another_folder_and_more_processes(
    finished: tuple[GridRun, Path], grid: Grid, tmp_path: Path
) -> None:
    _, folder = finished
    machine = Machine(workers=2)
    write_report(tmp_path, run_grid(grid, tmp_path, machine), machine, "")
    assert (tmp_path / "results.csv").read_bytes() == (folder / "results.csv").read_bytes()


def test_the_report_stands_alone_and_says_what_it_must(finished: tuple[GridRun, Path]) -> None:
    run, folder = finished
    html = (folder / "report.html").read_text(encoding="utf-8")
    assert "<script" not in html
    assert "http" not in html.replace("http://www.w3.org", "")
    for text in ("A &lt; B", "Plumbing.", "Simulated data", "mrirecon evaluate", "torch", "weight = 0.005", "n = 2"):
        assert text in html
    for text in (
        "Explicit against implicit",
        "Quality against acceleration",
        "Quality against time",
        "UNet: soft − none",
        "corrupted measurements",
        "inserted lesions",
        "the gap to training",
    ):
        assert text in html
    assert html.count('alt="CS: without and with the lesion"') == 1
    assert html.count("data:image/svg+xml;base64,") >= 6
    assert yaml.safe_load((folder / "grid.yaml").read_text())["methods"]["CS"]["tune"] == {"weight": [0.005, 5.0]}
    with (folder / "results.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == len(run.cells)
    assert "seconds" not in lines[0]


def test_with_two_subjects_there_is_no_rank_and_no_p(finished: tuple[GridRun, Path]) -> None:
    run, _ = finished
    table = ranked_table(trained_for(run), "UNet, none")
    assert {line[0] for line in table.rows} == {"–"}
    assert {line[table.columns.index("p (Holm)")] for line in table.rows} == {"n = 2", "–"}


def test_the_unit_is_the_subject_and_not_the_volume(finished: tuple[GridRun, Path]) -> None:
    run, _ = finished
    values = values_of(run.cells, SSIM)["CS"]
    assert list(values) == ["own test000", "own test001", "other coils test000"]
    places = [(c.row.ssim, c.variant.name, c.volume.data, c.volume.subject) for c in run.cells]
    own = [ssim for ssim, *place in places if place == ["CS", "own", "test000"]]
    assert len(own) == 2
    assert values["own test000"] == pytest.approx(np.mean(own))


def test_a_training_that_was_interrupted_goes_on_to_the_same_weights(
    grid: Grid, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    two = replace(grid, training=replace(grid.training, epochs=2))
    runner = grid_run.Runner(two, tmp_path, Machine(), lambda text: None)
    variant = next(variant for variant in two.variants() if variant.spec.config)
    job = grid_run.training_job(two, variant, runner.make_data(), runner.hashes, tmp_path / "training", False)
    whole = replace(job, folder=tmp_path / "whole")
    grid_run.train_network(whole)

    def interrupted(trainer: Trainer, module: object) -> None:
        if trainer.current_epoch == 1:
            raise RuntimeError("the power went out")

    with monkeypatch.context() as patch:
        patch.setattr(ValidationImages, "on_validation_end", lambda self, *arguments: interrupted(*arguments))
        with pytest.raises(RuntimeError, match="power"):
            grid_run.train_network(job)
    assert not job.done.exists()
    grid_run.train_network(job)
    resumed, straight = (json.loads(path.read_text()) for path in (job.done, whole.done))
    assert resumed["sha256"] == straight["sha256"]
    assert resumed["seconds"] is None


def test_one_bad_job_does_not_cost_the_others() -> None:
    done: list[int] = []

    def work(number: int) -> None:
        if number == 1:
            raise InputError("no")
        done.append(number)

    assert {n: str(e) for n, e in run_jobs(work, [0, 1, 2], 1, 1, lambda done, count: None).items()} == {1: "no"}
    assert done == [0, 2]


PATIENT_JOBS = """
import os, signal, sys, time
from pathlib import Path
from mrirecon.evaluation.grid.jobs import run_jobs

def work(path):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # as Lightning does in a training
    Path(path).write_text(str(os.getpid()))
    time.sleep(600)

if __name__ == "__main__":
    run_jobs(work, sys.argv[1:], 2, 1, print)
"""


def test_an_interruption_ends_all_processes_at_once(tmp_path: Path) -> None:
    script = tmp_path / "jobs.py"
    script.write_text(PATIENT_JOBS)
    started = [tmp_path / name for name in "ab"]
    program = subprocess.Popen([sys.executable, script, *started], stderr=subprocess.DEVNULL)
    while not all(path.exists() and path.read_text() for path in started):
        time.sleep(0.1)
        assert program.poll() is None
    program.send_signal(signal.SIGINT)
    assert program.wait(60) != 0
    for path in started:
        with pytest.raises(ProcessLookupError):
            os.kill(int(path.read_text()), 0)


def test_scans_with_a_manifest_are_taken_as_they_are(write_scan, tmp_path: Path, grid: Grid) -> None:
    names = {"a.h5": "train", "b.h5": "val", "c.h5": "test", "d.h5": None}
    files = [
        {"file": write_scan(n).name, "subject": n, "contrast": "AXT2"} | ({"split": s} if s else {})
        for n, s in names.items()
    ]
    manifest = tmp_path / "scans.yaml"
    manifest.write_text(yaml.safe_dump({"name": "elsewhere", "files": files}))
    data = replace(grid.data, path=manifest)
    volumes, sources = volumes_of("own", data, tmp_path / "data")
    assert sources == []
    assert [(v.split, v.subject, v.contrast) for v in volumes] == [(s, n, "axt2") for n, s in names.items() if s]
    only = {"CS": grid.methods["CS"]}
    classical = replace(grid, data=data, reference="CS", methods=only, shifts={}, robustness=None)
    run = run_grid(classical, tmp_path / "run", Machine())
    assert [cell.volume.path.name for cell in run.cells] == ["c.h5", "c.h5"]
    (tmp_path / "c.h5").unlink()
    with pytest.raises(InputError, match=r"c\.h5 is missing"):
        volumes_of("own", data, tmp_path / "data")


def test_a_manifest_without_splits_is_refused_with_the_cure(write_scan, tmp_path: Path, grid: Grid) -> None:
    manifest = tmp_path / "scans.yaml"
    manifest.write_text(yaml.safe_dump({"name": "x", "files": [{"file": write_scan().name}]}))
    with pytest.raises(UsageError, match="manifest split"):
        volumes_of("own", replace(grid.data, path=manifest), tmp_path)
    with pytest.raises(UsageError, match="manifest create"):
        volumes_of("own", replace(grid.data, path=tmp_path), tmp_path)


def test_a_folder_of_images_is_split_by_subject_and_simulated(tmp_path: Path, grid: Grid) -> None:
    y, x = np.mgrid[-1:1:60j, -1:1:50j]
    head = ((y / 0.8) ** 2 + (x / 0.7) ** 2 < 1) * (1 + 0.3 * np.sin(9 * x))
    images = tmp_path / "images"
    images.mkdir()
    for subject in "abcde":
        for contrast in ("T1W", "FLAIR"):
            volume = np.repeat(head.astype(np.float32)[..., None], 3, axis=2)
            nibabel.save(nibabel.Nifti1Image(volume, np.eye(4)), images / f"{subject}_study_{contrast}.nii.gz")
    data = replace(grid.data, path=images, slices=2)
    volumes, sources = volumes_of("own", data, tmp_path / "data")
    assert len(sources) == len(volumes) == 10
    assert {v.contrast for v in volumes} == {"t1", "flair"}
    splits = {split: {v.subject for v in of_split(volumes, split)} for split in ("train", "val", "test")}
    assert sum(map(len, splits.values())) == 5  # nobody is in two
    simulate(sources[0])
    with h5py.File(volumes[0].path) as file:
        assert file["kspace"].shape == (2, 3, 48, 48)
        assert json.loads(file.attrs["provenance"])["simulated"] is True
    first = sha256_of(volumes[0].path)
    volumes[0].path.unlink()
    simulate(sources[0])
    assert sha256_of(volumes[0].path) == first


def test_images_bring_their_lesions_and_trainings_get_more_slices(tmp_path: Path, grid: Grid) -> None:
    y, x = np.mgrid[-1:1:60j, -1:1:50j]
    head = ((y / 0.8) ** 2 + (x / 0.7) ** 2 < 1) * (1 + 0.3 * np.sin(9 * x)).astype(np.float32)
    mask = np.zeros((60, 50, 6), np.int16)
    mask[20:40, 20:30, 2:] = 1
    nibabel.save(
        nibabel.Nifti1Image(np.repeat(head[..., None], 6, axis=2).transpose(1, 0, 2), np.eye(4)), tmp_path / "a.nii"
    )
    nibabel.save(nibabel.Nifti1Image(mask.transpose(1, 0, 2), np.eye(4)), tmp_path / "mask.nii")
    files = [
        {"file": "a.nii", "subject": split, "split": split, "contrast": "FLAIR", "lesions": "mask.nii"}
        for split in ("train", "test")
    ]
    manifest = tmp_path / "images.yaml"
    manifest.write_text(yaml.safe_dump({"name": "lesions", "files": [files[0]]}))
    data = replace(grid.data, path=manifest, slices=2, train_slices=3, matrix=(30, 25))
    for number, split in enumerate(("train", "test")):
        manifest.write_text(yaml.safe_dump({"name": "lesions", "files": [files[number]]}))
        (volume,), (source,) = volumes_of(split, data, tmp_path / "data")
        simulate(source)
        with h5py.File(volume.path) as file:
            lesions = file["lesion_mask"][:]
        assert lesions.shape == ((3, 2)[number], 30, 25)
        assert lesions[0].sum() == pytest.approx(20 * 10 / 4, rel=0.1)
    (tmp_path / "mask.nii").unlink()
    with pytest.raises(InputError, match=r"mask\.nii"):
        volumes_of("test", data, tmp_path / "data")


def test_images_keep_their_shape_and_brightness_on_another_matrix() -> None:
    y, x = np.mgrid[-50:50, -40:40]
    disc = (y**2 + x**2 < 30**2).astype(np.float32)[None]
    small, wide = (fitted_to(disc, matrix).real for matrix in ((50, 50), (120, 100)))
    assert small.shape == (1, 50, 50)
    assert small[0, 25, 25] == pytest.approx(1, abs=0.05)
    assert (small > 0.5).sum() == pytest.approx(disc.sum() / 4, rel=0.05)
    np.testing.assert_allclose(wide[0, 10:110, 10:90], disc[0], atol=1e-5)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"methods": {"A": {}}}, "either 'method'"),
        ({"methods": {"A": {"method": "cs", "weight": 1}}}, "no field 'weight'"),
        ({"reference": "Nobody"}, "none of the methods"),
        ({"masks": ["spiral"]}, "spiral"),
        ({"masks": "equispaced"}, "must be a list"),
        ({"data": {"slices": "many"}}, "must be a number"),
        ({"volume": 3}, "no field 'volume'"),
        ({"robustness": {}, "methods": {"A": {"config": "unet", "oracle": {"x": [1]}}}}, "need no training"),
        ({"robustness": {"settings": [], "corruptions": {"gravity": [1]}}}, "no 'gravity'"),
        ({"robustness": {"settings": [["equispaced", 9]]}}, "'equispaced 9×' is none of the grid's"),
        ({"robustness": {"settings": [], "methods": ["Nobody"]}}, "'Nobody' is none of the grid's"),
        ({"robustness": {"settings": [], "gap": ["own"]}}, "gap: 'own'"),
        ({"robustness": {"settings": [], "lesions": {"size": 3}}}, "robustness: lesions: there is no field 'size'"),
    ],
)
def test_what_is_wrong_in_a_grid_is_said(change: dict, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        grid_of(CONTENT | change)


@pytest.mark.parametrize("path", PAPERS, ids=lambda path: path.stem)
def test_the_papers_grids_can_be_read_and_built(path: Path, tmp_path: Path) -> None:
    grid = read_grid(path)
    assert grid_of(as_content(grid)) == grid
    assert not {"poisson2d"} & set(grid.masks)  # kept out of all training
    assert grid.robustness
    assert {"worst_case", "noise"} <= set(grid.robustness.corruptions)  # of the same norm
    assert grid.robustness.lesions
    if path.stem.endswith("_small"):
        assert len(grid.seeds) >= 2
        assert set(grid.robustness.corruptions) == {*CORRUPTIONS, WORST_CASE}
        assert grid.data.test >= 8
    if path.stem.endswith("_smoke"):
        assert "Plumbing" in grid.note
        runner = grid_run.Runner(grid, tmp_path, Machine(), lambda text: None)
        volumes, _ = volumes_of("own", grid.data, tmp_path)
        hashes = dict.fromkeys([volume.path for volume in volumes], "")
        for variant in runner.grid.variants():
            if variant.spec.config:  # building refuses a form that the network does not admit
                grid_run.training_job(grid, variant, volumes, hashes, tmp_path, False)


def test_the_pareto_front_holds_those_that_none_beats() -> None:
    points = {"fast": (1.0, 0.5), "good": (3.0, 0.9), "dominated": (2.0, 0.4), "slow": (9.0, 0.9), "middle": (2.0, 0.7)}
    assert pareto_front(points) == ["fast", "middle", "good"]


def test_forms_of_a_network_share_a_colour_and_differ_in_the_line() -> None:
    look = looks(["A, x", "A, y", "B"], {"A, x": "A", "A, y": "A", "B": "B"})
    assert look["A, x"]["color"] == look["A, y"]["color"] != look["B"]["color"]
    assert look["A, x"]["linestyle"] != look["A, y"]["linestyle"]
