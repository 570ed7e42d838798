"""Formats by a file's first bytes."""

from pathlib import Path

from mrirecon.errors import InputError


def first_bytes(path: Path) -> bytes:
    """The first 4096 bytes. Raises InputError for what is no readable file, or empty."""
    if path.exists() and not (path.is_file() or path.is_dir()):
        # A pipe would be waited for, for ever.
        raise InputError(f"{path}: is a pipe or a device; give a file.")
    try:
        with path.open("rb") as file:
            head = file.read(4096)
    except IsADirectoryError:
        raise InputError(f"{path}: is a folder; give one file.") from None
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such file; check the path.") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be opened: {error.strerror}.") from error
    if not head:
        raise InputError(f"{path}: is empty (0 bytes); copy or export it again.")
    return head


def is_hdf5(head: bytes) -> bool:
    """HDF5, not MATLAB's. It allows a user block before its signature, at 512 bytes and powers of two above."""
    return not head.startswith(b"MATLAB") and any(head[at:].startswith(b"\x89HDF\r\n\x1a\n") for at in (0, 512))


def is_mrd2(head: bytes) -> bool:
    """MRD version 2 in its binary form, or as NDJSON."""
    return head.startswith(b"yardl") or (head.startswith(b"{") and b'"yardl"' in head[:200])


def is_twix(head: bytes) -> bool:
    """Siemens twix: VD and later begin with 0 and the number of measurements, VB with the length of its header."""
    first, second = (int.from_bytes(head[at : at + 4], "little") for at in (0, 4))
    return (first == 0 and 1 <= second <= 64) or (first > 32 and b"Config\0" in head[:64])


def is_mrd_stream(head: bytes) -> bool:
    """A stream of MRD version 1 messages: it begins with a configuration (1, 2), a header (3) or a text (5)."""
    message, length = int.from_bytes(head[:2], "little"), int.from_bytes(head[2:6], "little")
    if message == 1:
        return len(head) >= 1026 and b"\0" in head[2:1026]
    return message in (2, 3, 5) and 0 < length < 1 << 28 and head[6:7].isascii() and len(head) > 6


def unreadable(head: bytes) -> str:
    """What a file is that is none of the readable ones, if it can be told, and what to do."""
    if head[128:132] == b"DICM":
        return "is a DICOM image; an image is not raw data, so there is no k-space to reconstruct."
    if head[344:347] in (b"n+1", b"ni1") or head.startswith(b"\x1f\x8b"):
        return "is a NIfTI image or a compressed file, not raw data; decompress it if k-space is inside."
    return "is of an unknown format, or no raw data."
