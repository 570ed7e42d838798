"""Entry point: finds the command, turns errors into one sentence and an exit code.

Only the chosen command's module is imported, so `mrirecon --help` answers at once. Each command module has
`run(argv: list[str]) -> int`.
"""

import errno
import importlib
import io
import logging
import os
import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from mrirecon import __version__
from mrirecon.errors import EXIT_INTERNAL, EXIT_INTERRUPTED, EXIT_TERMINATED, MrireconError, ResourceError

COMMANDS = {
    "demo": "simulate a scan, reconstruct it with a network and with compressed sensing, write a report",
    "info": "what a scan file holds, what would be done with it, and what is unknown",
    "simulate": "write a simulated data set in fastMRI layout",
    "manifest": "list the scans of a data set with hashes, check them, split them by subject",
    "train": "train a reconstructor (Lightning; --config cirim, resume with --ckpt_path)",
    "evaluate": "methods × masks × accelerations over a data set: table, metrics, figures; whole comparisons",
    "compare": "did a change help? two runs of evaluate, paired by subject",
    "reconstruct": "one scan to images (HDF5, NIfTI, DICOM), with a network or a classical method",
    "batch": "many scans, unattended: each apart, checked, recorded, never done twice",
    "models": "shipped models and their cards, networks that can be trained, and what can be imported",
    "import-checkpoint": "weights of fastMRI, ATOMMIC, mridc or DIRECT, made usable here",
    "benchmark": "speed and memory on this machine, beside the floor and other programs",
}

USAGE = """usage: mrirecon COMMAND [options]     (mrirecon COMMAND --help for each command's options)

Accelerated-MRI reconstruction. Research software, not a medical device.

commands:
{commands}

options:
  -h, --help     show this text
  --version      show the version
  --debug        before the command: show tracebacks of errors

exit codes: 0 all good · 1 internal error · 2 usage or configuration · 3 some scans failed · 4 all failed ·
  5 input unsupported or corrupt · 6 rejected by checks · 7 model or weights missing or damaged ·
  8 out of memory or disk · 9 timed out · 130/143 interrupted
"""


class _Terminated(BaseException):
    """SIGTERM, as an exception, so that half-written files are removed on the way out."""


def _terminate(signum: int, frame: FrameType | None) -> None:
    raise _Terminated


def main(argv: list[str] | None = None) -> int:
    """Run `mrirecon` with `argv` (default: the process arguments) and return its exit code."""
    argv = list(sys.argv[1:] if argv is None else argv)
    debug = argv[:1] == ["--debug"]
    if debug:
        argv.pop(0)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal that has no × shows ?
    signal.signal(signal.SIGTERM, _terminate)
    # PyTorch's threads (GNU OpenMP) soon sleep when they wait for work. By default they spin for a while, and take the
    # processor from others that have some: threads of compiled loops, other workers.
    os.environ.setdefault("GOMP_SPINCOUNT", "2000")
    try:
        code = _run(argv)
        if sys.stdout:  # what fails, such as a closed pipe, fails here and is explained
            sys.stdout.flush()
        return code
    except BaseException as error:
        if isinstance(error, OSError) and error.filename is None and isinstance(sys.stdout, io.TextIOWrapper):
            _discard_stdout()
        if debug and not isinstance(error, SystemExit):
            traceback.print_exc()
        return _explain(error)


class _Once(logging.Handler):
    """Shows each warning as one line on stderr, the first time that it comes."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.shown: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        line = f"mrirecon: {record.levelname.lower()}: {' '.join(record.getMessage().split())}"
        if line not in self.shown:
            self.shown.add(line)
            print(line, file=sys.stderr)


@contextmanager
def _warnings_shown() -> Iterator[None]:
    handler = _Once()
    log = logging.getLogger("mrirecon")
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)


def _run(argv: list[str]) -> int:
    if not argv or argv[0] in ("-h", "--help"):
        print(USAGE.format(commands="\n".join(f"  {name:<18} {text}" for name, text in COMMANDS.items())), end="")
        return 0 if argv else 2
    if argv[0] == "--version":
        print(f"mrirecon {__version__}")
        return 0
    if argv[0] not in COMMANDS:
        return _fail(f"no command '{argv[0]}'; there are: {', '.join(COMMANDS)}", 2)
    with _warnings_shown():
        return importlib.import_module(f"mrirecon.cli.{argv[0].replace('-', '_')}").run(argv[1:])


def _explain(error: BaseException) -> int:
    match error:
        case SystemExit(code=code):
            return code if isinstance(code, int) else 2 if code else 0
        case MrireconError():
            return _fail(str(error), error.exit_code)
        case KeyboardInterrupt():
            return _fail("interrupted; no half-written file was left.", EXIT_INTERRUPTED)
        case _ if _was_terminated(error):
            return _fail("terminated; no half-written file was left.", EXIT_TERMINATED)
        case BrokenPipeError():
            return 0
        case _ if _out_of_resources(error):
            return _fail(f"out of memory or disk: {error}", ResourceError.exit_code)
        case OSError(strerror=str(reason), filename=str(name)):
            return _fail(f"{name}: {reason}.", ResourceError.exit_code)
        case _:
            text = f"internal error: {type(error).__name__}: {error} (mrirecon --debug … shows where)"
            return _fail(text, EXIT_INTERNAL)


def _discard_stdout() -> None:
    """What stdout still holds could not be written; Python would complain about it again at exit."""
    with suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _was_terminated(error: BaseException) -> bool:
    # A loader's process can hear of a SIGTERM to the whole group before this one does; torch reports its end.
    return isinstance(error, _Terminated) or "killed by signal: Terminated" in str(error)


def _out_of_resources(error: BaseException) -> bool:
    # torch reports both CPU and CUDA exhaustion as RuntimeErrors (OutOfMemoryError is one); it is not imported here.
    memory = isinstance(error, RuntimeError) and ("out of memory" in str(error) or "can't allocate" in str(error))
    disk = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    return memory or disk or isinstance(error, MemoryError)


def _fail(text: str, code: int) -> int:
    print(f"mrirecon: {' '.join(text.split())}", file=sys.stderr)
    return code
