"""Who may import whom (docs/architecture.md), and which packages must stay out of a quick start."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

#: From the bottom up: a package may import those of the rows above its own, and not its siblings in the same row.
LAYERS = [
    {"physics"},
    {"acquisition"},
    {"conditioning", "simulation", "models", "classical"},
    {"data", "export", "weights"},
    {"training", "reconstruction"},
    {"evaluation", "benchmark"},
    {"batch"},
    {"cli"},
    {"__main__"},
]
#: Anyone may import these, and they import nothing but each other.
LEAVES = {"__version__", "atomic", "errors", "memory", "metrics", "processor", "scratch"}
#: Not needed to understand a scan; loaded by the function that uses them.
LAZY = ["sigpy", "matplotlib", "nibabel", "pytorch_lightning", "rich", "scipy.io"]
#: Not needed to print a help text.
HEAVY = [*LAZY, "torch", "numpy", "scipy", "h5py", "jsonargparse"]


def level(part: str) -> int:
    """How high the part stands: leaves at −1, then the row of LAYERS."""
    if part in LEAVES:
        return -1
    levels = [number for number, row in enumerate(LAYERS) if part in row]
    assert levels, f"mrirecon.{part} has no place in LAYERS; give it one here and in docs/architecture.md"
    return levels[0]


def offences(source: str, module: str, is_package: bool = False) -> Iterator[str]:
    """The lines of a module that import what the rules forbid, as 'module:line imports mrirecon.part'."""
    own = module.split(".")[1] if "." in module else "__init__"
    for node in ast.walk(ast.parse(source)):
        for name in imported_names(node, module if is_package else module.rpartition(".")[0]):
            root, _, rest = name.partition(".")
            part = rest.split(".")[0]
            if root != "mrirecon" or not part or part == own:
                continue
            if own == "__init__" or (level(part) >= level(own) and part not in LEAVES):
                yield f"{module}:{node.lineno} imports mrirecon.{part}"  # type: ignore[attr-defined]


def imported_names(node: ast.AST, package: str) -> list[str]:
    """Full names that a statement imports; also by importlib.import_module with a plain string."""
    match node:
        case ast.Import(names=names):
            return [alias.name for alias in names]
        case ast.ImportFrom(module=origin, names=names, level=dots):
            parents = package.split(".")[: package.count(".") + 2 - dots] if dots else []
            base = ".".join([*parents, *([origin] if origin else [])])
            return [f"{base}.{alias.name}" for alias in names]
        case ast.Call(
            func=ast.Attribute(attr="import_module") | ast.Name(id="import_module" | "__import__"),
            args=[ast.Constant(value=str(name)), *_],
        ):
            return [name]
    return []


def modules() -> list[Path]:
    return sorted((ROOT / "mrirecon").rglob("*.py"))


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_module_imports_only_from_below(path: Path) -> None:
    is_package = path.name == "__init__.py"
    parts = path.relative_to(ROOT).with_suffix("").parts
    module = ".".join(parts[:-1] if is_package else parts)
    assert not list(offences(path.read_text(encoding="utf-8"), module, is_package))


@pytest.mark.parametrize(
    "line",
    [
        "import mrirecon.cli.main",
        "from mrirecon.models.cirim import CIRIM",
        "from mrirecon import simulation",
        "from ..models import rim",
        "from .. import models",
        "def later():\n    from mrirecon.data import manifests",
        "import importlib; importlib.import_module('mrirecon.training.module')",
    ],
)
def test_a_forbidden_import_is_found_and_named(line: str) -> None:
    found = list(offences("import torch\n" + line, "mrirecon.classical.made_up"))
    assert len(found) == 1
    assert found[0].startswith("mrirecon.classical.made_up:")
    assert int(found[0].split(":")[1].split()[0]) == 2 + line.count("\n")


@pytest.mark.parametrize(
    "line",
    [
        "from mrirecon.physics.sense import SenseOperator",
        "from mrirecon.acquisition.scan import Scan",
        "from mrirecon import __version__",
        "from mrirecon.errors import UsageError",
        "from mrirecon.metrics import nmse",
        "from mrirecon.classical.zero_filled import ZeroFilled",
        "from . import zero_filled",
        "import numpy",
    ],
)
def test_a_permitted_import_is_left_alone(line: str) -> None:
    assert not list(offences(line, "mrirecon.classical.made_up"))


def test_relative_imports_in_a_package_are_resolved() -> None:
    assert not list(offences("from . import rim", "mrirecon.models", is_package=True))
    assert list(offences("from ..cli import main", "mrirecon.models", is_package=True))
    assert list(offences("from ...training import losses", "mrirecon.models.blocks", is_package=True))


def test_a_package_without_a_place_in_the_layers_is_reported() -> None:
    with pytest.raises(AssertionError, match="no place in LAYERS"):
        list(offences("from mrirecon.elsewhere import thing", "mrirecon.cli.made_up"))


def loaded(statement: str, packages: list[str]) -> list[str]:
    """Which of `packages` a fresh Python has loaded after `statement`."""
    code = f"{statement}\nimport sys\nprint('loaded:', *[name for name in {packages!r} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    return result.stdout.rpartition("loaded:")[2].split()


def test_help_loads_no_heavy_package() -> None:
    assert loaded("from mrirecon.cli.main import main; assert main(['--help']) == 0", HEAVY) == []


def test_lower_layers_load_heavy_packages_only_when_used() -> None:
    paths = [path for part in ("physics", "acquisition") for path in modules() if path.parent.name == part]
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in paths]
    statement = "\n".join(f"import {name}" for name in names)
    assert loaded(statement, [*LAZY, "torch"]) == ["torch"]
