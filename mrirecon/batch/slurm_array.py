"""A batch as an array of SLURM jobs: a plain script, and nothing else that has to run or to be installed there."""

import json
import math
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from mrirecon.atomic import atomic_path
from mrirecon.batch.inputs import COLUMNS, Input
from mrirecon.errors import UsageError

FOLDER, SCRIPT, LIST = "slurm", "batch.sbatch", "scans.jsonl"
#: SLURM's own limit, where the site did not set another (MaxArraySize); with more scans, each task does several.
MOST_TASKS = 1000
#: Seconds that a task may take beside its scans.
SPARE = 600.0

TEMPLATE = """\
#!/bin/bash
#SBATCH --job-name=mrirecon
#SBATCH --array=1-{tasks}
#SBATCH --ntasks=1
#SBATCH --cpus-per-task={cores}
#SBATCH --time={minutes}
#SBATCH --requeue
#SBATCH --output=/dev/null
{more}set -eu
cd {cwd}
exec {command} --task "$SLURM_ARRAY_TASK_ID/{tasks}" >> {folder}/"$SLURM_ARRAY_TASK_ID".log 2>&1
"""


def write_script(
    output: Path,
    inputs: Sequence[Input],
    arguments: Sequence[str],
    *,
    cores: int,
    memory: int | None,
    seconds: float,
    gpu: bool,
) -> Path:
    """Write the script, and the list of scans that its tasks go by, into a folder of `output`; returns the script.

    arguments: of `mrirecon batch`, to which each task adds --task. cores, memory in bytes: of a task; seconds: of a
    scan. Paths in the list are absolute.
    """
    folder = output.absolute() / FOLDER
    with atomic_path(folder / LIST) as temporary:
        temporary.write_text("".join(f"{json.dumps(_row(one))}\n" for one in inputs))
    tasks = min(len(inputs), MOST_TASKS)
    limit = seconds * math.ceil(len(inputs) / tasks) + SPARE
    more = [f"#SBATCH --mem={math.ceil(memory / 2**20)}M\n"] if memory else []
    more += ["#SBATCH --gres=gpu:1\n"] if gpu else []
    text = TEMPLATE.format(
        tasks=tasks,
        cores=cores,
        minutes=math.ceil(limit / 60),
        more="".join(more),
        cwd=shlex.quote(str(Path.cwd())),
        command=shlex.join([sys.executable, "-m", "mrirecon", "batch", *arguments]),
        folder=shlex.quote(str(folder)),
    )
    with atomic_path(folder / SCRIPT) as temporary:
        temporary.write_text(text)
    return folder / SCRIPT


def _row(one: Input) -> dict[str, str]:
    values = (one.path, one.noise, one.reference)
    return {name: str(path.absolute()) for name, path in zip(COLUMNS, values, strict=True) if path}


def part_of(text: str) -> tuple[int, int]:
    """(number of a task from 1, number of all) from text such as 3/20. Raises UsageError if it is none."""
    number, _, total = text.partition("/")
    if not (number.isdecimal() and total.isdecimal() and 1 <= int(number) <= int(total)):
        raise UsageError(f"--task {text}: give the number of the task and of all, such as 3/20.")
    return int(number), int(total)
