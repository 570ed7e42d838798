"""Another program in an environment of its own, which waits for its turns: one line in, one line of JSON out."""

import json
import os
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any

PROGRAM = Path(__file__).with_name("peer_program.py")


class Peer:
    """A running `PYTHON PROGRAM ARGUMENTS`, ended on leaving the context.

    Raises RuntimeError, with the last line that it printed, if it does not start or ends early.
    """

    def __init__(self, python: Path, program: Path, *arguments: str):
        self._errors = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115 (closed in __exit__)
        try:
            self._process = subprocess.Popen(
                [str(python), "-I", str(program), *arguments],  # -I: modules beside the program are not its own
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                text=True,
                env=environment(),
            )
        except OSError as error:
            raise RuntimeError(f"{python}: {error.strerror}") from error

    def __enter__(self) -> "Peer":
        self._answer()  # that it is ready
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            assert stream is not None
            stream.close()

    def call(self, what: str) -> Any:
        """Let it do something; returns its answer."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(f"{what}\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # it has ended; the answer that does not come tells why
        return self._answer()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if line:
            return json.loads(line)
        self._process.wait()
        self._errors.seek(0)
        said = self._errors.read().strip().splitlines()
        raise RuntimeError(said[-1] if said else "ended without a word")


def environment(**changes: str) -> dict[str, str]:
    """Variables for another program: this process's, but for how its waiting threads behave (`cli.main`)."""
    return {name: value for name, value in os.environ.items() if name != "GOMP_SPINCOUNT"} | changes


def installed(python: Path | None, package: str) -> bool:
    """Whether that Python finds the package; False without a Python."""
    if python is None:
        return False
    code = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({package!r}) is None)"
    try:
        return not subprocess.run([str(python), "-I", "-c", code], capture_output=True).returncode
    except OSError:
        return False
