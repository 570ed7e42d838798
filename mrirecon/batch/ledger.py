"""What happened in a batch, line by line, and which of its folders are finished. Both survive any crash.

A folder counts as finished when it has a `done.json`, which is written last and knows the hashes of all other files. It
gets its name when it is finished, in one step. The ledger tells how it came to that, and why a scan has no folder.
"""

import fcntl
import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from shutil import rmtree
from typing import Any, Self

from mrirecon.acquisition.scan import sha256_of
from mrirecon.errors import InputError, ResourceError, UsageError

LEDGER, DONE = "ledger.jsonl", "done.json"
#: Folders in which a scan is being worked on; whoever holds the ledger's lock may delete those of others.
WORK = ".work-"
#: Digits of the key in a folder's name.
SHORT = 12


class Ledger:
    """The ledger of one output folder, held by one process at a time; a context manager.

    folder: made if it is not there. Raises UsageError if another batch is at work there, ResourceError if it cannot be
    written. contents: (scan, signature) → hash of its content; failures: key → the last event "failed", unless the scan
    was done since; done: the keys of scans that were.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.contents: dict[tuple[str, str], str] = {}
        self.failures: dict[str, dict[str, Any]] = {}
        self.done: set[str] = set()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = os.open(folder / LEDGER, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        except OSError as error:
            raise ResourceError(f"{folder}: cannot be written ({error.strerror}); choose another output.") from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._file)
            raise UsageError(f"{folder}: another batch is at work there; wait for it, or stop it first.") from error
        for event in self._read():
            self._note(event)
        self.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.clear()
        os.close(self._file)

    def clear(self) -> None:
        """Remove what is, or was, being worked on."""
        for left in self.folder.glob(f"{WORK}*"):
            rmtree(left, ignore_errors=True)

    def append(self, event: str, **facts: Any) -> None:
        """Add one line, which is on the disk when this returns. Raises ResourceError if the disk has no room for it."""
        record = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "event": event, **facts}
        line = (json.dumps(record) + "\n").encode()
        try:
            if os.write(self._file, line) < len(line):
                raise OSError("the disk is full")
            os.fsync(self._file)
        except OSError as error:
            raise ResourceError(f"{self.folder / LEDGER}: cannot be written ({error}); the batch stops.") from error
        self._note(record)

    def _read(self) -> Iterator[dict[str, Any]]:
        """The events so far. A last line without an end was being written in a crash and never happened."""
        text = (self.folder / LEDGER).read_bytes()
        whole = text.rfind(b"\n") + 1
        os.ftruncate(self._file, whole)
        for number, line in enumerate(text[:whole].splitlines(), 1):
            try:
                yield json.loads(line)
            except ValueError as error:
                raise InputError(
                    f"{self.folder / LEDGER}: line {number} is damaged; delete the line, or take another output."
                ) from error

    def _note(self, event: dict[str, Any]) -> None:
        match event["event"]:
            case "hashed":
                self.contents[event["scan"], event["signature"]] = event["content"]
            case "failed" if event.get("key"):
                self.failures[event["key"]] = event
            case "done":
                self.failures.pop(event["key"], None)
                self.done.add(event["key"])

    def work_folder(self, key: str) -> Path:
        """Where the scan of that key is worked on."""
        return self.folder / f"{WORK}{key[:SHORT]}"

    def finished(self, key: str) -> dict[str, Any] | None:
        """What `done.json` says of the scan with that key; None if it is not finished, or its files are damaged.

        The entry "folder" is added: the name of its folder.
        """
        for folder in self.folder.glob(f"*-{key[:SHORT]}"):
            if not folder.name.startswith(WORK) and (done := verified(folder)) and done["key"] == key:
                return done | {"folder": folder.name}
        return None

    def publish(self, work: Path, name: str, key: str) -> Path:
        """Give a finished work folder its name, after the scan, in one step; what had the name is replaced."""
        target = self.folder / f"{name}-{key[:SHORT]}"
        if target.exists():
            target.rename(work.with_name(f"{work.name}-old"))
            rmtree(work.with_name(f"{work.name}-old"), ignore_errors=True)
        work.rename(target)
        _sync(self.folder)
        return target


def finish(folder: Path, facts: dict[str, Any]) -> dict[str, Any]:
    """Put all files of a folder safely onto the disk and write `done.json` with the facts and the files' hashes."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    done = facts | {"files": {str(path.relative_to(folder)): _saved(path) for path in files}}
    (folder / DONE).write_text(json.dumps(done, indent=1), encoding="utf-8")
    _saved(folder / DONE)
    _sync(folder)
    return done


def verified(folder: Path) -> dict[str, Any] | None:
    """What `done.json` in a folder says, if all files are there and are as it says; else None."""
    try:
        done: dict[str, Any] = json.loads((folder / DONE).read_text(encoding="utf-8"))
        good = all(sha256_of(folder / name) == sha256 for name, sha256 in done["files"].items())
        return done if good and "key" in done else None
    except (OSError, ValueError, KeyError, AttributeError):
        return None


def _saved(path: Path) -> str:
    """Hash of a file, which is on the disk when this returns."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
    return sha256_of(path)


def _sync(folder: Path) -> None:
    """New names in a folder are on the disk when this returns."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
