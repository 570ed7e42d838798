"""Batches on Dask workers. Most tests have the workers in this process, which starts them in a moment."""

import json
import os
import signal
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest

from mrirecon.acquisition.scan import sha256_of
from mrirecon.batch.child import Failure
from mrirecon.batch.engine import Child
from mrirecon.batch.ledger import Ledger
from mrirecon.batch.scan import Machine, Settings
from mrirecon.cli.main import main
from mrirecon.errors import UsageError
from mrirecon.simulation.phantom import head_phantom
from mrirecon.simulation.scan import simulate_slices

pytest.importorskip("distributed")

from distributed import Scheduler, SpecCluster, Worker

from mrirecon.batch import dask_engine
from mrirecon.batch.dask_engine import GPU, DaskEngine, local_cluster, slurm_cluster

#: More than a child takes to start on a slow machine.
PATIENT = 300.0


@pytest.fixture(scope="module")
def cluster() -> Iterator[SpecCluster]:
    """One worker with a GPU, as it says, and one without."""
    options = {"nthreads": 1, "dashboard": False}
    workers = {
        "with": {"cls": Worker, "options": options | {"resources": {GPU: 1}}},
        "without": {"cls": Worker, "options": options},
    }
    scheduler = {"cls": Scheduler, "options": {"dashboard_address": ":0", "host": "127.0.0.1"}}
    with SpecCluster(workers=workers, scheduler=scheduler, silence_logs=False) as cluster:
        yield cluster


@pytest.fixture
def engine(cluster: SpecCluster, tmp_path: Path) -> Iterator[Callable[..., DaskEngine]]:
    """Makes engines for that cluster, with results in tmp_path/out."""
    made: list[DaskEngine] = []

    def make(told: list[str] | None = None, gpu: bool = False, address: str = "", method: str = "cs") -> DaskEngine:
        machine = Machine("cpu", threads=1, share=0.2)
        tell = (told if told is not None else []).append
        address = address or cluster.scheduler_address
        made.append(DaskEngine(address, Settings(method), machine, PATIENT, tmp_path / "out", gpu=gpu, tell=tell))
        return made[-1]

    with Ledger(tmp_path / "out"):
        yield make
        for one in made:
            one.close()


def write_scan(path: Path, seed: int = 0) -> Path:
    kspace = np.stack(list(simulate_slices(head_phantom((32, 32), 1, "t2", seed).images, 4, 30.0, seed)))
    mask = np.zeros(32, bool)
    mask[::2] = mask[10:22] = True
    path.parent.mkdir(exist_ok=True)
    with h5py.File(path, "w") as file:
        file["kspace"], file["mask"] = kspace * mask, mask
    return path


def batch(*arguments: object) -> int:
    return main(["batch", *map(str, arguments), "--method", "cg-sense", "--device", "cpu", "--threads", "1"])


def image(out: Path, scan: str) -> bytes:
    with h5py.File(next(out.glob(f"{scan}-*")) / "reconstruction.h5") as file:
        data: bytes = file["reconstruction"][()].tobytes()
        return data


def test_an_existing_scheduler_makes_the_images_of_one_machine(cluster, tmp_path: Path, monkeypatch) -> None:
    write_scan(tmp_path / "in" / "one.h5", 1)
    (tmp_path / "in" / "bad.h5").write_bytes(b"no scan")
    monkeypatch.chdir(tmp_path)  # where the workers are not
    assert batch("in", "-o", "out", "--scheduler", cluster.scheduler_address) == 3
    assert batch("in", "-o", "local") == 3
    assert image(tmp_path / "out", "one.h5") == image(tmp_path / "local", "one.h5")
    assert not list(Path("out").glob(".*"))
    states = {scan["scan"]: scan["state"] for scan in json.loads(Path("out/summary.json").read_text())["scans"]}
    assert states == {"in/bad.h5": "failed", "in/one.h5": "done"}


def test_a_worker_with_another_version_is_refused(engine, monkeypatch) -> None:
    told: list[str] = []
    here = engine(told)
    monkeypatch.setattr(dask_engine, "__version__", "0.0.1")  # of the workers: they are in this process
    with pytest.raises(UsageError, match=r"worker tcp.* has mrirecon 0\.0\.1 instead of .*; install the same there\."):
        here.submit(Child.run, os.getpid).result()
    assert len(told) == 2


def test_a_worker_with_another_model_is_refused(engine, tmp_path: Path, monkeypatch) -> None:
    model = tmp_path / "model.safetensors"
    model.write_bytes(b"one")
    here = engine(method=str(model))
    model.write_bytes(b"another")
    with pytest.raises(UsageError, match=r"has another model of that name, model\.safetensors"):
        here.submit(Child.run, os.getpid).result()
    model.unlink()
    here.close()
    monkeypatch.setattr(Settings, "model_sha256", lambda self: sha256_of(Path(self.method)))
    model.write_bytes(b"one")
    there = engine(method=str(model))
    monkeypatch.undo()
    model.unlink()
    with pytest.raises(UsageError, match=r"has no such model: .* no such checkpoint file"):
        there.submit(Child.run, os.getpid).result()


def test_a_worker_that_does_not_see_the_results_is_refused(engine, tmp_path: Path) -> None:
    here = engine()
    (tmp_path / "out" / "ledger.jsonl").rename(tmp_path / "ledger.jsonl")
    with pytest.raises(UsageError, match="storage that all workers share"):
        here.submit(Child.run, os.getpid).result()


def test_gpu_work_goes_to_workers_with_a_gpu(engine) -> None:
    everywhere, on_gpu = engine(), engine(gpu=True)
    assert (everywhere.workers, on_gpu.workers) == (2, 1)


def test_a_scheduler_that_does_not_answer_is_named(engine, monkeypatch) -> None:
    monkeypatch.setattr(dask_engine, "CONNECTING", 0.5)
    with pytest.raises(UsageError, match=r"tcp://127\.0\.0\.1:9: does not answer"):
        engine(address="tcp://127.0.0.1:9")


def test_without_dask_the_extra_is_named(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.delitem(sys.modules, "mrirecon.batch.dask_engine", raising=False)
    monkeypatch.delattr("mrirecon.batch.dask_engine", raising=False)
    monkeypatch.setitem(sys.modules, "distributed", None)
    assert batch(write_scan(tmp_path / "one.h5"), "-o", tmp_path / "out", "--engine", "dask") == 2
    assert "mrirecon[dask]" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--scheduler", "tcp://a:1", "--engine", "slurm"], "--scheduler does not go with"),
        (["--task", "1/2"], "--task does not go with"),
        (["--engine", "slurm-array", "--watch"], "--watch does not go with"),
        (["--engine", "slurm-array", "--task", "3/2"], "--task 3/2"),
        (["--engine", "ray"], "choose one of local, dask, slurm, slurm-array"),
    ],
)
def test_options_that_clash_are_refused(tmp_path: Path, capsys, arguments: list[str], words: str) -> None:
    (tmp_path / "one.h5").touch()
    assert batch(tmp_path / "one.h5", "-o", tmp_path / "out", *arguments) == 2
    assert words in capsys.readouterr().err


def test_a_worker_that_is_killed_costs_its_call_and_another_takes_its_place(engine) -> None:
    with local_cluster(1, gpu=False) as workers:
        here = engine(address=workers.scheduler_address)
        child = here.submit(Child.run, os.getpid).result(PATIENT)
        running = here.submit(Child.run, exec, "import time; time.sleep(1000)")
        os.kill(parent_of(child), signal.SIGKILL)
        failure = running.exception(PATIENT)
        assert isinstance(failure, Failure)
        assert failure.passing == "killed"
        assert here.submit(Child.run, os.getpid).result(PATIENT) != child
        here.close()


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def test_slurm_jobs_are_workers_with_a_gpu_where_one_is_wanted(tmp_path: Path, monkeypatch) -> None:
    pytest.importorskip("dask_jobqueue")
    fake_slurm(tmp_path, monkeypatch, "exit 1")
    with slurm_cluster(1, 4, 6_000_000_000, gpu=True) as cluster:
        script = cluster.job_script()
    assert "--cpus-per-task=4" in script
    assert "--gres=gpu:1" in script
    assert "--resources GPU=1" in script
    assert "--nthreads 1" in script


def fake_slurm(folder: Path, monkeypatch: pytest.MonkeyPatch, run: str) -> None:
    """sbatch and scancel that start and end the job on this machine."""
    commands = {
        "sbatch": f'copy={folder}/job.$$; cp "${{@: -1}}" $copy\n{run}',
        "scancel": 'kill -- "-$1"',
    }
    (folder / "bin").mkdir()
    for name, text in commands.items():
        path = folder / "bin" / name
        path.write_text(f"#!/bin/bash\n{text}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{folder / 'bin'}:{os.environ['PATH']}")


@pytest.mark.slow
def test_a_batch_runs_on_workers_that_are_slurm_jobs(tmp_path: Path, monkeypatch) -> None:
    pytest.importorskip("dask_jobqueue")
    run = 'setsid bash $copy >$copy.log 2>&1 </dev/null &\necho "Submitted batch job $!"'
    fake_slurm(tmp_path, monkeypatch, run)
    monkeypatch.setenv("DASK_JOBQUEUE__SLURM__INTERFACE", "lo")
    out = tmp_path / "out"
    assert batch(write_scan(tmp_path / "in" / "one.h5"), "-o", out, "--engine", "slurm", "--memory", "4GB") == 0
    assert image(out, "one.h5")
    assert "dask_worker" in next(tmp_path.glob("job.*[0-9]")).read_text()
