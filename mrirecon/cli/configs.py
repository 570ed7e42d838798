"""Where shipped configs lie: in the installed package, or beside it in a source tree."""

from pathlib import Path

import mrirecon
from mrirecon.errors import UsageError


def shipped_configs() -> dict[str, Path]:
    """Name → file of the shipped configs, in order of their names."""
    package = Path(mrirecon.__file__).parent
    paths = [path for folder in (package, package.parent) for path in folder.glob("configs/*.yaml")]
    return {path.stem: path for path in sorted(paths, key=lambda path: path.stem)}


def find_config(name: str) -> Path:
    """The path of a YAML file, or of the shipped config of that name. UsageError lists the shipped ones."""
    if Path(name).is_file():
        try:
            Path(name).read_text(encoding="utf-8")
        except UnicodeDecodeError:
            raise UsageError(f"--config {name}: is not a text file; a YAML file is needed.") from None
        return Path(name)
    shipped = shipped_configs()
    if name not in shipped:
        raise UsageError(f"--config {name}: no such file, and the shipped ones are: {', '.join(shipped)}.")
    return shipped[name]


def with_config_paths(argv: list[str]) -> list[str]:
    """The arguments with --config first, so that all others override it, and names of shipped configs made paths."""
    configs, others = [], []
    arguments = iter(argv)
    for argument in arguments:
        if argument in ("--config", "-c"):
            configs.append(f"--config={find_config(next(arguments, ''))}")
        elif argument.startswith("--config="):
            configs.append(f"--config={find_config(argument.removeprefix('--config='))}")
        else:
            others.append(argument)
    return configs + others
