"""`mrirecon evaluate`: methods × masks × accelerations over a data set."""

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, cast, get_args

from jsonargparse import ActionConfigFile
from jsonargparse.typing import PositiveInt

from mrirecon.cli import evaluate_grid
from mrirecon.cli.configs import with_config_paths
from mrirecon.cli.options import add_machine_options, add_scan_options, check_writable, opened_scans, torch_device
from mrirecon.cli.parser import ArgumentParser
from mrirecon.data.manifest import Split, scan_files
from mrirecon.errors import UsageError
from mrirecon.export.hdf5 import DISCLAIMER
from mrirecon.physics.sampling import MASKS
from mrirecon.reconstruction.methods import CLASSICAL, method_by_name
from mrirecon.weights import shipped_models

if TYPE_CHECKING:
    from mrirecon.evaluation.evaluate import Evaluation, Progress

DEFAULT_METHODS = ("zero-filled", "cg-sense", "cs")
EXIT_SOME_FAILED = 3
EXIT_ALL_FAILED = 4


def run(argv: list[str]) -> int:
    """Evaluate what `argv` asks for; 0 if all scans went through, 3 if some failed, 4 if all did."""
    if grid := evaluate_grid.asked_for(argv):
        return evaluate_grid.run(argv, grid)
    options = _parser().parse_args(with_config_paths(argv))
    check_writable(options.output / "report.html")
    import torch  # here, because it takes seconds that a help text or a wrong option need not wait for

    from mrirecon.evaluation.evaluate import Setting, evaluate
    from mrirecon.evaluation.report import describe, write_results
    from mrirecon.processor import set_up_for_tensors

    set_up_for_tensors()
    device = torch_device(options.device)
    if options.threads:
        torch.set_num_threads(options.threads)
    names = [*DEFAULT_METHODS, *shipped_models()] if options.methods is None else _listed("--methods", options.methods)
    methods = [method_by_name(name, options.allow_package) for name in names]
    accelerations = _numbers("--accelerations", options.accelerations)
    settings = [Setting(mask, r, options.acs) for mask in _listed("--masks", options.masks) for r in accelerations]
    paths = scan_files(options.data, _split(options.split))
    with progress() as show_progress:
        evaluation = evaluate(
            paths,
            methods,
            settings,
            open_file=lambda path: opened_scans(path, options),
            seed=options.seed,
            max_slices=options.max_slices,
            device=device,
            progress=show_progress,
        )
    if not evaluation.rows:
        return EXIT_ALL_FAILED
    command = shlex.join(["mrirecon", "evaluate", *argv])
    written = write_results(
        options.output,
        evaluation,
        methods,
        title="Reconstruction methods compared",
        lead=describe(evaluation),
        command=command,
    )
    show(evaluation, written)
    return EXIT_SOME_FAILED if evaluation.failures else 0


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="mrirecon evaluate",
        description="Undersample fully sampled scans, reconstruct them with each method, and score against the full "
        "data. All methods see the same samples and the same coil maps. Writes results.csv (a row for each volume, "
        "method and setting), summary.md, figures/ and report.html. Exit code 3: some scans failed; 4: all did. "
        f"{DISCLAIMER}",
    )
    add = parser.add_argument
    add(
        "--config",
        action=ActionConfigFile,
        help="options from a YAML file, or a shipped one by name (evaluate); or a whole comparison with its trainings, "
        "such as cirim_2022_smoke (--config cirim_2022_smoke --help explains its options)",
    )
    add("data", type=Path, nargs="+", metavar="DATA", help="fully sampled scans, folders of them, or manifests (.yaml)")
    add("--split", type=str, default="test", help="which rows of a manifest: train, val or test")
    add("-o", "--output", type=Path, required=True, metavar="OUT", help="folder for the results")
    add(
        "--methods",
        type=str | None,
        metavar="A,B,…",
        help=f"{', '.join(CLASSICAL)}, names of shipped models, checkpoint files (default: "
        f"{','.join(DEFAULT_METHODS)} and the shipped models)",
    )
    add("--masks", type=str, default="equispaced", metavar="A,B,…", help=f"kinds of masks: {', '.join(MASKS)}")
    add("--accelerations", type=str, default="4", metavar="R,R,…", help="how many times fewer samples (default: 4)")
    add(
        "--acs",
        type=int | None,
        help="fully sampled central lines, for 2D masks the side of the block (default: each kind's own)",
    )
    add("--seed", type=int | None, help="seed of the masks (default: from each file's name)")
    add("--max-slices", type=PositiveInt | None, help="only so many central slices of each scan (default: all)")
    add_scan_options(parser)
    add_machine_options(parser)
    return parser


def _split(name: str) -> Split:
    if name not in get_args(Split):
        raise UsageError(f"--split {name}: choose one of {', '.join(get_args(Split))}.")
    return cast(Split, name)


def _listed(option: str, text: str) -> list[str]:
    names = list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    if not names:
        raise UsageError(f"{option} {text}: names nothing; give one or several with commas, or leave it out.")
    return names


def _numbers(option: str, text: str) -> list[float]:
    try:
        return [float(number) for number in _listed(option, text)]
    except ValueError:
        raise UsageError(f"{option} {text}: give numbers separated by commas, such as 4,8.") from None


@contextmanager
def progress() -> "Iterator[Progress]":
    """A line on a terminal's stderr that says what is being done; nothing elsewhere."""
    from rich.console import Console

    with Console(stderr=True).status("reading") as status:
        yield status.update


def show(evaluation: "Evaluation", written: list[Path]) -> None:
    """Print the summary table and where the results are."""
    from rich.console import Console
    from rich.table import Table

    from mrirecon.evaluation.summary import summary

    content = summary(evaluation.rows)
    table = Table(title="median over volumes (range)" if evaluation.volumes > 1 else None)
    for column in content.columns:
        table.add_column(column, justify="left" if column in ("mask", "method") else "right", overflow="fold")
    for row in content.rows:
        table.add_row(*row)
    console = Console()
    if not console.is_terminal:
        console.width = 200  # a file or a pipe has no edge to fold the table at
    console.print(table)
    for path in written:
        console.print(str(path), soft_wrap=True, highlight=False, markup=False)
    console.print(DISCLAIMER, highlight=False)
