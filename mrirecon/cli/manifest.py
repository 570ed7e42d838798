"""`mrirecon manifest`: list the files of a data set, check them, split them by subject."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from mrirecon.cli.parser import ArgumentParser
from mrirecon.data.layouts import candidates, entries, read_layout
from mrirecon.data.manifest import (
    Entry,
    Manifest,
    read_manifest,
    root_of,
    shipped,
    split_by_subject,
    verify,
    write_manifest,
)
from mrirecon.errors import InputError, UsageError

USAGE = """usage: mrirecon manifest create DIR -o FILE [--layout NAME] [--name NAME]
       mrirecon manifest verify FILE [--root DIR] [--fast]
       mrirecon manifest split FILE -o FILE --fractions 0.7,0.15,0.15 --seed 0

A manifest is a YAML file that lists the scans of a data set: subject, split, contrast, facts, and SHA-256 of each.
Training and evaluation take it in place of files.

  create   list the scans below a folder, with what their headers and names tell
  verify   find files that are missing or not as listed
  split    share out the subjects to train, val and test

mrirecon manifest create --help (or verify, split) explains the options.
"""
SOME_FAILED, ALL_FAILED = 3, 4
Item = TypeVar("Item")


def run(argv: list[str]) -> int:
    """Run the sub-command that `argv` names; returns the exit code."""
    actions = {"create": _create, "verify": _verify, "split": _split}
    if not argv or argv[0] in ("-h", "--help"):
        print(USAGE, end="")
        return 0 if argv else 2
    if argv[0] not in actions:
        raise UsageError(f"manifest {argv[0]}: there are create, verify and split; mrirecon manifest --help.")
    return actions[argv[0]](argv[1:])


def _create(argv: list[str]) -> int:
    parser = _parser("create", "List the scans below a folder. What is a scan is seen by its content.")
    add = parser.add_argument
    add("folder", type=Path, metavar="DIR", help="folder of the data set")
    add("--output", "-o", type=Path, required=True, metavar="FILE", help="manifest to write")
    names = ", ".join(shipped("layouts"))
    add("--layout", type=str | None, help=f"what folders and names of files say: {names}, or a YAML file")
    add("--name", type=str | None, help="of the data set (default: the layout's title, or the folder's name)")
    options = parser.parse_args(argv)
    folder = options.folder
    if not folder.is_dir():
        raise InputError(f"{folder}: is not a folder; give the one that the data set is in.")
    layout = read_layout(options.layout) if options.layout else None
    files = candidates(folder, layout)
    if not files:
        what = f"of the layout {layout.name}" if layout else "of a readable format"
        raise InputError(f"{folder}: there is no file {what} in this folder or below it.")
    results = list(_tracked(entries(folder, files, layout), len(files), "reading"))
    listed = tuple(result for result in results if isinstance(result, Entry))
    failed = [str(result) for result in results if isinstance(result, InputError)]
    manifest = Manifest(
        name=options.name or (layout.title if layout else folder.absolute().name),
        files=listed,
        source=layout.source if layout else None,
        licence=layout.licence if layout else None,
        citation=layout.citation if layout else None,
        root=_root(folder, options.output),
    )
    if listed:
        write_manifest(manifest, options.output)
    if options.json:
        print(
            json.dumps({"manifest": str(options.output), "files": len(listed), "failed": failed, **_counts(manifest)})
        )
    else:
        _print_counts(manifest)
        _print_all([f"left out: {reason}" for reason in failed])
        _print_all([f"note: {layout.note}"] if layout and layout.note else [])
    return _code(len(failed), len(files))


def _verify(argv: list[str]) -> int:
    parser = _parser("verify", "Find files of a manifest that are missing or not as listed.")
    add = parser.add_argument
    add("manifest", type=str, metavar="FILE", help=f"manifest, or the name of a shipped one: {', '.join(shipped())}")
    add("--root", type=Path | None, metavar="DIR", help="folder of the files (default: the manifest's own root)")
    add("--fast", action="store_true", help="look at the sizes of the files only, not at their content")
    options = parser.parse_args(argv)
    path = shipped().get(options.manifest, Path(options.manifest))
    manifest = read_manifest(path)
    root = options.root or root_of(manifest, path)
    checked = list(_tracked(verify(manifest, root, options.fast), len(manifest.files), "checking"))
    found = {kind: [entry.file for entry, problem in checked if problem == kind] for kind in ("missing", "changed")}
    unlisted = _unlisted(manifest, root)
    good = sum(problem is None for _, problem in checked)
    if options.json:
        print(json.dumps({"files": len(checked), "good": good, **found, "unlisted": unlisted}))
    else:
        print(f"{good} of {len(checked)} files are {'there' if options.fast else 'as listed'}")
        _print_all([f"{kind}: {file}" for kind, files in found.items() for file in files])
        _print_all([f"not listed: {file}" for file in unlisted])
    return _code(len(checked) - good, len(checked))


def _split(argv: list[str]) -> int:
    parser = _parser("split", "Share out the subjects of a manifest to train, val and test, evenly by contrast.")
    add = parser.add_argument
    add("manifest", type=Path, metavar="FILE", help="manifest; splits that it has are replaced")
    add("--output", "-o", type=Path, required=True, metavar="FILE", help="manifest to write")
    add("--fractions", type=str, default="0.7,0.15,0.15", help="shares of train, val and test (default: %(default)s)")
    add("--seed", type=int, default=0, help="another seed, another split (default: %(default)s)")
    options = parser.parse_args(argv)
    try:
        fractions = [float(share) for share in options.fractions.split(",")]
    except ValueError:
        raise UsageError(f"--fractions {options.fractions}: give three numbers such as 0.7,0.15,0.15.") from None
    if options.seed < 0:
        raise UsageError(f"--seed {options.seed}: give 0 or more.")
    manifest = split_by_subject(read_manifest(options.manifest), fractions, options.seed)
    root = root_of(manifest, options.manifest)
    manifest = replace(manifest, root=_root(root, options.output))
    write_manifest(manifest, options.output)
    if options.json:
        print(json.dumps({"manifest": str(options.output), "files": len(manifest.files), **_counts(manifest)}))
    else:
        _print_counts(manifest)
    return 0


def _parser(name: str, text: str) -> ArgumentParser:
    parser = ArgumentParser(prog=f"mrirecon manifest {name}", description=text)
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout instead of text")
    return parser


def _root(folder: Path, output: Path) -> str:
    """The folder as seen from the manifest: relative where it lies below, so that both can be moved together."""
    folder, home = folder.resolve(), output.resolve().parent
    return folder.relative_to(home).as_posix() if folder.is_relative_to(home) else str(folder)


def _unlisted(manifest: Manifest, root: Path) -> list[str]:
    """Scan files below the root that have a listed file's suffix and are not listed."""
    listed = {entry.file for entry in manifest.files}
    suffixes = {Path(file).suffix for file in listed}
    found = (path for path in sorted(root.rglob("*")) if path.suffix in suffixes and path.is_file())
    return [file for path in found if (file := path.relative_to(root).as_posix()) not in listed]


def _counts(manifest: Manifest) -> dict[str, Any]:
    subjects: dict[str, set[str | None]] = {}
    for entry in manifest.files:
        subjects.setdefault(entry.split or "none", set()).add(entry.subject)
    known = {split: len(found - {None}) for split, found in subjects.items()}
    return {"splits": manifest.splits(), "subjects": {split: known[split] for split in manifest.splits()}}


def _print_counts(manifest: Manifest) -> None:
    counts = _counts(manifest)
    print(f"{manifest.name}: {len(manifest.files)} files")
    for split, contrasts in counts["splits"].items():
        by_contrast = ", ".join(f"{contrast} {count}" for contrast, count in contrasts.items())
        label = "no split" if split == "none" else split
        print(f"  {label:<9}{sum(contrasts.values())} files of {counts['subjects'][split]} subjects: {by_contrast}")


def _print_all(lines: Iterable[str]) -> None:
    for line in lines:
        print(f"  {line}")


def _code(failed: int, total: int) -> int:
    return ALL_FAILED if failed == total else SOME_FAILED if failed else 0


def _tracked(items: Iterable[Item], total: int, what: str) -> Iterator[Item]:
    """The items, with a bar on stderr."""
    from rich.console import Console
    from rich.progress import track

    yield from track(items, total=total, description=what, console=Console(stderr=True), transient=True)
