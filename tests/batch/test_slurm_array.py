"""The script for SLURM: its tasks, run by hand one after the other, and what the batch makes of them."""

import json
import os
import subprocess
from pathlib import Path

import h5py
import numpy as np

from mrirecon.batch.inputs import Input
from mrirecon.batch.slurm_array import MOST_TASKS, write_script
from mrirecon.cli.main import main
from mrirecon.simulation.phantom import head_phantom
from mrirecon.simulation.scan import simulate_slices


def write_scan(path: Path) -> None:
    kspace = np.stack(list(simulate_slices(head_phantom((32, 32), 1, "t2", 0).images, 4, 30.0, 0)))
    mask = np.zeros(32, bool)
    mask[::2] = mask[10:22] = True
    with h5py.File(path, "w") as file:
        file["kspace"], file["mask"] = kspace * mask, mask


def states(out: Path) -> dict[str, str]:
    scans = json.loads((out / "summary.json").read_text())["scans"]
    return {Path(scan["scan"]).name: scan["state"] for scan in scans}


def test_what_its_tasks_did_the_batch_keeps_and_reports(tmp_path: Path, monkeypatch, capsys) -> None:
    source, out = tmp_path / "it's in", tmp_path / "out $HOME"
    source.mkdir()
    write_scan(source / "one.h5")
    (source / "two.h5").write_bytes(b"no scan")
    monkeypatch.chdir(tmp_path)
    arguments = ["batch", source.name, "-o", out.name, "--method", "cg-sense", "--device", "cpu", "--threads", "1"]
    assert main([*arguments, "--engine", "slurm-array", "--time-limit", "90"]) == 0
    script = out / "slurm" / "batch.sbatch"
    assert f"sbatch '{script}'" in capsys.readouterr().out
    subprocess.run(["bash", "-n", script], check=True)
    text = script.read_text()
    assert "#SBATCH --array=1-2\n" in text
    assert "#SBATCH --cpus-per-task=1\n" in text
    assert "#SBATCH --time=12\n" in text

    (source / "three.h5").touch()  # too late for this array
    codes = []
    for number in ("1", "2"):
        environment = os.environ | {"SLURM_ARRAY_TASK_ID": number}
        codes.append(subprocess.run(["bash", script], env=environment, cwd="/").returncode)
    assert codes == [0, 4]
    assert "done, OK" in (out / "slurm" / "1.log").read_text()
    assert not (out / "report.html").exists()
    folders = {path: path.stat().st_mtime_ns for path in out.glob("one.h5-*/*")}
    assert folders

    (source / "three.h5").unlink()
    assert main([*arguments, "--engine", "slurm-array", "--time-limit", "90", "--engine", "local"]) == 3
    assert states(out) == {"one.h5": "kept", "two.h5": "failed"}
    assert (out / "report.html").exists()
    assert {path: path.stat().st_mtime_ns for path in out.glob("one.h5-*/*")} == folders
    assert not list(out.glob(".*"))


def test_more_scans_than_tasks_are_shared_out(tmp_path: Path) -> None:
    inputs = [Input(Path(f"{number}.h5"), noise=Path("noise.h5")) for number in range(MOST_TASKS + 1)]
    script = write_script(tmp_path, inputs, ["in"], cores=2, memory=3 * 2**30, seconds=3600, gpu=True)
    text = script.read_text()
    assert f"#SBATCH --array=1-{MOST_TASKS}\n" in text
    assert f'--task "$SLURM_ARRAY_TASK_ID/{MOST_TASKS}"' in text
    assert "#SBATCH --time=130\n" in text
    assert "#SBATCH --mem=3072M\n" in text
    assert "#SBATCH --gres=gpu:1\n" in text
    rows = [json.loads(line) for line in (tmp_path / "slurm" / "scans.jsonl").read_text().splitlines()]
    assert len(rows) == MOST_TASKS + 1
    assert rows[0] == {"scan": str(Path("0.h5").absolute()), "noise": str(Path("noise.h5").absolute())}
