"""One scan, seen from the process that supervises the child that reconstructs it: its lease and its folder."""

import os
import uuid
from pathlib import Path
from shutil import rmtree
from typing import Any

from mrirecon.batch.child import failure_of
from mrirecon.batch.engine import Child
from mrirecon.batch.folder import LEASE, SHORT, WORK, clear, finished, publish
from mrirecon.batch.inputs import Input
from mrirecon.batch.lease import leased
from mrirecon.batch.scan import Machine, Settings, folder_name, reconstruct, set_up

#: Of the memory that is free at the start, what all workers may take together.
MEMORY_SHARE = 0.8


def has_gpu(device: str) -> bool:
    """Whether work goes to a GPU: there is one, and it is wanted."""
    return device != "cpu" and Path("/proc/driver/nvidia").exists()


def child_for(settings: Settings, machine: Machine, seconds: float, cwd: Path | None = None) -> Child:
    """A child that reconstructs scans; not started yet. cwd: from which paths are seen."""

    def started(child: Child, available: int) -> None:
        child.memory = child.memory or int(MEMORY_SHARE * available * machine.share)

    # The memory of a GPU is seen to by the reconstruction itself.
    limit = None if has_gpu(machine.device) else machine.memory
    threads = machine.threads or len(os.sched_getaffinity(0))
    return Child(set_up, settings, machine, threads=threads, seconds=seconds, memory=limit, started=started, folder=cwd)


def make(child: Child, one: Input, folder: Path, key: str, signature: str, attempt: int) -> dict[str, Any]:
    """Reconstruct a scan in the child, into its folder in `folder`, unless another worker does meanwhile.

    Returns what its done.json says, with the name of its folder as "folder". Raises as `Child.run`.
    """
    work = folder / f"{WORK}{key[:SHORT]}-{uuid.uuid4().hex[:8]}"
    try:
        with leased(folder / f"{LEASE}{key[:SHORT]}", lambda: child.stopped):
            if done := finished(folder, key):
                return done
            clear(folder, key)
            try:
                child.run(reconstruct, one, work, key, signature, attempt)
                return publish(work, folder_name(one.path), key)
            finally:
                rmtree(work, ignore_errors=True)
    except OSError as error:
        raise failure_of(error) from error
