import json
from pathlib import Path

import pytest

from mrirecon.batch.ledger import LEDGER, Ledger
from mrirecon.errors import InputError, ResourceError, UsageError


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


def test_the_ledger_of_a_batch_reads_those_of_its_parts(tmp_path: Path) -> None:
    with Ledger(tmp_path, "1") as one, Ledger(tmp_path, "2") as two:
        one.append("failed", key="a", code=5, reason="r")
        two.append("failed", key="b", code=5, reason="r")
        one.append("done", key="b")
        with Ledger(tmp_path) as ledger:
            assert ledger.failures.keys() == {"a"}
            assert ledger.done == {"b"}
    with Ledger(tmp_path, "1"), pytest.raises(UsageError, match="another batch"):
        Ledger(tmp_path, "1")


def test_an_output_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ResourceError, match="cannot be written"):
        Ledger(tmp_path / "file" / "out")
