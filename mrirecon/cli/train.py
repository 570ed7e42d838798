"""`mrirecon train`: a training run through Lightning."""

from mrirecon.cli.configs import with_config_paths


def run(argv: list[str]) -> int:
    """Train; returns the exit code."""
    from mrirecon.training.run import train

    best = train(with_config_paths(argv))
    print(f"best model: {best}")
    return 0
