"""The process in which scans are reconstructed: runs what it is sent, one call after another, until it is let go.

Started by `mrirecon.batch.engine`, with the numbers of the pipe and of the process that starts it as arguments. What
comes through the pipe is from that process, so unpickling it is safe.
"""

import ctypes
import errno
import os
import signal
import sys
from multiprocessing.connection import Connection
from typing import Literal

from mrirecon.errors import EXIT_INTERNAL, MrireconError, ResourceError

#: Parameter of prctl(2).
PR_SET_PDEATHSIG = 1
#: A network drive that stumbles; what is merely wrong with a file has other numbers.
PASSING = {errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ECONNRESET, errno.ENETDOWN, errno.ENETUNREACH, errno.EAGAIN}
FULL = {errno.ENOSPC, errno.EDQUOT}

Cause = Literal["memory", "device", "input/output", "killed"]


class Failure(Exception):  # noqa: N818 (a fact, to be sent and recorded)
    """Why a call failed: an exit code, and a sentence.

    passing: a cause that may be gone at the next attempt; None = it would fail again. spoilt: the process that it
    happened in may not be what it was.
    """

    def __init__(self, code: int, reason: str, passing: Cause | None = None, spoilt: bool = True):
        super().__init__(code, reason, passing, spoilt)
        self.code, self.reason, self.passing, self.spoilt = code, reason, passing, spoilt


def failure_of(error: BaseException) -> Failure:
    """An exception as a Failure."""
    if isinstance(error, Failure):
        return error
    text = " ".join(str(error).split())
    chain = [error]
    while (before := chain[-1].__cause__ or chain[-1].__context__) and before not in chain:
        chain.append(before)
    if any(_out_of_memory(one) for one in chain):
        return Failure(ResourceError.exit_code, "ran out of memory.", passing="memory")
    if any(isinstance(one, OSError) and one.errno in PASSING for one in chain):
        return Failure(ResourceError.exit_code, text or repr(error), passing="input/output", spoilt=False)
    if any(isinstance(one, OSError) and one.errno in FULL for one in chain):
        reason = "the disk is full; make room, and start the same command again."
        return Failure(ResourceError.exit_code, reason, spoilt=False)
    if isinstance(error, MrireconError):
        return Failure(error.exit_code, text, spoilt=False)
    if isinstance(error, OSError):
        return Failure(ResourceError.exit_code, f"{error.filename or 'a file'}: {error.strerror}.", spoilt=False)
    if "CUDA" in text or "cuDNN" in text:
        return Failure(EXIT_INTERNAL, f"the GPU failed: {text}", passing="device")
    return Failure(EXIT_INTERNAL, f"internal error: {type(error).__name__}: {text}")


def _out_of_memory(error: BaseException) -> bool:
    # torch reports both CPU and CUDA exhaustion as RuntimeErrors (OutOfMemoryError is one).
    text = str(error)
    torchs = isinstance(error, RuntimeError) and ("out of memory" in text or "can't allocate" in text)
    return torchs or isinstance(error, MemoryError)


def main() -> None:
    """Answer calls until the other side closes the pipe, or is gone."""
    end_with_parent(int(sys.argv[2]))
    connection = Connection(int(sys.argv[1]))
    while True:
        try:
            function, arguments = connection.recv()
        except EOFError:
            return
        try:
            answer = function(*arguments)
        except Exception as error:
            answer = failure_of(error)
        connection.send(answer)


def end_with_parent(parent: int) -> None:
    """Be killed when the process that started this one ends, however it does, even in the middle of a call."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it was faster
        os._exit(EXIT_INTERNAL)
