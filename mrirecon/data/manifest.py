"""Manifests: which files belong to a data set and to which of its splits, with what is known of each file."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path, PurePosixPath
from typing import Any, Literal, get_args

import numpy as np
import yaml

import mrirecon
from mrirecon.acquisition.array_files import container_of
from mrirecon.acquisition.bart import is_hdr
from mrirecon.acquisition.magic import first_bytes, is_mrd2, is_mrd_stream, is_twix
from mrirecon.acquisition.scan import sha256_of
from mrirecon.atomic import atomic_path
from mrirecon.errors import InputError, UsageError

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)


@dataclass(frozen=True)
class Entry:
    """One file. None = unknown.

    file: path below the manifest's root, with /. subject: pseudonym of the person; all files of one are in one split.
    coils, slices, matrix: as `mrirecon info` tells them, matrix (y, x). lesions: of a NIfTI image, the NIfTI volume
    below the root that is not zero in its lesions. bytes, sha256: of the content of `file`. source, licence: where they
    differ from the manifest's.
    """

    file: str
    subject: str | None = None
    split: Split | None = None
    contrast: str | None = None
    anatomy: str | None = None
    field_strength_t: float | None = None
    coils: int | None = None
    slices: int | None = None
    matrix: tuple[int, int] | None = None
    lesions: str | None = None
    bytes: int | None = None
    sha256: str | None = None
    source: str | None = None
    licence: str | None = None


@dataclass(frozen=True)
class Manifest:
    """A data set. source: where to get it. root: folder of the files, as seen from the manifest's own folder."""

    name: str
    files: tuple[Entry, ...]
    source: str | None = None
    licence: str | None = None
    citation: str | None = None
    root: str = "."

    def splits(self) -> dict[str, dict[str, int]]:
        """Number of files by split and contrast."""
        counts = Counter((entry.split or "none", entry.contrast or "unknown") for entry in self.files)
        found = [split for split in (*SPLITS, "none") if any(split == s for s, _ in counts)]
        return {split: {c: counts[split, c] for s, c in sorted(counts) if s == split} for split in found}


def shipped(folder: str = "") -> dict[str, Path]:
    """Name → file of what is in data_manifests/`folder`, in the installed package or beside it in a source tree."""
    package = Path(mrirecon.__file__).parent
    paths = [path for home in (package, package.parent) for path in (home / "data_manifests" / folder).glob("*.yaml")]
    return {path.stem: path for path in sorted(paths, key=lambda path: path.stem)}


def read_manifest(path: Path) -> Manifest:
    """Read a manifest; InputError names the row and the field that is wrong."""
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check the path.") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: is not a manifest in YAML ({' '.join(str(error).split())}).") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: is not a manifest; it must have the fields 'name' and 'files'.")
    rows = content.pop("files", None)
    if not isinstance(rows, list):
        raise InputError(f"{path}: field 'files' must be a list of files.")
    manifest = Manifest(**_checked(content, Manifest, str(path)), files=())
    entries = tuple(
        Entry(**_checked(row, Entry, f"{path}: row {number} of files")) for number, row in enumerate(rows, 1)
    )
    if repeated := [file for file, count in Counter(entry.file for entry in entries).items() if count > 1]:
        rows_of = [str(number) for number, entry in enumerate(entries, 1) if entry.file == repeated[0]]
        raise InputError(f"{path}: rows {' and '.join(rows_of)} of files: field 'file': {repeated[0]} is listed twice.")
    return replace(manifest, files=entries)


def write_manifest(manifest: Manifest, path: Path) -> None:
    """Write a manifest, atomically. Unknown values are left out."""
    head = _known(manifest)
    head["files"] = [_known(entry) for entry in manifest.files]
    with atomic_path(path) as temporary:
        text = yaml.dump(head, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)
        temporary.write_text(text, encoding="utf-8")


def root_of(manifest: Manifest, path: Path) -> Path:
    """The folder that the files of a manifest at `path` are in."""
    return path.parent / manifest.root


def scan_files(paths: Sequence[Path], split: Split) -> list[Path]:
    """The files that `paths` stand for: scan files, folders of them, or manifests, of which the rows of `split` count.

    InputError if a path stands for none, or if a manifest lists a file that is not there.
    """
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            found = [file for file in sorted(path.iterdir()) if file.is_file() and is_scan_file(file)]
            if not found:
                raise InputError(f"{path}: there are no scan files in this folder.")
        elif path.suffix in (".yaml", ".yml"):
            manifest = read_manifest(path)
            root = root_of(manifest, path)
            found = [root / entry.file for entry in manifest.files if entry.split == split]
            if not found:
                raise InputError(f"{path}: lists no file of the split '{split}'; mrirecon manifest split makes splits.")
            if missing := [file for file in found if not file.exists()]:
                raise InputError(
                    f"{path}: {len(missing)} of its {len(found)} files of the split '{split}' are missing, such as "
                    f"{missing[0]}; check its field 'root', or run mrirecon manifest verify."
                )
        else:
            found = [path]
        files += found
    return files


def is_scan_file(path: Path) -> bool:
    """Whether a file's first bytes are those of a readable format; a BART header counts as part of its `.cfl`.

    InputError if the file cannot be opened or is empty.
    """
    head = first_bytes(path)
    if is_hdr(head):
        return False
    if is_mrd2(head) or is_twix(head) or is_mrd_stream(head):
        return True
    try:
        container_of(path)
    except InputError:
        return False
    return True


def verify(manifest: Manifest, root: Path, fast: bool = False) -> Iterator[tuple[Entry, str | None]]:
    """Each file with what is wrong with it: "missing", "changed", or None. fast: compare sizes, not contents."""
    for entry in manifest.files:
        path = root / entry.file
        if not path.is_file():
            yield entry, "missing"
        elif entry.bytes not in (None, path.stat().st_size):
            yield entry, "changed"
        else:
            yield entry, "changed" if not fast and entry.sha256 not in (None, sha256_of(path)) else None


def split_by_subject(manifest: Manifest, fractions: Sequence[float], seed: int) -> Manifest:
    """The manifest with a split for every file: train, val and test with these shares of the files of each contrast.

    All files of a subject get the same split, so the shares are met only as well as that allows. The rarest contrast is
    shared out first, and each subject goes where its contrast is short the most (Sechidis et al., ECML 2011).
    Raises InputError if a file has no subject, UsageError if the fractions do not add up to 1.
    """
    if len(fractions) != len(SPLITS) or min(fractions) < 0 or abs(sum(fractions) - 1) > 1e-6:
        raise UsageError("the fractions must be three shares, of train, val and test, that add up to 1.")
    if nameless := [entry.file for entry in manifest.files if entry.subject is None]:
        raise InputError(
            f"{len(nameless)} files have no subject, such as {nameless[0]}, so scans of one person could end up in two "
            "splits; fill in 'subject', or create the manifest with a layout that knows it."
        )
    contrasts: dict[str, Counter[str]] = {}
    for entry in manifest.files:
        contrasts.setdefault(str(entry.subject), Counter())[entry.contrast or "unknown"] += 1
    subjects = [str(subject) for subject in np.random.default_rng(seed).permutation(sorted(contrasts))]
    total = sum(contrasts.values(), Counter())
    short = {s: {c: f * n for c, n in total.items()} for s, f in zip(SPLITS, fractions, strict=True) if f > 0}
    chosen: dict[str, Split] = {}
    while subjects:
        left = Counter(contrast for subject in subjects for contrast in contrasts[subject])
        rarest = min(left, key=lambda contrast: (left[contrast], contrast))
        for subject in [subject for subject in subjects if rarest in contrasts[subject]]:
            chosen[subject] = max(short, key=lambda split: (short[split][rarest], sum(short[split].values())))
            for contrast, count in contrasts[subject].items():
                short[chosen[subject]][contrast] -= count
            subjects.remove(subject)
    return replace(manifest, files=tuple(replace(e, split=chosen[str(e.subject)]) for e in manifest.files))


class _Dumper(yaml.SafeDumper):
    """Writes tuples, such as a matrix, on one line, and values that occur twice twice."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


_Dumper.add_representer(tuple, lambda dumper, value: dumper.represent_sequence("tag:yaml.org,2002:seq", value, True))


def _known(item: Manifest | Entry) -> dict[str, Any]:
    return {f.name: value for f in fields(item) if (value := getattr(item, f.name)) is not None and f.name != "files"}


def _checked(values: Any, kind: type[Manifest] | type[Entry], where: str) -> Mapping[str, Any]:
    """The values of a manifest's head or row, of the right types."""
    required = "name" if kind is Manifest else "file"
    if not isinstance(values, dict):
        raise InputError(f"{where}: must have fields, at least '{required}'.")
    names = [field.name for field in fields(kind) if field.name != "files"]
    if unknown := [name for name in values if name not in names]:
        raise InputError(f"{where}: there is no field '{unknown[0]}'; there are {', '.join(names)}.")
    if required not in values:
        raise InputError(f"{where}: field '{required}' is missing.")
    for name, value in values.items():
        fits, what = CHECKS.get(name, (_text, "text; put it in quotes"))
        if not fits(value):
            raise InputError(f"{where}: field '{name}': {value!r} must be {what}.")
    return {name: tuple(value) if name == "matrix" else value for name, value in values.items()}


def _text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _count(value: Any) -> bool:
    return type(value) is int and value >= 0


def _inside(value: Any) -> bool:
    return _text(value) and not PurePosixPath(value).is_absolute() and ".." not in PurePosixPath(value).parts


#: What the values of fields must be; those not listed are text.
CHECKS: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "file": (_inside, "a path inside the root, relative to it"),
    "lesions": (_inside, "a path inside the root, relative to it"),
    "split": (lambda value: value in SPLITS, f"one of {', '.join(SPLITS)}"),
    "field_strength_t": (lambda value: type(value) in (int, float) and 0 < value < 100, "a number of tesla"),
    "coils": (_count, "a whole number"),
    "slices": (_count, "a whole number"),
    "matrix": (lambda v: isinstance(v, list) and len(v) == 2 and all(map(_count, v)), "two whole numbers, [y, x]"),
    "bytes": (_count, "a whole number"),
    "sha256": (lambda v: _text(v) and len(v) == 64 and set(v) <= set("0123456789abcdef"), "64 hexadecimal digits"),
}
