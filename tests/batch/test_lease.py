"""Leases: held by one at a time, and taken over from the dead."""

import json
import os
import threading
import time
from pathlib import Path

import pytest

from mrirecon.batch import lease
from mrirecon.batch.lease import leased
from mrirecon.errors import ResourceError


def never() -> bool:
    return False


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, seconds in (("LOOK", 0.02), ("RENEWED", 0.05), ("STALE", 0.5)):
        monkeypatch.setattr(lease, name, seconds)
    return tmp_path / "lease"


def test_only_one_holds_it_and_the_file_says_who(path: Path) -> None:
    held, most, lock = 0, 0, threading.Lock()

    def work() -> None:
        nonlocal held, most
        for _ in range(5):
            with leased(path, never):
                with lock:
                    held += 1
                    most = max(most, held)
                holder = json.loads(path.read_text())
                time.sleep(0.01)
                with lock:
                    held -= 1
        assert holder["pid"] == os.getpid()
        assert holder["host"]
        assert holder["since"]

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1
    assert not path.exists()


def test_it_stays_held_longer_than_until_it_would_be_stale(path: Path) -> None:
    end = time.monotonic() + 3 * lease.STALE
    second = leased(path, lambda: time.monotonic() > end)
    with leased(path, never), pytest.raises(ResourceError, match="stopped"), second:
        pass


def test_one_of_another_machine_that_is_not_renewed_is_taken_over(path: Path) -> None:
    path.write_text(json.dumps({"system": "elsewhere", "pid": 1, "started": "1"}))
    before = time.monotonic()
    with leased(path, never):
        assert time.monotonic() - before >= lease.STALE
        assert json.loads(path.read_text())["pid"] == os.getpid()
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize("content", ["", "{", "[]"])
def test_a_half_written_one_is_taken_over(path: Path, content: str) -> None:
    path.write_text(content)
    with leased(path, never):
        assert json.loads(path.read_text())["pid"] == os.getpid()


def test_one_of_a_process_that_is_gone_is_taken_over_at_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "STALE", 1000)
    if os.fork() == 0:
        with leased(path, never):
            os._exit(0)
    os.wait()
    assert path.exists()
    with leased(path, never):
        pass


def test_one_that_was_taken_over_is_left_alone_by_its_old_holder(path: Path) -> None:
    with leased(path, never):
        path.write_text("another")
        time.sleep(3 * lease.RENEWED)
    assert path.read_text() == "another"
