"""A batch on many machines: each worker of a Dask cluster holds one child, and supervises one scan at a time.

Dask starts the workers and tells which are there. Which of them does what is decided here, because Dask by itself gives
a worker several calls ahead, and when it dies, repeats them all. A call returns facts; images go to storage that all
workers share. Needs the extra mrirecon[dask].
"""

import logging
import math
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from distributed import Client, LocalCluster
from distributed import Future as DaskFuture
from distributed.deploy.cluster import Cluster

from mrirecon import __version__
from mrirecon.batch.child import Failure, failure_of
from mrirecon.batch.engine import Child
from mrirecon.batch.ledger import LEDGER
from mrirecon.batch.scan import Machine, Settings
from mrirecon.batch.supervise import child_for
from mrirecon.errors import MrireconError, ResourceError, UsageError
from mrirecon.reconstruction.methods import checkpoint_of

#: Seconds between two looks at which workers there are; for a cluster to close; until it is told that there are none.
LOOK, CLOSING, PATIENCE = 1.0, 10.0, 30.0
#: Seconds in which a scheduler must answer.
CONNECTING = 30.0
#: More calls than that at a time are not made; each waits in a thread here.
MOST_WORKERS = 1000
GPU = "GPU"
GONE = "the Dask scheduler is gone; start the same command again."


@dataclass(frozen=True)
class Workplace:
    """What a worker needs to know to take part in one batch. name: its own. folder: of the results; cwd: of paths."""

    name: str
    settings: Settings
    machine: Machine
    seconds: float
    folder: Path
    cwd: Path
    version: str
    model_sha256: str | None


class DaskEngine:
    """The workers of a cluster that have the same program and model and see the same folder.

    cluster: ended with the engine; or the address of a scheduler, which stays. gpu: only workers with a resource called
    GPU. folder: of the results. tell: is given sentences for people. Raises UsageError if the scheduler does not
    answer.
    """

    def __init__(
        self,
        cluster: Cluster | str,
        settings: Settings,
        machine: Machine,
        seconds: float,
        folder: Path,
        *,
        gpu: bool,
        tell: Callable[[str], None],
    ):
        sha256, file = settings.model_sha256(), checkpoint_of(settings.method)
        if file == Path(settings.method):  # no shipped model, which each finds by its name
            settings = replace(settings, method=str(file.absolute()))
        here = Path.cwd()
        self._place = Workplace(
            uuid.uuid4().hex, settings, machine, seconds, folder.absolute(), here, __version__, sha256
        )
        self._cluster, self._gpu, self._tell = cluster, gpu, tell
        logging.getLogger("distributed").setLevel(logging.CRITICAL)  # what matters is told here
        try:
            self._client = Client(cluster, set_as_default=False, timeout=CONNECTING)
        except (OSError, ValueError) as error:
            raise UsageError(f"--scheduler {cluster}: does not answer ({error}); is the address right?") from error
        self._answers: dict[str, str | None] = {}
        self._busy: set[str] = set()
        self._change = threading.Condition()
        self._looked = -LOOK
        self._there: set[str] = set()
        self._stopped = False
        self._pool = ThreadPoolExecutor(MOST_WORKERS)

    @property
    def workers(self) -> int:
        """How many take part at the moment; at least one, for which a call then waits."""
        with self._change:
            return max(len(self._accepted()), 1)

    def submit(self, function: Callable[..., Any], *arguments: Any) -> "Future[Any]":
        """Call `function(child, *arguments)` on a worker that is idle, with the child that it holds."""
        return self._pool.submit(self._run, function, arguments)

    def _run(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        worker = self._take()
        try:
            answer = self._result(
                self._client.submit(
                    on_worker,
                    self._place,
                    function,
                    arguments,
                    key=f"mrirecon-{uuid.uuid4().hex}",
                    workers=[worker],
                    resources={GPU: 1} if self._gpu else None,
                    retries=0,
                    pure=False,
                ),
                worker,
            )
        finally:
            with self._change:
                self._busy.discard(worker)
                self._change.notify_all()
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _take(self) -> str:
        """An idle worker; waits for one."""
        patience = time.monotonic() + PATIENCE
        with self._change:
            while not self._stopped:
                accepted = self._accepted()
                if idle := sorted(accepted - self._busy):
                    self._busy.add(idle[0])
                    return idle[0]
                if not accepted and time.monotonic() > patience:
                    self._tell("waiting for Dask workers" + (f" with the resource {GPU}" if self._gpu else ""))
                    patience = math.inf
                self._change.wait(LOOK)
        raise ResourceError("the batch was stopped.")

    def _result(self, future: DaskFuture, worker: str) -> Any:
        """What a call returned; Failure as soon as its worker is gone."""
        while not self._stopped:
            try:
                return future.result(timeout=LOOK)
            except TimeoutError:
                with self._change:
                    lost = worker not in self._accepted()
                if lost:
                    future.cancel()
                    raise Failure(ResourceError.exit_code, "its Dask worker was lost.", passing="killed") from None
            except CancelledError as error:
                raise ResourceError(GONE) from error
            except Exception as error:
                raise failure_of(error) from error
        raise ResourceError("the batch was stopped.")

    def _accepted(self) -> set[str]:
        """The addresses of the workers that take part. Raises UsageError if there are only others."""
        if time.monotonic() - self._looked >= LOOK:
            self._there = self._workers()
            self._looked = time.monotonic()
            if new := sorted(self._there - self._answers.keys()):
                self._ask(new)
        answers = {worker: self._answers[worker] for worker in self._there if worker in self._answers}
        accepted = {worker for worker, problem in answers.items() if problem is None}
        if problems := [problem for problem in answers.values() if problem and not accepted]:
            raise UsageError(problems[0])
        return accepted

    def _workers(self) -> set[str]:
        try:
            found = self._client.scheduler_info()["workers"]
        except (OSError, ValueError) as error:
            raise ResourceError(GONE) from error
        return {address for address, facts in found.items() if facts["resources"].get(GPU, 0) >= 1 or not self._gpu}

    def _ask(self, workers: list[str]) -> None:
        """Find out what keeps each of the workers from taking part; those that do not answer are asked again."""
        answers = self._client.run(objection, self._place, workers=workers, on_error="return")
        for worker, answer in answers.items():
            if isinstance(answer, OSError):
                continue
            if isinstance(answer, Exception):
                answer = f"does not know this version of mrirecon, {__version__} ({answer}); install the same there."
            self._answers[worker] = f"the Dask worker {worker} {answer}" if answer else None
            if answer:
                self._tell(f"{self._answers[worker]} It gets no scans.")

    def close(self) -> None:
        """End what the workers are doing for this batch, and the cluster if it is the engine's own."""
        with self._change:
            self._stopped = True
            self._change.notify_all()
        with suppress(Exception):  # the cluster may be gone, in part or all of it
            self._client.run(let_go, self._place.name, on_error="ignore", workers=sorted(self._there))
        self._pool.shutdown(cancel_futures=True)
        with suppress(Exception):
            self._client.close(CLOSING)
            if isinstance(self._cluster, Cluster):
                self._cluster.close(CLOSING)


#: In a worker: the child that it holds, the workplace that the child is for, and who may use it.
_child: Child | None = None
_place: Workplace | None = None
_turn = threading.Lock()


def objection(place: Workplace) -> str | None:
    """On a worker: why it cannot take part, as the end of a sentence; None if it can."""
    if place.version != __version__:
        return f"has mrirecon {__version__} instead of {place.version}; install the same there."
    try:
        sha256 = place.settings.model_sha256()
    except MrireconError as error:
        return f"has no such model: {error}"
    if sha256 != place.model_sha256:
        return f"has another model of that name, {Path(place.settings.method).name}; copy the same file there."
    if not (place.folder / LEDGER).exists():
        return f"does not see {place.folder}; results need storage that all workers share."
    return None


def on_worker(place: Workplace, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    """On a worker: `function(child, *arguments)`, or the Failure or MrireconError that it raises."""
    global _child, _place
    with _turn:
        if _child is None or _place != place or _child.stopped:
            if _child is not None:
                _child.stop()
            _child, _place = child_for(place.settings, place.machine, place.seconds, place.cwd), place
        try:
            return function(_child, *arguments)
        except (Failure, MrireconError) as error:
            return error


def let_go(name: str) -> None:
    """On a worker: end its child, if it is for the batch of that name."""
    if _child is not None and _place is not None and _place.name == name:
        _child.stop()


def local_cluster(workers: int, gpu: bool) -> Cluster:
    """Workers on this machine, each a process of one thread, which are started again when they die."""
    return LocalCluster(
        n_workers=workers,
        threads_per_worker=1,
        memory_limit=None,
        dashboard_address="127.0.0.1:0",  # there is always one; it is for this machine only
        worker_dashboard_address="127.0.0.1:0",
        silence_logs=logging.CRITICAL,
        resources={GPU: 1} if gpu else None,
    )


def slurm_cluster(workers: int, cores: int, memory: int, gpu: bool) -> Cluster:
    """So many SLURM jobs with one worker each; the site's partition, account and network are those of Dask's settings.

    cores, memory in bytes: of a job.
    """
    from dask_jobqueue import SLURMCluster

    cluster = SLURMCluster(
        cores=cores,
        processes=1,
        memory=f"{memory / 1e9:.2f}GB",
        worker_extra_args=["--nthreads", "1", "--memory-limit", "0", *(["--resources", f"{GPU}=1"] if gpu else [])],
        job_extra_directives=["--gres=gpu:1"] if gpu else [],
    )
    cluster.adapt(minimum_jobs=workers, maximum_jobs=workers)  # replaces jobs that ended
    return cluster
