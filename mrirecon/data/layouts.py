"""Layouts of public data sets: what their folders and file names say of each file. And manifests made from folders.

A layout is a YAML file; data_manifests/README.md explains its fields.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mrirecon.acquisition.scan import sha256_of
from mrirecon.conditioning.opening import open_scans
from mrirecon.conditioning.options import Conditioning
from mrirecon.data.manifest import Entry, Split, is_scan_file, shipped
from mrirecon.errors import InputError, UsageError

#: Facts need no noise, whose estimation reads samples.
FACTS_ONLY = Conditioning(skip=("prewhitening",))


@dataclass(frozen=True)
class Rule:
    """What is known of the files whose path ends as `pattern`; its groups may name subject and contrast.

    contrast: where neither the name nor the file's header tells.
    """

    pattern: re.Pattern[str]
    split: Split | None = None
    contrast: str | None = None
    anatomy: str | None = None
    field_strength_t: float | None = None


@dataclass(frozen=True)
class Layout:
    """A data set and its rules, of which the first that fits a path counts."""

    name: str
    title: str
    files: tuple[Rule, ...]
    source: str | None = None
    licence: str | None = None
    citation: str | None = None
    note: str | None = None

    def rule(self, path: Path) -> tuple[Rule, dict[str, str]] | None:
        """The rule that fits, with the values of its pattern's groups; None if none does."""
        for rule in self.files:
            if found := rule.pattern.search(path.absolute().as_posix()):
                return rule, {name: value for name, value in found.groupdict().items() if value}
        return None


def read_layout(name: str) -> Layout:
    """The shipped layout of that name, or that of a YAML file. UsageError if there is none, or if it is not one."""
    layouts = shipped("layouts")
    path = layouts.get(name, Path(name))
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        rules = tuple(_rule(**rule) for rule in content.pop("files"))
        return Layout(**content, name=path.stem, files=rules)
    except OSError as error:
        raise UsageError(f"--layout {name}: no such file, and the shipped ones are: {', '.join(layouts)}.") from error
    except (yaml.YAMLError, ValueError, TypeError, AttributeError, KeyError, re.error) as error:
        raise UsageError(f"--layout {name}: is not a layout ({' '.join(str(error).split())}).") from error


def _rule(pattern: str, **facts: Any) -> Rule:
    return Rule(re.compile(f"/(?:{pattern})$"), **facts)


def candidates(folder: Path, layout: Layout | None) -> list[Path]:
    """All files below a folder that are of a readable format, or broken; with a layout, those that it knows."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    return [path for path in files if (layout is None or layout.rule(path)) and _may_be_scan(path)]


def _may_be_scan(path: Path) -> bool:
    try:
        return is_scan_file(path)
    except InputError:
        return True  # to be reported


def entries(folder: Path, files: list[Path], layout: Layout | None) -> Iterator[Entry | InputError]:
    """What is known of each file, from its header, its name and its content; or why it cannot be read."""
    for path in files:
        try:
            yield _entry(folder, path, layout)
        except InputError as error:
            yield error


def _entry(folder: Path, path: Path, layout: Layout | None) -> Entry:
    scans = open_scans(path, FACTS_ONLY)
    header, (_, coils, height, width) = scans[0].header, scans[0].shape
    rule, named = (layout.rule(path) if layout else None) or (Rule(re.compile("")), {})
    return Entry(
        file=path.relative_to(folder).as_posix(),
        subject=named.get("subject"),
        split=rule.split,
        contrast=named.get("contrast") or header.contrast or rule.contrast,
        anatomy=rule.anatomy,
        field_strength_t=header.field_strength_t or rule.field_strength_t,
        coils=coils,
        slices=sum(scan.slices for scan in scans),
        matrix=(height, width),
        bytes=path.stat().st_size,
        sha256=sha256_of(path),
    )
