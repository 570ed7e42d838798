"""What the project promises about its dependencies, scripts and container, as far as reading them can show."""

import fnmatch
import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = [*sorted((ROOT / "scripts").glob("*.sh")), ROOT / ".ci" / "run"]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
#: Name and exact version of each line of constraints.txt.
CONSTRAINTS = dict(
    line.split("==")
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").lower().replace("_", "-").splitlines()
    if line and not line.startswith("#")
)


def declared() -> set[str]:
    lists = [PROJECT["project"]["dependencies"], *PROJECT["project"]["optional-dependencies"].values()]
    requirements = [*PROJECT["build-system"]["requires"], *(entry for entries in lists for entry in entries)]
    return {re.match(r"[\w-]+", requirement)[0].lower() for requirement in requirements}  # type: ignore[index]


def test_every_declared_dependency_has_an_exact_version() -> None:
    assert declared() <= CONSTRAINTS.keys()
    assert CONSTRAINTS["torch"] == "2.13.0"


def test_torchvision_is_not_a_dependency() -> None:
    # It does not load beside a CPU build of torch.
    assert "torchvision" not in CONSTRAINTS


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_script_is_executable_bash(script: Path) -> None:
    assert os.access(script, os.X_OK)
    subprocess.run(["bash", "-n", script], check=True)


@pytest.mark.parametrize("path", [*SCRIPTS, ROOT / "Dockerfile"], ids=lambda path: path.name)
def test_nothing_is_installed_without_the_constraints(path: Path) -> None:
    installs = [line for line in path.read_text(encoding="utf-8").splitlines() if re.search(r"\bpip install\b", line)]
    assert all("-c constraints.txt" in line for line in installs if not line.startswith("#"))


def test_all_that_the_wheel_is_made_of_reaches_the_image() -> None:
    rules = [line for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines() if line[:1] in "*!"]
    admitted = {rule[1:] for rule in rules if rule.startswith("!")}
    wheel = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert admitted >= {*wheel["packages"], *wheel["force-include"], "pyproject.toml", "constraints.txt"}
    assert admitted >= {PROJECT["project"]["readme"], *PROJECT["project"]["license-files"]}
    assert any(fnmatch.fnmatch("shared", rule) for rule in rules)
