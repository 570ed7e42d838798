"""The course of a batch: which scan is next, what becomes of it, and what is tried again."""

import os
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol

from mrirecon.batch.child import Failure
from mrirecon.batch.engine import Child
from mrirecon.batch.folder import finished
from mrirecon.batch.inputs import Input
from mrirecon.batch.ledger import LEDGER, Ledger
from mrirecon.batch.scan import Settings, hashed, key_of
from mrirecon.batch.supervise import make
from mrirecon.errors import InputError, RejectedError, UsageError

#: How often a scan is tried when the cause may pass.
ATTEMPTS = 3
#: A failure with one of these codes is one of the scan and its settings: it would come again, so it is not tried again
#: in the next run either.
LASTING = {InputError.exit_code, UsageError.exit_code}
#: Seconds until an engine is asked again whether it has more workers now.
LOOK = 1.0
EXIT_SOME_FAILED, EXIT_ALL_FAILED = 3, 4

State = Literal["done", "kept", "duplicate", "failed"]


class Engine(Protocol):
    """Calls `function(child, *arguments)` beside children, `workers` at a time; what fails there raises Failure."""

    @property
    def workers(self) -> int: ...

    def submit(self, function: Callable[..., Any], *arguments: Any) -> "Future[Any]": ...

    def close(self) -> None: ...


@dataclass
class Entry:
    """What became of one scan file, for people and for summary.json.

    state: done in this run, kept from an earlier one, duplicate of another scan, failed; None = not yet. of: the scan
    that a duplicate has the content of. code: exit code of a failure, or of REJECT. seconds: of the
    reconstruction with all checks.
    """

    scan: str
    state: State | None = None
    verdict: str | None = None
    reasons: Sequence[str] = ()
    folder: str | None = None
    key: str | None = None
    code: int = 0
    of: str | None = None
    seconds: float | None = None
    slices: int | None = None


class Batch:
    """Takes the scans of one output folder through an engine.

    progress: called with each entry that has got its state.
    """

    def __init__(
        self,
        ledger: Ledger,
        settings: Settings,
        engine: Engine,
        progress: Callable[[Entry], None] = lambda entry: None,
    ):
        self.entries: dict[Input, Entry] = {}
        self._ledger, self._settings, self._engine, self._progress = ledger, settings, engine, progress
        self._model_sha256 = settings.model_sha256()
        self._waiting: deque[Input] = deque()
        self._running: dict[Future[Any], Callable[[Future[Any]], None]] = {}
        self._taken: dict[str, Input] = {}
        self._attempts: dict[str, int] = {}
        self._signatures: dict[Input, str] = {}

    def run(self, inputs: Sequence[Input]) -> None:
        """Take all scans through; returns when each has got its state."""
        self.add(inputs)
        while self.busy:
            self.step(LOOK)

    def watch(self, find: Callable[[], Sequence[Input]], poll: float, idle: Callable[[], None]) -> None:
        """Take through what `find` finds, for ever, once it has stayed the same for `poll` seconds.

        idle: called when nothing is left to do for now.
        """
        seen: dict[Input, str] = {}
        was_busy = False
        while True:
            self._beat()
            now = {one: signature for one in find() if (signature := _signature(one))}
            settled = [one for one, signature in now.items() if seen.get(one) == signature]
            self.add([one for one in settled if self._signatures.get(one) != now[one]])
            seen, end = now, time.monotonic() + poll
            while (left := end - time.monotonic()) > 0:
                if self.busy:
                    self.step(left)
                    was_busy = True
                elif was_busy:
                    idle()
                    was_busy = False
                else:
                    time.sleep(left)

    def add(self, inputs: Sequence[Input]) -> None:
        """Queue scans, or queue them again because their content changed."""
        for one in inputs:
            self.entries[one] = Entry(str(one.path))
            self._signatures[one] = _signature(one) or ""
            self._waiting.append(one)

    @property
    def busy(self) -> bool:
        """Whether there is something to do."""
        return bool(self._waiting or self._running)

    def step(self, timeout: float | None = None) -> None:
        """Start what can be started, and wait until something is finished, at most `timeout` seconds."""
        self._beat()
        while self._waiting and len(self._running) < self._engine.workers:
            self._begin(self._waiting.popleft())
        finished, _ = wait(self._running, timeout, FIRST_COMPLETED) if self._running else ((), ())
        for future in finished:
            self._running.pop(future)(future)

    def _beat(self) -> None:
        """Touch the ledger, which shows others that the batch lives; a ledger that cannot be touched shows, too."""
        with suppress(OSError):
            os.utime(self._ledger.folder / LEDGER)

    def _begin(self, one: Input) -> None:
        """Find out what the scan is, by its content."""
        try:
            signature = one.signature()
        except (InputError, OSError) as error:
            self._fail(one, None, Failure(InputError.exit_code, str(error)))
            return
        if content := self._ledger.contents.get((str(one.path), signature)):
            self._decide(one, content, signature)
            return

        def know(future: "Future[Any]") -> None:
            try:
                content, signature = future.result()
            except Failure as failure:
                if not self._again(one, str(one), failure):
                    self._fail(one, None, failure)
                return
            self._ledger.append("hashed", scan=str(one.path), signature=signature, content=content)
            self._decide(one, content, signature)

        self._running[self._engine.submit(Child.run, hashed, one)] = know

    def _decide(self, one: Input, content: str, signature: str) -> None:
        """Whether the scan is to be reconstructed, by what was done before."""
        key = key_of(content, self._settings, self._model_sha256)
        entry = self.entries[one]
        entry.key = key
        other = self._taken.setdefault(key, one)
        if other != one:
            entry.of = str(other.path)
            self._ledger.append("duplicate", scan=entry.scan, key=key, of=entry.of)
            self._settle(one, "duplicate")
        elif done := finished(self._ledger.folder, key):
            self._take_over(entry, done)
            if key not in self._ledger.done:  # there was a crash between its folder's name and this line
                self._record(entry)
            self._settle(one, "kept")
        elif (failed := self._ledger.failures.get(key)) and failed["code"] in LASTING:
            entry.code, entry.reasons = failed["code"], [failed["reason"]]
            self._settle(one, "failed")
        else:
            self._reconstruct(one, key, signature)

    def _reconstruct(self, one: Input, key: str, signature: str) -> None:
        attempt = self._attempts.get(key, 0)
        self._ledger.append("begun", scan=str(one.path), key=key, attempt=attempt + 1)

        def conclude(future: "Future[Any]") -> None:
            try:
                done = future.result()
            except Failure as failure:
                if not self._again(one, key, failure):
                    # A scan that vanished or changed meanwhile says nothing of the content that the key stands for.
                    there = _signature(one) == signature
                    self._fail(one, key if there else None, failure)
                return
            entry = self.entries[one]
            self._take_over(entry, done)
            self._record(entry)
            self._settle(one, "done")

        folder = self._ledger.folder.absolute()
        self._running[self._engine.submit(make, one, folder, key, signature, attempt)] = conclude

    def _again(self, one: Input, key: str, failure: Failure) -> bool:
        """Queue the scan once more if what failed may pass and was not tried too often."""
        attempt = self._attempts[key] = self._attempts.get(key, 0) + 1
        if failure.passing is None or attempt >= ATTEMPTS:
            return False
        self._ledger.append("retry", scan=str(one.path), key=key, reason=failure.reason, attempt=attempt)
        self._taken = {taken: by for taken, by in self._taken.items() if by != one}
        self._waiting.appendleft(one)
        return True

    def _fail(self, one: Input, key: str | None, failure: Failure) -> None:
        entry = self.entries[one]
        entry.code, entry.reasons = failure.code, [failure.reason]
        self._ledger.append("failed", scan=entry.scan, key=key, code=failure.code, reason=failure.reason)
        self._settle(one, "failed")

    def _take_over(self, entry: Entry, done: dict[str, Any]) -> None:
        entry.verdict, entry.reasons, entry.folder = done["verdict"], done["reasons"], done["folder"]
        entry.code = RejectedError.exit_code if entry.verdict == "REJECT" else 0
        entry.seconds = done["seconds"]["all"]
        entry.slices = sum(volume["slices"] for volume in done["volumes"])

    def _record(self, entry: Entry) -> None:
        facts = {"folder": entry.folder, "verdict": entry.verdict, "seconds": entry.seconds}
        self._ledger.append("done", scan=entry.scan, key=entry.key, **facts)

    def _settle(self, one: Input, state: State) -> None:
        self.entries[one].state = state
        self._progress(self.entries[one])

    def exit_code(self) -> int:
        """0 all good, 3 some scans failed, 4 all did, 6 none failed but the checks rejected some."""
        entries = [entry for entry in self.entries.values() if entry.state != "duplicate"]
        failed = [entry for entry in entries if entry.state == "failed"]
        if failed:
            return EXIT_ALL_FAILED if len(failed) == len(entries) else EXIT_SOME_FAILED
        return RejectedError.exit_code if any(entry.verdict == "REJECT" for entry in entries) else 0

    def summary(self) -> dict[str, Any]:
        """What became of all scans, for JSON."""
        entries = list(self.entries.values())
        states = {
            state: sum(entry.state == state for entry in entries) for state in ("done", "kept", "duplicate", "failed")
        }
        verdicts = {word: sum(entry.verdict == word for entry in entries) for word in ("OK", "REVIEW", "REJECT")}
        return {"states": states, "verdicts": verdicts, "scans": [asdict(entry) for entry in entries]}


def _signature(one: Input) -> str | None:
    """None where it is not there, or not any more."""
    try:
        return one.signature()
    except (InputError, OSError):
        return None
