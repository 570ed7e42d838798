"""What a data set needs to know of its scans before it reads any of them, kept between runs.

Scale and acquired range come from one pass over all samples. They are kept in an SQLite file in the user's cache folder
($XDG_CACHE_HOME/mrirecon, else ~/.cache/mrirecon), keyed by hashed path, size and time of change. Where that folder
cannot be used, everything works, only slower. Nothing in it names a file or a person, and nothing is unpickled.
"""

import hashlib
import json
import os
import sqlite3
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from mrirecon import __version__
from mrirecon.acquisition.scan import Axis, Box
from mrirecon.conditioning.opening import open_scans
from mrirecon.conditioning.options import Conditioning

#: Changes with the meaning of a record.
FORMAT = 1


@dataclass(frozen=True)
class Volume:
    """One volume of a scan file.

    number: which of the file's volumes. shape: (slices, coils, y, x) of conditioned k-space. readout_axis, scale,
    acquired, prospective: as of `mrirecon.acquisition.scan.Scan` and its survey.
    """

    path: Path
    number: int
    shape: tuple[int, int, int, int]
    readout_axis: Axis | None
    scale: float
    acquired: Box
    prospective: bool


def index_volumes(
    files: Sequence[Path],
    conditioning: Conditioning = Conditioning(),  # noqa: B008 (frozen)
    workers: int = 0,
) -> list[Volume]:
    """The volumes of all files. Files that are not in the cache, or changed, are read once, by `workers` processes.

    Raises InputError for a file that cannot be read or holds NaN or infinity.
    """
    stamps = {path: _stamp(path, conditioning) for path in files}
    with _cache() as cache:
        records = {path: cache.get(*stamps[path]) for path in files}
        missing = [path for path in files if records[path] is None]
        for path, record in zip(missing, _survey_all(missing, conditioning, workers), strict=True):
            records[path] = record
            if _stamp(path, conditioning) == stamps[path]:  # else it changed while it was read
                cache.put(*stamps[path], record)
    return [volume for path in files for volume in _volumes(path, records[path] or "")]


def _survey_all(files: list[Path], conditioning: Conditioning, workers: int) -> Iterator[str]:
    """The record of each file in turn."""
    if not files:
        return
    from rich.console import Console
    from rich.progress import track

    survey = partial(_survey, conditioning=conditioning)
    steps = partial(track, total=len(files), description="surveying scans", console=Console(stderr=True))
    if min(workers, len(files)) < 2:
        yield from steps(map(survey, files))
        return
    with ProcessPoolExecutor(min(workers, len(files))) as pool:
        yield from steps(pool.map(survey, files))


def _survey(path: Path, conditioning: Conditioning) -> str:
    """The record of a file: JSON, a list of its volumes."""
    return json.dumps(
        [
            [scan.shape, scan.header.readout_axis, scan.survey.scale, scan.acquired, scan.prospective]
            for scan in open_scans(path, conditioning)
        ]
    )


def _volumes(path: Path, record: str) -> list[Volume]:
    """The volumes in a record; ValueError or TypeError if it is damaged."""
    return [
        Volume(path, number, (slices, coils, y, x), axis, float(scale), ((y0, y1), (x0, x1)), bool(prospective))
        for number, ((slices, coils, y, x), axis, scale, ((y0, y1), (x0, x1)), prospective) in enumerate(
            json.loads(record)
        )
    ]


def _stamp(path: Path, conditioning: Conditioning) -> tuple[str, str]:
    """Under which key a file's record is kept, and what must not have changed since."""
    parts = [path, *(path.with_suffix(suffix) for suffix in (".cfl", ".hdr") if path.suffix in (".cfl", ".hdr"))]
    parts += [conditioning.noise] if conditioning.noise else []
    states = [(part.stat().st_size, part.stat().st_mtime_ns) for part in parts if part.exists()]
    key = hashlib.sha256(f"{path.absolute()}\n{conditioning}".encode()).hexdigest()
    return key, json.dumps([FORMAT, __version__, states])


class _Cache:
    """Records by key. Errors of the database mean that nothing is known, and that nothing is kept."""

    def __init__(self, database: sqlite3.Connection | None):
        self.database = database

    def get(self, key: str, state: str) -> str | None:
        """The record, if it is of this state and sound."""
        found = self._run("SELECT record FROM scans WHERE key = ? AND state = ?", key, state)
        try:
            record: str | None = found[0][0] if found else None
            return record if record and _volumes(Path(), record) else None
        except (ValueError, TypeError):
            return None

    def put(self, key: str, state: str, record: str) -> None:
        self._run("INSERT OR REPLACE INTO scans VALUES (?, ?, ?)", key, state, record)

    def _run(self, query: str, *values: str) -> list[tuple[str]]:
        if self.database is None:
            return []
        try:
            with self.database:
                return self.database.execute(query, values).fetchall()
        except sqlite3.Error:
            return []


@contextmanager
def _cache() -> Iterator[_Cache]:
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mrirecon"
    path = folder / f"scans-{FORMAT}.sqlite"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            database = _open(path)
        except sqlite3.OperationalError:  # cannot be opened or is locked; it may be sound
            raise
        except sqlite3.DatabaseError:
            path.unlink()
            database = _open(path)
    except (OSError, RuntimeError, sqlite3.Error):
        yield _Cache(None)
        return
    with closing(database):
        yield _Cache(database)


def _open(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path, timeout=10)
    try:
        database.execute("PRAGMA synchronous = OFF")  # what a power cut may damage is made anew
        with database:
            database.execute("CREATE TABLE IF NOT EXISTS scans (key TEXT PRIMARY KEY, state TEXT, record TEXT)")
            database.execute("SELECT key, state, record FROM scans LIMIT 1").fetchall()
    except sqlite3.Error:
        database.close()
        raise
    return database
