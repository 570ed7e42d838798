"""`mrirecon evaluate --config GRID`: a whole comparison, from training to the report."""

import os
import shlex
import sys
from dataclasses import replace
from pathlib import Path

import yaml
from jsonargparse.typing import PositiveInt

from mrirecon.cli.options import check_writable, torch_device
from mrirecon.cli.parser import ArgumentParser
from mrirecon.evaluation.grid.files import grid_file
from mrirecon.export.hdf5 import DISCLAIMER

EXIT_SOME_FAILED, EXIT_ALL_FAILED = 3, 4


def asked_for(argv: list[str]) -> Path | None:
    """The grid's file that --config names; None if it names another kind of config, or nothing."""
    for argument, following in zip(argv, [*argv[1:], ""], strict=True):
        name = following if argument in ("--config", "-c") else argument.removeprefix("--config=")
        if (argument in ("--config", "-c") or name != argument) and (path := grid_file(name)):
            try:
                content = yaml.safe_load(path.read_text(encoding="utf-8"))
            except (OSError, ValueError, yaml.YAMLError):
                return None
            return path if isinstance(content, dict) and isinstance(content.get("methods"), dict) else None
    return None


def run(argv: list[str], path: Path) -> int:
    """Run the grid of that file; 0 if all went through, 3 if some failed, 4 if nothing was scored."""
    options = _parser().parse_args(argv)
    output = options.output or Path("runs") / path.stem
    check_writable(output / "report.html")
    from mrirecon.evaluation.grid.config import read_grid
    from mrirecon.evaluation.grid.report import write_report
    from mrirecon.evaluation.grid.results import Machine
    from mrirecon.evaluation.grid.run import run_grid

    grid = read_grid(path)
    if options.data:
        grid = replace(grid, data=replace(grid.data, path=options.data))
    if options.seed is not None:
        grid = replace(grid, seeds=(options.seed,), data=replace(grid.data, seed=options.seed))
    device = torch_device(options.device).type
    workers = options.workers or (1 if device == "cuda" else os.cpu_count() or 1)
    machine = Machine(device, workers, options.threads)
    run = run_grid(grid, output, machine, lambda text: print(text, file=sys.stderr, flush=True))
    if not run.cells:
        return EXIT_ALL_FAILED
    for written in write_report(output, run, machine, shlex.join(["mrirecon", "evaluate", *argv])):
        print(written)
    print(DISCLAIMER)
    return EXIT_SOME_FAILED if run.failures else 0


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="mrirecon evaluate",
        description="Run a comparison grid (a YAML file whose `methods` have names): make the data, train networks, "
        "tune compressed sensing, score every method on every test volume in every setting, and write results.csv, "
        "speed.csv and report.html. What is finished is kept: the same command continues an interrupted run. "
        f"{DISCLAIMER}",
    )
    add = parser.add_argument
    add("--config", type=str, required=True, metavar="GRID", help="YAML file, or a shipped one: cirim_2022_smoke, …")
    add(
        "data",
        type=Path | None,
        nargs="?",
        metavar="DATA",
        help="another data set than the file's: a manifest of scans or of NIfTI images, or a folder of images",
    )
    add("-o", "--output", type=Path | None, metavar="OUT", help="folder of the run (default: runs/NAME)")
    add("--seed", type=int | None, help="of data and trainings, in place of the file's")
    add("--workers", type=PositiveInt | None, help="processes (default: one for each core; with a GPU 1)")
    add("--threads", type=PositiveInt, default=1, help="CPU threads of each process (default: %(default)s)")
    add("--device", type=str, default="auto", help="auto, cpu or cuda (default: auto, a GPU where there is one)")
    return parser
