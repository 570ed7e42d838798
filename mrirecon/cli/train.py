"""`mrirecon train`: a training run through Lightning."""

import logging
import warnings

from mrirecon.cli.configs import with_config_paths


def run(argv: list[str]) -> int:
    """Train; returns the exit code."""
    from mrirecon.training.run import train

    # Lightning's advertisements, and warnings that say nothing to a user of this command.
    warnings.filterwarnings("ignore", module="pytorch_lightning")
    for name in ("pytorch_lightning", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    best = train(with_config_paths(argv))
    print(f"best model: {best}" if best else "nothing was trained, so there is no model")
    return 0
