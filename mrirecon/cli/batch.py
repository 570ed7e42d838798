"""`mrirecon batch`: many scans, unattended."""

import itertools
import json
import os
import shlex
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

from jsonargparse import Namespace
from jsonargparse.typing import PositiveFloat, PositiveInt

from mrirecon.acquisition.array_files import READABLE
from mrirecon.batch.engine import LocalEngine
from mrirecon.batch.inputs import COLUMNS, Input, find_inputs, required
from mrirecon.batch.ledger import Ledger
from mrirecon.batch.report import REPORT, write_batch
from mrirecon.batch.run import Batch, Engine, Entry
from mrirecon.batch.scan import Machine, Settings
from mrirecon.batch.slurm_array import FOLDER, LIST, part_of, write_script
from mrirecon.batch.supervise import MEMORY_SHARE, child_for, has_gpu
from mrirecon.cli.options import add_machine_options, add_scan_options, conditioning_of, memory_size
from mrirecon.cli.parser import ArgumentParser
from mrirecon.cli.reconstruct import PRECISIONS
from mrirecon.conditioning.partial_fourier import PartialFourier
from mrirecon.errors import UsageError
from mrirecon.export.hdf5 import DISCLAIMER
from mrirecon.reconstruction.methods import default_method
from mrirecon.reconstruction.outputs import FOLDER_DEFAULT, FORMATS, outputs_for

NOISE_MAPS = ("auto", "replica")
#: Of one worker, where nobody says how many there are to be: more threads than that do not make a scan faster.
CORES_EACH = 4
ENGINES = ("local", "dask", "slurm", "slurm-array")
#: Of a SLURM job of the Dask engine, where no memory is asked for: SLURM has to be told.
JOB_MEMORY = 8_000_000_000
#: A file that is not changed for so long is taken to be complete.
POLL_SECONDS = 5.0
DEFAULT_TIME_LIMIT = 3600.0


def run(argv: list[str]) -> int:
    """Reconstruct the scans that `argv` names; returns the exit code."""
    options = _parser().parse_args(argv)
    options.engine = options.engine or ("dask" if options.scheduler else "local")
    settings = _settings(options)
    settings.model_sha256()  # an unknown method is refused now
    inputs = find_inputs(options.inputs, options.noise, options.reference_dicom)
    if not options.watch:
        required(inputs, options.inputs)
    if options.engine == "slurm-array" and not options.task:
        return _write_script(options, inputs, argv)
    if options.task:
        return _run_task(options, settings)
    with Ledger(options.output) as ledger:
        engine = _engine(options, settings)
        batch = Batch(ledger, settings, engine, _progress())
        try:
            ledger.append("started", pid=os.getpid(), workers=engine.workers, method=Path(settings.method).name)
            if options.watch:
                find = lambda: find_inputs(options.inputs, options.noise, options.reference_dicom)  # noqa: E731
                batch.watch(find, POLL_SECONDS, idle=lambda: _report(batch, options.output))
            batch.run(inputs)
            ledger.append("ended")
        finally:
            engine.close()
            _report(batch, options.output)
    summary = batch.summary()
    if options.json:
        print(json.dumps(summary | {"report": str(options.output / REPORT)}))
    else:
        states, verdicts = ({word: n for word, n in summary[name].items() if n} for name in ("states", "verdicts"))
        print(", ".join(f"{count} {word}" for word, count in [*states.items(), *verdicts.items()]))
        print(f"{options.output / REPORT}\n{DISCLAIMER}")
    return batch.exit_code()


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="mrirecon batch",
        description="Reconstruct and check many scans, each in a process apart: one that is damaged, hangs or takes "
        "too much memory costs no other. What is finished is not done again, so the same command goes on after a "
        "crash. Writes a folder for each scan, report.html, summary.json, and ledger.jsonl, which tells what "
        "happened. Exit code 3: some scans failed; 4: all did; 6: none failed, but the checks rejected some. "
        f"{DISCLAIMER}",
    )
    add = parser.add_argument
    add(
        "inputs",
        type=str,
        nargs="+",
        metavar="INPUT",
        help=f"scan files ({READABLE}), folders of them, globs in quotes (** goes into folders), or lists (.csv, "
        f".jsonl) with the columns {', '.join(COLUMNS)}",
    )
    add("-o", "--output", type=Path, required=True, metavar="DIR", help="folder for the results")
    add(
        "--method",
        type=str | None,
        help="as of reconstruct (default: the first shipped model if there is one, else cs)",
    )
    add(
        "--formats",
        type=str | None,
        metavar="A,B,…",
        help=f"{', '.join(FORMATS)} (default: {','.join(FOLDER_DEFAULT)})",
    )
    add("--reference-dicom", type=Path | None, metavar="FILE", help="as of reconstruct, for all scans")
    add_scan_options(parser)
    add("--partial-fourier", type=str, default="zero-fill", metavar="HOW", help=", ".join(get_args(PartialFourier)))
    add("--complex", action="store_true", help="also store the complex images")
    add(
        "--noise-map",
        type=str,
        default="auto",
        help="noise in the images: by a formula where the sampling is regular, else by replicas (auto), or replica",
    )
    add(
        "--watch",
        action="store_true",
        help="go on for ever, with files that come; a file counts when it stays the same",
    )
    add(
        "--workers",
        type=PositiveInt | None,
        help=f"scans at a time (default: one for {CORES_EACH} cores; one on a GPU)",
    )
    add_machine_options(parser)
    add("--precision", type=str, default="auto", help="in which networks compute: fp32, bf16, or auto")
    add(
        "--time-limit",
        type=PositiveFloat,
        default=DEFAULT_TIME_LIMIT,
        metavar="SECONDS",
        help=f"longest time for one scan (default: {DEFAULT_TIME_LIMIT:g})",
    )
    add(
        "--memory",
        type=str | None,
        metavar="SIZE",
        help="most memory that one worker may take, such as 4GB, or with a GPU most of the GPU's (default: its share "
        f"of {MEMORY_SHARE:.0%} of what is free)",
    )
    add(
        "--engine",
        type=str | None,
        help=f"what runs the workers: {', '.join(ENGINES)} (default: local). dask: processes here, or the workers of "
        "--scheduler; slurm: jobs of SLURM that are workers of Dask; slurm-array: nothing is run, a script for sbatch "
        "is written. dask and slurm need mrirecon[dask]",
    )
    add("--scheduler", type=str | None, metavar="ADDRESS", help="a Dask scheduler that runs, such as tcp://host:8786")
    add("--task", type=str | None, metavar="N/M", help="in the script of slurm-array: do the N-th part of M")
    add("--json", action="store_true", help="print summary.json on stdout instead of text")
    return parser


def _settings(options: Namespace) -> Settings:
    """What was asked for, checked."""
    for name, value, choices in (
        ("partial-fourier", options.partial_fourier, get_args(PartialFourier)),
        ("noise-map", options.noise_map, NOISE_MAPS),
        ("precision", options.precision, PRECISIONS),
        ("device", options.device, ("auto", "cpu", "cuda")),
        ("engine", options.engine, ENGINES),
    ):
        if value not in choices:
            raise UsageError(f"--{name} {value}: choose one of {', '.join(choices)}.")
    for one, other, clash in (
        ("--scheduler", f"--engine {options.engine}", options.scheduler and options.engine != "dask"),
        ("--task", f"--engine {options.engine}", options.task and options.engine != "slurm-array"),
        ("--watch", "--engine slurm-array", options.watch and options.engine == "slurm-array"),
    ):
        if clash:
            raise UsageError(f"{one} does not go with {other}; leave one of them out.")
    formats = tuple(name.strip() for name in (options.formats or "").split(",") if name.strip())
    outputs_for(Path("folder"), formats, None)
    for file in (options.noise, options.reference_dicom):
        if file and not file.exists():
            raise UsageError(f"{file}: there is no such file; check the path.")
    return Settings(
        method=options.method or default_method(),
        formats=formats,
        conditioning=replace(conditioning_of(options), noise=None),  # each scan has its own
        key=options.key,
        axes=options.axes,
        group=options.group,
        partial_fourier=options.partial_fourier,
        keep_complex=options.complex,
        precision=options.precision,
        noise_map=options.noise_map,
    )


def _engine(options: Namespace, settings: Settings) -> Engine:
    cores, gpu = len(os.sched_getaffinity(0)), has_gpu(options.device)
    workers = options.workers or (1 if gpu else max(cores // CORES_EACH, 1))
    memory = memory_size(options.memory) if options.memory else None
    packages = tuple(options.allow_package)
    here = Machine(options.device, options.threads or max(cores // workers, 1), memory, 1 / workers, packages)
    if options.engine in ("local", "slurm-array"):
        return LocalEngine([child_for(settings, here, options.time_limit) for _ in range(workers)])
    try:
        from mrirecon.batch import dask_engine
    except ImportError as error:
        raise UsageError(
            f"--engine {options.engine}: {error.name} is not installed; pip install 'mrirecon[dask]'."
        ) from error
    if options.engine == "slurm":
        threads, gpu = options.threads or CORES_EACH, options.device == "cuda"
        here = replace(here, threads=threads, share=1.0)
        cluster = dask_engine.slurm_cluster(options.workers or 1, threads, memory or JOB_MEMORY, gpu)
    elif options.scheduler:
        here, gpu = replace(here, threads=options.threads, share=1.0), options.device == "cuda"
        cluster = options.scheduler
    else:
        cluster = dask_engine.local_cluster(workers, gpu)
    return dask_engine.DaskEngine(cluster, settings, here, options.time_limit, options.output, gpu=gpu, tell=_tell)


def _write_script(options: Namespace, inputs: list[Input], argv: list[str]) -> int:
    """Instead of doing the work: the script for sbatch that will."""
    script = write_script(
        options.output,
        inputs,
        argv,
        cores=options.threads or CORES_EACH,
        memory=memory_size(options.memory) if options.memory else None,
        seconds=options.time_limit,
        gpu=options.device == "cuda",
    )
    report = shlex.join(["mrirecon", "batch", *argv, "--engine", "local"])
    print(f"Submit {len(inputs)} scans to SLURM with\n  sbatch {shlex.quote(str(script))}")
    print(f"and when its tasks have ended, do what is left, and make the report, with\n  {report}")
    return 0


def _run_task(options: Namespace, settings: Settings) -> int:
    """What the script's tasks do: their scans, with a ledger of their own, which the batch reads later."""
    number, total = part_of(options.task)
    inputs = find_inputs([str(options.output / FOLDER / LIST)], options.noise, options.reference_dicom)
    options.workers = options.workers or 1
    engine = _engine(options, settings)
    with Ledger(options.output, str(number)) as ledger:
        batch = Batch(ledger, settings, engine, _progress())
        try:
            batch.run(inputs[number - 1 :: total])
        finally:
            engine.close()
    return batch.exit_code()


def _report(batch: Batch, folder: Path) -> None:
    write_batch(folder, list(batch.entries.values()), batch.summary())


def _progress() -> Callable[[Entry], None]:
    """Shows a line for each scan."""
    numbers = itertools.count(1)

    def show(entry: Entry) -> None:
        facts: list[Any] = [entry.state, entry.verdict, *entry.reasons[:1], f"as {entry.of}" if entry.of else None]
        seconds = f" ({entry.seconds:.1f} s)" if entry.state == "done" else ""
        _tell(f"{next(numbers)} {entry.scan}: {', '.join(str(fact) for fact in facts if fact)}{seconds}")

    return show


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
