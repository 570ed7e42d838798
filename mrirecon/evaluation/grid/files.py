"""Where shipped YAML files lie: in the installed package, or beside it in a source tree."""

from pathlib import Path

import mrirecon
from mrirecon.errors import UsageError


def training_config(name: str) -> Path:
    """The training configuration of that path, or the shipped one of that name (without .yaml)."""
    found = Path(name) if Path(name).is_file() else _shipped(f"configs/{name}.yaml")
    if found is None:
        raise UsageError(f"config: {name}: there is no such file, and no shipped training configuration of that name.")
    return found


def grid_file(name: str) -> Path | None:
    """The file of that path, or the shipped one: configs/papers/NAME.yaml, or just NAME. None if there is none."""
    return Path(name) if Path(name).is_file() else _shipped(name) or _shipped(f"configs/papers/{name}.yaml")


def _shipped(path: str) -> Path | None:
    package = Path(mrirecon.__file__).parent
    return next((home / path for home in (package, package.parent) if (home / path).is_file()), None)
