"""Who works on which scan, where several workers may: a lease is a file that only one of them can make.

It says who made it and when. As long as its holder lives, its time is renewed; the file of one that died is removed, at
once where that can be known, else when it was not renewed for so long. No clocks of two machines are compared.
"""

import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from mrirecon.errors import ResourceError

#: Seconds from one renewal to the next, without any until the holder is taken to be dead, and between two looks.
RENEWED, STALE, LOOK = 10.0, 60.0, 0.5
BOOT = Path("/proc/sys/kernel/random/boot_id")


@contextmanager
def leased(path: Path, stopped: Callable[[], bool]) -> Iterator[None]:
    """Hold the lease `path` within this context; waits for it as long as another holds it.

    stopped: whether to give up waiting; then raises ResourceError. Raises OSError where the file cannot be written.
    """
    content = json.dumps(
        {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "since": datetime.now(UTC).isoformat(timespec="seconds"),
            "system": _system(),
            "started": _started(os.getpid()),
            "id": uuid.uuid4().hex,
        }
    )
    seen, since = None, time.monotonic()
    while not _made(path, content):
        if stopped():
            raise ResourceError("the batch was stopped.")
        with suppress(FileNotFoundError):
            now = path.stat().st_mtime_ns, path.read_text()
            if now != seen:
                seen, since = now, time.monotonic()
            if _is_dead(now[1]) or time.monotonic() - since > STALE:
                _remove(path, now[1])
                continue
        time.sleep(LOOK)
    over = threading.Event()
    threading.Thread(target=_renew, args=(path, content, over), daemon=True).start()
    try:
        yield
    finally:
        over.set()
        if _content(path) == content:
            path.unlink(missing_ok=True)


def remove_if_dead(path: Path) -> None:
    """Remove a lease whose holder was on this machine, and is gone."""
    content = _content(path)
    if content is not None and _is_dead(content):
        with suppress(FileNotFoundError):
            _remove(path, content)


def _made(path: Path, content: str) -> bool:
    try:
        file = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
    except FileExistsError:
        return False
    try:
        os.write(file, content.encode())
    except OSError:
        path.unlink()
        raise
    finally:
        os.close(file)
    return True


def _remove(path: Path, content: str) -> None:
    """Remove the lease with that content; one that another worker made in the meantime is put back."""
    aside = path.with_name(f".{path.name}-{uuid.uuid4().hex}")
    path.rename(aside)
    if aside.read_text() != content:
        with suppress(FileExistsError):
            os.link(aside, path)
    aside.unlink()


def _renew(path: Path, content: str, over: threading.Event) -> None:
    while not over.wait(RENEWED):
        if _content(path) == content:
            with suppress(OSError):
                os.utime(path)


def _is_dead(content: str) -> bool:
    """Whether the holder was on this machine, and is gone."""
    try:
        holder = json.loads(content)
        here = holder["system"] and holder["system"] == _system()
        return bool(here) and _started(holder["pid"]) != holder["started"]
    except (ValueError, KeyError, TypeError):  # being written, or damaged
        return False


def _content(path: Path) -> str | None:
    try:
        return path.read_text()
    except OSError:
        return None


def _system() -> str:
    """Within which a process number means one process; empty where that cannot be known."""
    try:
        return BOOT.read_text().strip() + os.readlink("/proc/self/ns/pid")  # noqa: PTH115 (no path)
    except OSError:
        return ""


def _started(pid: int) -> str | None:
    """When a process was started, in the system's ticks; None if there is no such process, or it has ended."""
    try:
        facts = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if facts[0] in "ZX" else facts[19]
