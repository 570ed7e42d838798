"""Runs calls in processes apart, which stay warm from one call to the next and are replaced when they fail.

A `Child` is one such process. An engine has `submit(function, *arguments) -> Future`, which calls
`function(child, *arguments)` beside a child that is idle, and `close()`; `LocalEngine` has several children on this
machine.
"""

import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from mrirecon.batch.child import Failure
from mrirecon.errors import EXIT_INTERNAL, MrireconError, ResourceError

#: Seconds between two looks at a child's memory, and to start one: imports take long on a cold network drive.
TICK, START_LIMIT = 0.1, 600.0
TIMED_OUT = 9
#: Not `-m`, by which its module would be called __main__, and what it defines be other than here.
CHILD = "from mrirecon.batch.child import main; main()"


class Child:
    """A process that runs calls, started at the first. Its time and memory are limited from outside.

    start: called in each new process before anything else, with `arguments`; its answer is given to `started`. threads:
    of the libraries in it. seconds: that a call may take. memory: bytes that the process may hold; None = any number.
    folder: from which it sees paths; None = that of this process. stopped: it will take no more calls.
    """

    def __init__(
        self,
        start: Callable[..., Any],
        *arguments: Any,
        threads: int = 1,
        seconds: float,
        memory: int | None = None,
        started: Callable[["Child", Any], None] = lambda child, answer: None,
        folder: Path | None = None,
    ):
        self.stopped = False
        self.seconds, self.memory, self.threads = seconds, memory, threads
        self._start, self._arguments, self._started = start, arguments, started
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection
        self._folder = folder
        self._lock = threading.Lock()

    def run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """What `function(*arguments)` gives in the process; both must be picklable, the function by its name.

        Raises Failure if the call fails, kills the process, takes too long or too much memory; MrireconError if no
        process can be made ready, so that all other calls would fail, too.
        """
        if self._process is None:
            self._launch()
        try:
            return self._call(function, arguments, self.seconds)
        except Failure as failure:
            if failure.spoilt:
                self.kill()
            raise

    def _launch(self) -> None:
        ours, theirs = Pipe()
        variables = {name: str(self.threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
        # -P: a file in the current folder that is called like a module must not be run.
        command = [sys.executable, "-P", "-c", CHILD, str(theirs.fileno()), str(os.getpid())]
        with self._lock:
            if self.stopped:
                raise ResourceError("the batch was stopped.")
            # A session of its own: an interrupt from the terminal is for the parent alone.
            self._process = subprocess.Popen(
                command,
                pass_fds=[theirs.fileno()],
                env=os.environ | variables,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                cwd=self._folder,
                start_new_session=True,
            )
        theirs.close()
        self._connection = ours
        try:
            answer = self._call(self._start, self._arguments, START_LIMIT)
        except Failure as failure:
            self.kill()
            if failure.passing:
                raise
            kinds = {kind.exit_code: kind for kind in MrireconError.__subclasses__()}
            raise kinds.get(failure.code, MrireconError)(failure.reason) from failure
        self._started(self, answer)

    def _call(self, function: Callable[..., Any], arguments: tuple[Any, ...], seconds: float) -> Any:
        assert self._process is not None
        end = time.monotonic() + seconds
        try:
            self._connection.send((function, arguments))
            while not self._connection.poll(min(TICK, max(end - time.monotonic(), 0))):
                if time.monotonic() >= end:
                    raise Failure(TIMED_OUT, f"took longer than {seconds:g} s; allow more time (--time-limit).")
                held = resident_bytes(self._process.pid)
                if self.memory is not None and held > self.memory:
                    text = f"took {held / 1e6:.0f} MB, and {self.memory / 1e6:.0f} MB are allowed (--memory)."
                    raise Failure(ResourceError.exit_code, text, passing="memory")
            answer = self._connection.recv()
        except (EOFError, OSError) as error:
            raise _death(self._process.wait()) from error
        if isinstance(answer, Failure):
            raise answer
        return answer

    def stop(self) -> None:
        """End the process, in the middle of a call too, and start no other."""
        with self._lock:
            self.stopped = True
        self._end()

    def kill(self) -> None:
        """End the process; the next call starts another."""
        self._end()
        self._process = None

    def _end(self) -> None:
        if self._process is not None and self._process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


def _death(code: int) -> Failure:
    """Why a process ended by itself. Killed from outside, it most likely was the system, short of memory."""
    if code == -signal.SIGKILL:
        return Failure(ResourceError.exit_code, "its process was killed; was the memory full?", passing="killed")
    how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    return Failure(EXIT_INTERNAL, f"its process crashed ({how}); the file may be damaged.")


def resident_bytes(pid: int) -> int:
    """Memory that a process holds; 0 where the system does not tell."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


class LocalEngine:
    """Some children on this machine, each taking call after call."""

    def __init__(self, children: list[Child]):
        self.workers = len(children)
        self._children = children
        self._idle: queue.SimpleQueue[Child] = queue.SimpleQueue()
        for child in children:
            self._idle.put(child)
        self._pool = ThreadPoolExecutor(len(children))

    def submit(self, function: Callable[..., Any], *arguments: Any) -> "Future[Any]":
        """Call `function(child, *arguments)`, such as `Child.run`, with a child that is idle."""
        return self._pool.submit(self._run, function, arguments)

    def _run(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        child = self._idle.get()
        try:
            return function(child, *arguments)
        finally:
            self._idle.put(child)

    def close(self) -> None:
        """End all processes, whatever they are doing."""
        for child in self._children:
            child.stop()
        self._pool.shutdown(cancel_futures=True)
