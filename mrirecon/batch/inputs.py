"""Which scans a batch is about: files, folders, globs and lists, and how a file is known to be the one seen before."""

import csv
import glob
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mrirecon.errors import InputError, UsageError

#: Files that lie beside scans; given by name, or by a glob, they are taken all the same.
NOT_SCANS = {".txt", ".md", ".pdf", ".log", ".json", ".jsonl", ".csv", ".xml", ".yaml", ".yml", ".png", ".html"}
LISTS = {".csv", ".jsonl"}
COLUMNS = ("scan", "noise", "reference_dicom")


@dataclass(frozen=True)
class Input:
    """One scan file, its noise scan, and the image, or folder of images, whose patient and study its DICOM joins."""

    path: Path
    noise: Path | None = None
    reference: Path | None = None

    def files(self) -> list[Path]:
        """All files that belong to it, in a fixed order. Raises InputError if one is not there, or is no file."""
        named = [self.path, self.noise, self.reference]
        return [file for path in named if path for file in _parts(path)]

    def signature(self) -> str:
        """Size, time of the last change of the content, and of anything, of each file: the same, the same content."""
        facts = [file.stat() for file in self.files()]
        return " ".join(f"{fact.st_size}/{fact.st_mtime_ns}/{fact.st_ctime_ns}" for fact in facts)

    def content(self) -> str:
        """Hash of the content of all files."""
        digest = hashlib.sha256()
        for file in self.files():
            with file.open("rb") as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
        return digest.hexdigest()


def find_inputs(patterns: Sequence[str], noise: Path | None, reference: Path | None) -> list[Input]:
    """The scans that `patterns` stand for, each once: files, folders, globs, and lists (.csv, .jsonl).

    noise, reference: for scans of which a list says nothing else. A folder stands for the files in it, but for hidden
    ones, those in NOT_SCANS and the noise scan; its folders are left alone. A list has the columns, or keys, of
    COLUMNS; its paths are seen from its own folder. A file that is not there is listed too, so that it is missed.
    """
    found = [one for pattern in patterns for one in _stand_for(pattern, noise, reference)]
    return list(dict.fromkeys(found))


def _stand_for(pattern: str, noise: Path | None, reference: Path | None) -> Iterator[Input]:
    path = Path(pattern)
    if path.is_dir():
        paths = [file for file in sorted(path.iterdir()) if _may_be_scan(file, noise)]
    elif path.suffix.lower() in LISTS and path.is_file():
        for row in _rows(path):
            yield Input(row["scan"], row.get("noise", noise), row.get("reference_dicom", reference))
        return
    elif not path.exists() and glob.has_magic(pattern):
        matches = (Path(match) for match in sorted(glob.glob(pattern, recursive=True)))  # noqa: PTH207 (absolute too)
        paths = [match for match in matches if match.is_file() and not _is_bart_header(match)]
    else:
        paths = [path]
    for one in paths:
        yield Input(one, noise, reference)


def _may_be_scan(file: Path, noise: Path | None) -> bool:
    if file.name.startswith(".") or file.suffix.lower() in NOT_SCANS or _is_bart_header(file) or not file.is_file():
        return False
    return noise is None or not noise.exists() or not file.samefile(noise)


def _is_bart_header(file: Path) -> bool:
    return file.suffix == ".hdr" and file.with_suffix(".cfl").exists()


def _rows(path: Path) -> list[dict[str, Path]]:
    """The rows of a list: column → path; what is empty is left out."""
    try:
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix.lower() == ".csv":
            rows = list(csv.DictReader(text.splitlines(), strict=True))
        else:
            rows = [json.loads(line) for line in text.splitlines() if line.strip()]
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(f"{path}: is no list of scans, as CSV or one JSON object a line ({error}).") from error
    checked = []
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict) or not row.get("scan"):
            raise InputError(f"{path}: row {number}: names no scan; the columns are {', '.join(COLUMNS)}.")
        if unknown := [name for name in row if name not in COLUMNS]:
            raise InputError(f"{path}: row {number}: there is no column '{unknown[0]}', only {', '.join(COLUMNS)}.")
        checked.append({name: path.parent / str(value) for name, value in row.items() if value})
    return checked


def _parts(path: Path) -> list[Path]:
    """The files of a path: itself, both files of a BART array, or all of a folder."""
    if path.is_dir():
        return sorted(file for file in path.rglob("*") if file.is_file())
    if not path.exists():
        raise InputError(f"{path}: there is no such file; was it moved or deleted?")
    if not path.is_file():
        raise InputError(f"{path}: is no regular file.")
    if path.suffix in (".cfl", ".hdr"):
        return [path, *(other for s in (".cfl", ".hdr") if (other := path.with_suffix(s)) != path and other.exists())]
    return [path]


def required(inputs: list[Input], patterns: Sequence[str]) -> list[Input]:
    """The inputs; UsageError if there are none."""
    if not inputs:
        raise UsageError(
            f"{', '.join(patterns)}: there are no scans; give scan files, folders of them, globs or lists."
        )
    return inputs
