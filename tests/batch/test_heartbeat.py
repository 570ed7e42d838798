"""A batch touches its ledger while it lives, which is what the container's health check looks at."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mrirecon.batch.engine import Child, LocalEngine
from mrirecon.batch.inputs import Input
from mrirecon.batch.ledger import LEDGER, Ledger
from mrirecon.batch.run import Batch
from mrirecon.batch.scan import Settings


@pytest.fixture
def batch(tmp_path: Path) -> Iterator[Batch]:
    """One whose ledger was touched long ago."""
    with Ledger(tmp_path) as ledger:
        os.utime(tmp_path / LEDGER, (0, 0))
        yield Batch(ledger, Settings("cs"), LocalEngine([Child(print, seconds=1)]))


def age(ledger: Path) -> float:
    return time.time() - ledger.stat().st_mtime


def test_the_ledger_is_touched_while_a_watch_has_nothing_to_do(batch: Batch, tmp_path: Path) -> None:
    ages = []

    def find() -> list[Input]:
        ages.append(age(tmp_path / LEDGER))
        os.utime(tmp_path / LEDGER, (0, 0))
        if len(ages) == 3:
            raise KeyboardInterrupt
        return []

    with pytest.raises(KeyboardInterrupt):
        batch.watch(find, poll=0.01, idle=lambda: None)
    assert max(ages) < 60


def test_the_ledger_is_touched_while_scans_are_worked_on(batch: Batch, tmp_path: Path) -> None:
    batch.step(0)
    assert age(tmp_path / LEDGER) < 60
