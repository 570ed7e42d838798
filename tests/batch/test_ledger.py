import json
from pathlib import Path

import pytest

from mrirecon.batch.ledger import DONE, LEDGER, Ledger, finish, verified
from mrirecon.errors import InputError, ResourceError, UsageError

KEY = "0123456789abcdef" * 4


@pytest.fixture
def done(tmp_path: Path) -> Path:
    """A finished folder of a batch in tmp_path."""
    with Ledger(tmp_path) as ledger:
        work = ledger.work_folder(KEY)
        (work / "series").mkdir(parents=True)
        (work / "image.h5").write_bytes(b"image")
        (work / "series" / "1.dcm").write_bytes(b"slice")
        finish(work, {"key": KEY})
        return ledger.publish(work, "scan.h5", KEY)


def events(folder: Path) -> list[str]:
    return [json.loads(line)["event"] for line in (folder / LEDGER).read_text().splitlines()]


def test_a_half_written_line_never_happened(tmp_path: Path) -> None:
    with Ledger(tmp_path) as ledger:
        ledger.append("failed", key="k", code=5, reason="r")
    with (tmp_path / LEDGER).open("a") as file:
        file.write('{"event": "done", "key": "k"')
    with Ledger(tmp_path) as ledger:
        assert ledger.failures["k"]["code"] == 5
        ledger.append("ended")
    assert events(tmp_path) == ["failed", "ended"]


def test_a_damaged_line_in_the_middle_is_named(tmp_path: Path) -> None:
    (tmp_path / LEDGER).write_text('{"event": "started"}\nrubbish\n{"event": "ended"}\n')
    with pytest.raises(InputError, match="line 2"):
        Ledger(tmp_path)


def test_two_batches_cannot_work_on_one_folder(tmp_path: Path) -> None:
    with Ledger(tmp_path), pytest.raises(UsageError, match="another batch"):
        Ledger(tmp_path)
    Ledger(tmp_path).__exit__()


def test_what_was_being_worked_on_is_removed_at_the_next_start(tmp_path: Path) -> None:
    (tmp_path / ".work-1" / "deep").mkdir(parents=True)
    with Ledger(tmp_path):
        assert [path.name for path in tmp_path.iterdir()] == [LEDGER]


def test_a_finished_folder_is_found_by_its_key_alone(done: Path) -> None:
    with Ledger(done.parent) as ledger:
        found = ledger.finished(KEY)
        assert found is not None
        assert found["folder"] == done.name == "scan.h5-0123456789ab"
        assert sorted(found["files"]) == ["image.h5", "series/1.dcm"]
        assert ledger.finished("0" * 64) is None
        assert ledger.finished(KEY[:-1] + "0") is None


@pytest.mark.parametrize("damage", ["changed", "missing", "half a done.json"])
def test_a_damaged_folder_does_not_count(done: Path, damage: str) -> None:
    if damage == "changed":
        (done / "series" / "1.dcm").write_bytes(b"slicf")
    elif damage == "missing":
        (done / "image.h5").unlink()
    else:
        (done / DONE).write_text((done / DONE).read_text()[:20])
    assert verified(done) is None


def test_a_damaged_folder_is_replaced(done: Path) -> None:
    with Ledger(done.parent) as ledger:
        work = ledger.work_folder(KEY)
        work.mkdir()
        finish(work, {"key": KEY})
        assert ledger.publish(work, "scan.h5", KEY) == done
    assert [path.name for path in done.iterdir()] == [DONE]
    assert sorted(path.name for path in done.parent.iterdir()) == [LEDGER, done.name]


def test_an_output_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ResourceError, match="cannot be written"):
        Ledger(tmp_path / "file" / "out")
