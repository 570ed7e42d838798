"""Files that exist whole or not at all."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mrirecon.errors import ResourceError


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it becomes `path`, on any exception it is removed.

    The suffix is kept, so that writers that look at it work. Raises ResourceError if the folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=path.suffix)
    except OSError as error:
        raise ResourceError(f"{path}: cannot be written ({error.strerror}); choose another output path.") from error
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        # mkstemp makes files private; an output gets the permissions any new file would get.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        temporary.replace(path)
    except IsADirectoryError as error:
        raise ResourceError(f"{path}: is a folder; give a file name.") from error
    finally:
        temporary.unlink(missing_ok=True)
