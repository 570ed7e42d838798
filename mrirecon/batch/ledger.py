"""What happened in a batch, line by line: how its folders came about, and why a scan has none. Survives any crash."""

import fcntl
import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from mrirecon.batch.folder import clear
from mrirecon.errors import InputError, ResourceError, UsageError

LEDGER = "ledger.jsonl"


class Ledger:
    """The ledger of one output folder, held by one process at a time; a context manager.

    folder: made if it is not there. part: of a batch that is done by several processes, each with a ledger of its own,
    the part of this one; the ledger without a part reads them all. Raises UsageError if another process is at work with
    the same, ResourceError if it cannot be written. contents: (scan, signature) → hash of its content; failures: key →
    the last event "failed", unless the scan was done since; done: the keys of scans that were.
    """

    def __init__(self, folder: Path, part: str = ""):
        self.folder = folder
        self._part, self._path = part, folder / (f"ledger-{part}.jsonl" if part else LEDGER)
        self.contents: dict[tuple[str, str], str] = {}
        self.failures: dict[str, dict[str, Any]] = {}
        self.done: set[str] = set()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        except OSError as error:
            raise ResourceError(f"{folder}: cannot be written ({error.strerror}); choose another output.") from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._file)
            raise UsageError(f"{folder}: another batch is at work there; wait for it, or stop it first.") from error
        self._cut()
        parts = [self._path] if part else sorted(folder.glob("ledger*.jsonl"))
        events = [event for path in parts for event in _events(path)]
        for event in sorted(events, key=lambda event: str(event.get("time"))):
            self._note(event)
        self._clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._clear()
        os.close(self._file)

    def _clear(self) -> None:
        if not self._part:
            clear(self.folder)

    def append(self, event: str, **facts: Any) -> None:
        """Add one line, which is on the disk when this returns. Raises ResourceError if the disk has no room for it."""
        record = {"time": datetime.now(UTC).isoformat(timespec="microseconds"), "event": event, **facts}
        line = (json.dumps(record) + "\n").encode()
        try:
            if os.write(self._file, line) < len(line):
                raise OSError("the disk is full")
            os.fsync(self._file)
        except OSError as error:
            raise ResourceError(f"{self._path}: cannot be written ({error}); the batch stops.") from error
        self._note(record)

    def _cut(self) -> None:
        """Remove a last line without an end: it was being written in a crash, and never happened."""
        os.ftruncate(self._file, self._path.read_bytes().rfind(b"\n") + 1)

    def _note(self, event: dict[str, Any]) -> None:
        match event["event"]:
            case "hashed":
                self.contents[event["scan"], event["signature"]] = event["content"]
            case "failed" if event.get("key"):
                self.failures[event["key"]] = event
            case "done":
                self.failures.pop(event["key"], None)
                self.done.add(event["key"])


def _events(path: Path) -> Iterator[dict[str, Any]]:
    """The events of a ledger, but for a last line that is being written."""
    for number, line in enumerate(path.read_bytes().splitlines(keepends=True), 1):
        try:
            if line.endswith(b"\n"):
                yield json.loads(line)
        except ValueError as error:
            raise InputError(f"{path}: line {number} is damaged; delete the line, or take another output.") from error
