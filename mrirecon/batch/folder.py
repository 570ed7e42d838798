"""The folders of a batch: one for each finished scan, known by its key, and those being worked on.

A folder counts as finished when it has a `done.json`, which is written last and knows the hashes of all other files. It
gets its name when it is finished, in one step, and only one worker can give it.
"""

import json
import os
from contextlib import suppress
from pathlib import Path
from shutil import rmtree
from typing import Any

from mrirecon.acquisition.scan import sha256_of
from mrirecon.batch.lease import remove_if_dead

DONE = "done.json"
#: Digits of the key in a folder's name.
SHORT = 12
#: What a scan is worked on in, and who does (see `mrirecon.batch.lease`); the start of the key follows.
WORK, LEASE = ".work-", ".lease-"


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


def finished(folder: Path, key: str) -> dict[str, Any] | None:
    """What `done.json` says of the scan with that key in a batch's folder; None if it is not finished, or damaged.

    The entry "folder" is added: the name of its folder.
    """
    for one in folder.glob(f"[!.]*-{key[:SHORT]}"):
        if (done := verified(one)) and done["key"] == key:
            return done | {"folder": one.name}
    return None


def publish(work: Path, name: str, key: str) -> dict[str, Any]:
    """Give a finished work folder its name, after the scan, in one step; returns what `finished` does.

    A damaged folder of that name is replaced; one that another worker finished first stays.
    """
    target = work.with_name(f"{name}-{key[:SHORT]}")
    try:
        work.rename(target)
    except OSError:  # there is one
        if not (target.is_dir() and verified(target)):
            damaged = work.with_name(f"{work.name}-damaged")
            with suppress(FileNotFoundError):
                target.rename(damaged)
            work.rename(target)
            rmtree(damaged, ignore_errors=True)
    _sync(target.parent)
    done: dict[str, Any] = json.loads((target / DONE).read_text(encoding="utf-8"))
    return done | {"folder": target.name}


def clear(folder: Path, key: str = "") -> None:
    """Remove from a batch's folder what dead workers left there, or all that was begun for one key.

    Such a key's lease must be held.
    """
    if not key:
        for lease in folder.glob(f"{LEASE}*"):
            remove_if_dead(lease)
    for work in folder.glob(f"{WORK}{key[:SHORT]}*"):
        if key or not (folder / f"{LEASE}{work.name[len(WORK) :][:SHORT]}").exists():
            rmtree(work, ignore_errors=True)


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
