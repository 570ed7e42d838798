"""`mrirecon benchmark`: speed and memory on this machine, beside the hardware's floor and other programs."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import yaml
from jsonargparse import Namespace
from jsonargparse.typing import PositiveInt

from mrirecon.atomic import atomic_path
from mrirecon.benchmark.measure import KNEE, STANDARD, Settings
from mrirecon.benchmark.report import comparison, differences, machine_text, markdown, summary, table
from mrirecon.benchmark.run import BROKEN, SECTIONS, Result, load, save
from mrirecon.benchmark.run import run as measure
from mrirecon.cli.configs import shipped_configs
from mrirecon.cli.options import check_writable, torch_device
from mrirecon.cli.parser import ArgumentParser
from mrirecon.errors import EXIT_INTERNAL, UsageError
from mrirecon.processor import set_up_for_tensors

if TYPE_CHECKING:
    from rich.console import Console

NETWORKS, QUICK_NETWORKS = "cirim,irim,e2evn,unet", "cirim"
ROUNDS, QUICK_ROUNDS = 5, 2
SMALLEST = 32
WIDTH = 100


def run(argv: list[str]) -> int:
    """Measure what `argv` asks for; returns the exit code."""
    options = _parser().parse_args(argv)
    sections = _sections(options.only)
    old = load(options.compare) if options.compare else None
    for path in (options.json, options.markdown):
        if path and path.is_dir():
            raise UsageError(f"{path}: is a folder; give a file name.")
        if path:
            check_writable(path)
    console = _console()
    with _progress() as (begin, say):
        settings = _settings(options, say)

        def show(name: str, result: Result) -> None:
            if name == sections[0]:
                console.print(machine_text(result), highlight=False, markup=False)
            console.print()
            console.print(table(name, result))

        result = measure(sections, settings, show, begin)
    console.print()
    console.print(summary(result), highlight=False, markup=False)
    if old:
        console.print()
        console.print(comparison(result, old))
        for difference in differences(result, old):
            console.print(f"not the same: {difference}", highlight=False, markup=False)
    if options.json:
        save(options.json, result)
    if options.markdown:
        with atomic_path(options.markdown) as temporary:
            temporary.write_text(markdown(result), encoding="utf-8")
    return EXIT_INTERNAL if any(row.note.startswith(BROKEN) for row in result.rows) else 0


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="mrirecon benchmark",
        description="Measure speed and memory on this machine: median and range of several rounds, in which the "
        "methods that are compared take turns. Beside each stands the floor, what the hardware allows at best, and "
        "SigPy, BART (if 'bart' is on the PATH), fastMRI and ATOMMIC (--peers) on the same data. The machine should be "
        "quiet. docs/performance.md explains the numbers.",
    )
    add = parser.add_argument
    add(
        "--only",
        type=str | None,
        metavar="A,B,…",
        help=f"these sections, of {', '.join(SECTIONS)} (default: all)",
    )
    add(
        "--networks",
        type=str | None,
        metavar="A,B,…",
        help=f"training configurations whose networks are measured (default: {NETWORKS})",
    )
    add(
        "--peers",
        type=Path | None,
        metavar="PYTHON",
        help="Python of an environment with fastMRI and ATOMMIC, as scripts/benchmark_peers.sh makes it",
    )
    add("--quick", action="store_true", help="some minutes: fewer rounds, one network, no training")
    add("--rounds", type=PositiveInt | None, help=f"turns of each method, fewer of slow ones (default: {ROUNDS})")
    add("--coils", type=PositiveInt, default=STANDARD[0], help="of the simulated slice; targets hold for the default")
    add(
        "--matrix",
        type=PositiveInt,
        default=STANDARD[1],
        help="rows and columns of the simulated slice; targets hold for the default",
    )
    add("--device", type=str, default="auto", help="auto, cpu or cuda (default: auto, a GPU where there is one)")
    add("--threads", type=PositiveInt | None, help="CPU threads, of the other programs too (default: PyTorch's choice)")
    add("--json", type=Path | None, metavar="FILE", help="also write everything that was measured")
    add("--markdown", type=Path | None, metavar="FILE", help="also write the tables as Markdown")
    add("--compare", type=Path | None, metavar="OLD.json", help="show this run beside an older one, written by --json")
    return parser


def _sections(text: str | None) -> list[str]:
    """The sections asked for, in their own order."""
    if text is None:
        return list(SECTIONS)
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in SECTIONS:
            raise UsageError(f"--only {text}: there is no section '{name}'; there are {', '.join(SECTIONS)}.")
    if not names:
        raise UsageError(f"--only: names nothing; there are {', '.join(SECTIONS)}.")
    return [name for name in SECTIONS if name in names]


def _settings(options: Namespace, say: Callable[[str], None]) -> Settings:
    if options.matrix < SMALLEST:
        raise UsageError(f"--matrix {options.matrix}: at least {SMALLEST} rows and columns are needed.")
    if options.coils < 2:
        raise UsageError("--coils 1: a single coil has no maps to estimate; give at least 2.")
    if options.peers and not (options.peers.is_file() and os.access(options.peers, os.X_OK)):
        raise UsageError(
            f"--peers {options.peers}: is no program; give the Python that scripts/benchmark_peers.sh names."
        )
    default = QUICK_NETWORKS if options.quick else NETWORKS
    set_up_for_tensors()  # as the commands do that are measured
    return Settings(
        device=torch_device(options.device),
        threads=options.threads or torch.get_num_threads(),
        coils=options.coils,
        matrix=(options.matrix, options.matrix),
        rounds=options.rounds or (QUICK_ROUNDS if options.quick else ROUNDS),
        quick=options.quick,
        networks=_networks(default if options.networks is None else options.networks),
        peers=options.peers,
        say=say,
        knee=KNEE,
    )


def _networks(text: str) -> dict[str, dict[str, Any]]:
    """Name → the part `model` of the shipped training configuration."""
    trained = {}
    for name, path in shipped_configs().items():
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
        if isinstance(model := document.get("model"), dict):
            trained[name] = model
    names = list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    for name in names:
        if name not in trained:
            raise UsageError(f"--networks {text}: there is no '{name}'; there are {', '.join(trained)}.")
    if not names:
        raise UsageError(f"--networks: names nothing; there are {', '.join(trained)}.")
    return {name: trained[name] for name in names}


def _console() -> "Console":
    from rich.console import Console

    console = Console()
    if not console.is_terminal:
        console.width = WIDTH
    return console


@contextmanager
def _progress() -> Iterator[tuple[Callable[[str], None], Callable[[str], None]]]:
    """What tells stderr that a section begins, and what is being measured in it: the latter on a terminal only."""
    from rich.console import Console

    console = Console(stderr=True)
    with console.status("starting") as status:
        if console.is_terminal:
            yield status.update, status.update
        else:
            yield lambda name: print(f"measuring {name} …", file=sys.stderr, flush=True), lambda text: None
