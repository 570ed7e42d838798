"""Errors that a user can act on. Each carries the exit code that the command line returns for it.

A message is one sentence or two: what was asked of which file, why it failed, what to try next.
"""

EXIT_INTERNAL = 1
EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143


class MrireconError(Exception):
    """Base of all errors that are explained to the user instead of shown as a traceback."""

    exit_code = EXIT_INTERNAL


class UsageError(MrireconError):
    """The command or its configuration asks for something that cannot be done."""

    exit_code = 2


class InputError(MrireconError):
    """An input file is missing, corrupt, or not what the command needs."""

    exit_code = 5


class RejectedError(MrireconError):
    """A result was made and is not fit to be delivered."""

    exit_code = 6


class CheckpointError(MrireconError):
    """A model or its weights are missing, damaged, or not ours."""

    exit_code = 7


class ResourceError(MrireconError):
    """Memory or disk ran out, or the output cannot be written."""

    exit_code = 8
