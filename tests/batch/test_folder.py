"""Folders of scans: finished ones, damaged ones, and what dead workers left."""

import os
from pathlib import Path

import pytest

from mrirecon.batch.folder import DONE, clear, finish, finished, publish, verified
from mrirecon.batch.lease import leased

KEY = "0123456789abcdef" * 4


def worked_on(folder: Path, name: str, text: str = "image") -> Path:
    """A folder with all that a finished scan has, which has not got its name yet."""
    work = folder / f".work-{KEY[:12]}-{name}"
    (work / "series").mkdir(parents=True)
    (work / "image.h5").write_text(text)
    (work / "series" / "1.dcm").write_bytes(b"slice")
    finish(work, {"key": KEY})
    return work


@pytest.fixture
def done(tmp_path: Path) -> Path:
    """A finished folder."""
    return tmp_path / publish(worked_on(tmp_path, "1"), "scan.h5", KEY)["folder"]


def test_a_finished_folder_is_found_by_its_key_alone(done: Path) -> None:
    found = finished(done.parent, KEY)
    assert found is not None
    assert found["folder"] == done.name == "scan.h5-0123456789ab"
    assert sorted(found["files"]) == ["image.h5", "series/1.dcm"]
    assert finished(done.parent, "0" * 64) is None
    assert finished(done.parent, KEY[:-1] + "0") is None


@pytest.mark.parametrize("damage", ["changed", "missing", "half a done.json"])
def test_a_damaged_folder_does_not_count_and_is_replaced(done: Path, damage: str) -> None:
    if damage == "changed":
        (done / "series" / "1.dcm").write_bytes(b"slicf")
    elif damage == "missing":
        (done / "image.h5").unlink()
    else:
        (done / DONE).write_text((done / DONE).read_text()[:20])
    assert verified(done) is None
    assert publish(worked_on(done.parent, "2"), "scan.h5", KEY)["folder"] == done.name
    assert verified(done)
    assert list(done.parent.iterdir()) == [done]


def test_of_two_workers_that_finish_one_scan_the_first_counts(done: Path) -> None:
    assert publish(worked_on(done.parent, "2", "late"), "scan.h5", KEY)["folder"] == done.name
    assert (done / "image.h5").read_text() == "image"


def test_what_a_dead_worker_left_is_removed_and_what_a_living_one_does_is_not(tmp_path: Path) -> None:
    living, dead = worked_on(tmp_path, "1"), tmp_path / ".work-ffffffffffff-1"
    dead.mkdir()
    with leased(tmp_path / f".lease-{KEY[:12]}", lambda: False):
        clear(tmp_path)
        assert living.exists()
        assert not dead.exists()
    if os.fork() == 0:
        with leased(tmp_path / f".lease-{KEY[:12]}", lambda: False):
            os._exit(0)
    os.wait()
    clear(tmp_path)
    assert not list(tmp_path.iterdir())
