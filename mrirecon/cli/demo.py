"""`mrirecon demo`: simulate a scan, reconstruct it from part of its k-space, compare, and write a report."""

import json
import logging
import shlex
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from jsonargparse import Namespace
from jsonargparse.typing import NonNegativeInt, PositiveInt

from mrirecon.cli import simulate
from mrirecon.cli.configs import find_config
from mrirecon.cli.evaluate import EXIT_ALL_FAILED, progress, show
from mrirecon.cli.options import check_writable
from mrirecon.cli.parser import ArgumentParser
from mrirecon.export.hdf5 import DISCLAIMER
from mrirecon.physics.sampling import MASKS
from mrirecon.reconstruction.methods import Method, default_method, method_by_name
from mrirecon.simulation.phantom import FIELD_OF_VIEW_MM

if TYPE_CHECKING:
    from mrirecon.evaluation.evaluate import Evaluation

log = logging.getLogger("mrirecon")

COILS = 8
SNR = 40
LESIONS = 20
TRAINED_HERE = "CIRIM trained here"
#: Training heads are coarser than the one shown: networks of this kind do not depend on the matrix.
TRAINING_ROWS = 160


def run(argv: list[str]) -> int:
    """Make the demonstration that `argv` asks for; returns the exit code."""
    options = _parser().parse_args(argv)
    import torch  # here, because it takes seconds that a help text or a wrong option need not wait for

    from mrirecon.evaluation.evaluate import Setting, evaluate
    from mrirecon.evaluation.report import write_results
    from mrirecon.processor import set_up_for_tensors

    set_up_for_tensors()
    setting = Setting(options.mask, options.acceleration, options.acs)
    setting.sampling_mask()  # an unknown mask is refused before the work
    check_writable(options.output / "report.html")
    if options.threads:
        torch.set_num_threads(options.threads)
    methods = _methods(options)
    scan = options.scan or _simulated_head(options)
    with progress() as show_progress:
        evaluation = evaluate([scan], methods, [setting], seed=options.seed, progress=show_progress)
    if not evaluation.rows:
        return EXIT_ALL_FAILED
    achieved = evaluation.rows[0].acceleration
    written = write_results(
        options.output,
        evaluation,
        methods,
        title=f"A head scan from {100 / achieved:.0f} % of its measurements",
        lead=_lead(evaluation, options),
        command=shlex.join(["mrirecon", "demo", *argv]),
    )
    show(evaluation, written)
    return 0


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="mrirecon demo",
        description="Simulate a head scan, keep only part of its k-space, reconstruct it by zero-filling, compressed "
        "sensing and the shipped network, and write a table, a figure and a one-page report into a folder. "
        f"{DISCLAIMER}",
    )
    add = parser.add_argument
    add("-o", "--output", type=Path, default=Path("mrirecon-demo"), metavar="DIR", help="folder (default: %(default)s)")
    add("--scan", type=Path | None, metavar="FILE", help="use this fully sampled scan instead of simulating one")
    add("--acceleration", type=float, default=4.0, help="how many times fewer samples (default: %(default)s)")
    add("--mask", type=str, default="equispaced", help=f"one of {', '.join(MASKS)} (default: %(default)s)")
    add(
        "--acs",
        type=int | None,
        help="fully sampled central lines, for 2D masks the side of the block (default: the mask's own)",
    )
    add("--seed", type=NonNegativeInt, default=0, help="of the simulated head and of the mask (default: %(default)s)")
    add("--matrix", type=PositiveInt, default=256, help="rows of the simulated image (default: %(default)s)")
    add("--slices", type=PositiveInt, default=4, help="slices of the simulated scan (default: %(default)s)")
    add("--train", action="store_true", help="also train a small CIRIM on the spot, for about two minutes")
    add("--threads", type=PositiveInt | None, help="CPU threads (default: PyTorch's choice, the number of cores)")
    return parser


def _methods(options: Namespace) -> list[Method]:
    """Zero-filled, compressed sensing, the shipped network if there is one, and one trained here if asked for."""
    names = dict.fromkeys(["zero-filled", "cs", default_method()])
    methods = [method_by_name(name) for name in names]
    if options.train:
        methods.append(_trained_here(options))
    elif len(methods) == 2:
        log.warning("no network is shipped with this installation; --train trains a small one on the spot.")
    return methods


def _simulated_head(options: Namespace) -> Path:
    """A FLAIR scan of the head that the seed describes, with lesions, in the output folder."""
    path = options.output / "simulated_head.h5"
    _simulate(path, options.matrix, options.slices, options.seed)
    return path


def _simulate(out: Path, rows: int, slices: int, seed: int, volumes: int = 1) -> None:
    columns = 2 * round(rows * FIELD_OF_VIEW_MM[1] / FIELD_OF_VIEW_MM[0] / 2)
    shape = ("--volumes", str(volumes), "--slices", str(slices), "--matrix", f"{rows},{columns}", "--coils", str(COILS))
    head = ("--contrast", "flair", "--lesions", str(LESIONS), "--snr", str(SNR), "--seed", str(seed))
    simulate.run([str(out), *shape, *head])


def _trained_here(options: Namespace) -> Method:
    """A small CIRIM, trained on simulated heads that are not the one shown."""
    from mrirecon.training.run import train

    folder = options.output / "training"
    _simulate(folder / "train", TRAINING_ROWS, 4, options.seed + 1000, volumes=4)
    _simulate(folder / "val", TRAINING_ROWS, 2, options.seed + 2000)
    acceleration = round(options.acceleration)
    data = {
        "train": [str(folder / "train")],
        "val": [str(folder / "val")],
        "undersampling.masks": [options.mask],
        "undersampling.acceleration": [max(acceleration - 1, 1), acceleration + 1],
    }
    overrides = [f"--data.init_args.{name}={json.dumps(value)}" for name, value in data.items()]
    best = train(["--config", str(find_config("demo")), "--output", str(folder), *overrides])
    return replace(method_by_name(str(best)), name=TRAINED_HERE)


def _lead(evaluation: "Evaluation", options: Namespace) -> str:
    from mrirecon.evaluation.figures import label

    row = evaluation.rows[0]
    if options.scan:
        origin = f"The scan {row.volume} was taken as it is."
    else:
        origin = (
            f"A FLAIR scan of a head with bright lesions was simulated ({row.slices} slices, {COILS} receive coils, "
            "noise as a scanner has): the head is a numerical phantom, nobody was scanned."
        )
    names = [label(name) for name in evaluation.examples[0].images]
    trained = (
        f" {TRAINED_HERE} learned from other simulated heads for two minutes, just before." if options.train else ""
    )
    return (
        f"{origin} Of its k-space only {100 / row.acceleration:.0f} % was kept ({row.mask} sampling, "
        f"{row.acceleration_asked:g}× asked, {row.acceleration:.2f}× achieved), which is what a scan "
        f"{row.acceleration:.2f} times as fast would measure. The pictures were made from these samples alone, in "
        f"{len(names)} ways: {', '.join(names)}. The fully sampled image shows what they should have found.{trained}"
    )
