"""Child processes: what kills one of them, and what is known of it afterwards. Calls are those of any library."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from mrirecon.batch.child import Failure
from mrirecon.batch.engine import Child, LocalEngine, resident_bytes
from mrirecon.errors import InputError, MrireconError


@pytest.fixture
def child() -> Iterator[Child]:
    child = Child(os.getpid, seconds=20)
    yield child
    child.stop()


def failure(child: Child, *call: object) -> Failure:
    with pytest.raises(Failure) as caught:
        child.run(*call)
    return caught.value


def test_calls_run_in_one_process_that_stays_warm(child: Child) -> None:
    first = child.run(os.getpid)
    assert first != os.getpid()
    assert child.run(os.getpid) == first


def test_an_explained_error_costs_nothing_but_its_call(child: Child) -> None:
    warm = child.run(os.getpid)
    error = failure(child, exec, "from mrirecon.errors import InputError\nraise InputError('scan: is bad.')")
    assert (error.code, error.reason, error.passing) == (InputError.exit_code, "scan: is bad.", None)
    assert child.run(os.getpid) == warm


@pytest.mark.parametrize(
    ("call", "code", "words", "passing"),
    [
        ((os.abort,), 1, "SIGABRT", None),
        ((os._exit, 7), 1, "exit code 7", None),
        ((exec, "import os; os.kill(os.getpid(), 9)"), 8, "killed", "killed"),
        ((bytearray, 2**60), 8, "out of memory", "memory"),
        ((exec, "raise RuntimeError('CUDA error: an illegal memory access')"), 1, "GPU", "device"),
        ((exec, "raise KeyError('x')"), 1, "KeyError", None),
    ],
)
def test_a_call_that_spoils_its_process_gets_the_next_one_a_new_process(
    child: Child, call: tuple, code: int, words: str, passing: str | None
) -> None:
    before = child.run(os.getpid)
    error = failure(child, *call)
    assert (error.code, error.passing) == (code, passing)
    assert words in error.reason
    assert child.run(os.getpid) != before


def test_input_output_errors_pass_and_others_do_not(child: Child) -> None:
    assert failure(child, exec, "raise OSError(5, 'Input/output error', 'scan')").passing == "input/output"
    assert failure(child, open, "/nowhere").passing is None


def test_a_hanging_call_ends_at_the_time_limit() -> None:
    child = Child(os.getpid, seconds=1)
    error = failure(child, time.sleep, 1000)
    assert error.code == 9
    assert "--time-limit" in error.reason
    child.stop()


def test_a_call_that_takes_too_much_memory_ends_there() -> None:
    child = Child(os.getpid, seconds=60)
    child.memory = resident_bytes(child.run(os.getpid)) + 300_000_000
    error = failure(child, exec, "import time; held = bytearray(1_000_000_000); time.sleep(60)")
    assert (error.code, error.passing) == (8, "memory")
    child.stop()


def test_a_child_that_cannot_be_made_ready_says_why() -> None:
    child = Child(
        exec, "from mrirecon.errors import CheckpointError\nraise CheckpointError('m: is damaged.')", seconds=9
    )
    with pytest.raises(MrireconError, match="is damaged") as caught:
        child.run(os.getpid)
    assert caught.value.exit_code == 7


def test_a_child_ends_with_its_parent_even_in_the_middle_of_a_call() -> None:
    code = (
        "import os, sys, time; from mrirecon.batch.engine import Child\n"
        "child = Child(os.getpid, seconds=60); print(child.run(os.getpid), flush=True); child.run(time.sleep, 60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    end = time.monotonic() + 20
    while alive(pid) and time.monotonic() < end:
        time.sleep(0.05)
    assert not alive(pid)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        with open(f"/proc/{pid}/stat") as file:  # noqa: PTH123
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


def test_an_engine_ends_its_children_in_the_middle_of_a_call() -> None:
    engine = LocalEngine([Child(os.getpid, seconds=60) for _ in range(2)])
    pids = {engine.submit(Child.run, os.getpid).result() for _ in range(3)}
    assert 1 <= len(pids) <= 2
    running = [engine.submit(Child.run, time.sleep, 60) for _ in range(2)]
    engine.close()
    assert all(isinstance(future.exception(), Failure | MrireconError) for future in running if not future.cancelled())
    assert not any(alive(pid) for pid in pids)


def test_a_childs_death_by_a_signal_from_outside_passes(child: Child) -> None:
    pid = child.run(os.getpid)
    os.kill(pid, signal.SIGKILL)
    assert failure(child, os.getpid).passing == "killed"
    assert child.run(os.getpid) != pid
