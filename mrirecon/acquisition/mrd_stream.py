"""MRD (ISMRMRD) version 1 as a stream of messages in a file, as converters and scanners send it.

A message is its number, 16 bits, and what the number says follows; all little endian. See the standard's description
of the streaming protocol, and Inati et al., MRM 2017, doi 10.1002/mrm.26089.
"""

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from mrirecon.acquisition.containers import reading
from mrirecon.acquisition.mrd_header import parse_header
from mrirecon.acquisition.mrd_heads import STORED, check_heads, translate_heads
from mrirecon.acquisition.readouts import Readouts
from mrirecon.errors import InputError

FORMAT = "MRD (ISMRMRD) stream"
#: Bytes of a number by the code of its type: u16, i16, u32, i32, f32, f64, complex of f32, of f64.
_NUMBER_BYTES = {1: 2, 2: 2, 3: 4, 4: 4, 5: 4, 6: 8, 7: 8, 8: 16}


def open_mrd_stream(path: Path) -> Readouts:
    """The readouts of a stream, found in one pass over its messages that reads no samples.

    Raises InputError for streams that are damaged, cut short, or without a header or raw data.
    """
    with reading(path), path.open("rb", buffering=512) as file:
        messages = _Messages(file, path)
        messages.index()
        if messages.header is None:
            raise InputError(f"{path}: the stream has no header message, without which it cannot be read.")
        if messages.images and not messages.offsets:
            raise InputError(f"{path}: is a stream of MRD images without raw data; images cannot be reconstructed.")
        with reading(path, "the header"):
            encodings, system = parse_header(messages.header)
        heads = translate_heads(np.frombuffer(messages.heads, dtype=STORED))
        notes = [*messages.notes(), *check_heads(heads, encodings)]
    shapes = np.stack([heads["coils"], heads["samples"]], axis=1)
    rows = StreamRows(path, np.array(messages.offsets, dtype=np.int64), shapes)
    return Readouts(path, FORMAT, heads, rows, encodings, system, notes=tuple(notes))


@dataclass(frozen=True, eq=False)
class StreamRows:
    """Readout numbers → their samples. Holds no open file, so that it can cross process borders.

    offsets: of their first byte in the file. shapes: int (readouts, 2), coils and samples of each.
    """

    path: Path
    offsets: NDArray[np.int64]
    shapes: NDArray[np.int64]

    def __call__(self, rows: Sequence[int]) -> list[NDArray[np.complex64]]:
        with reading(self.path, "samples"), self.path.open("rb") as file:
            return [self._read(file, row) for row in rows]

    def _read(self, file: BinaryIO, row: int) -> NDArray[np.complex64]:
        coils, samples = self.shapes[row].tolist()
        file.seek(self.offsets[row])
        stored = bytearray(file.read(8 * coils * samples))
        return np.frombuffer(stored, dtype="<c8").reshape(coils, samples)


class _Messages:
    """One pass over a stream: where its readouts are, and their heads.

    No size that the stream states is believed if it exceeds what is left of the file.
    """

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self.file, self.path = file, path
        self.at, self.size = 0, path.stat().st_size
        self.header: bytes | None = None
        self.heads = bytearray()
        self.offsets: list[int] = []
        self.images = self.waveforms = 0
        self.closed = False
        self._readers = {
            1: lambda: self._skip(1024),  # name of a configuration
            2: self._text,  # text of a configuration
            3: self._header,
            4: self._close,
            5: self._text,
            1008: self._acquisition,
            1022: self._image,
            1026: self._waveform,
            1030: self._array,
        }

    def index(self) -> None:
        while self.at < self.size and not self.closed:
            start, (message,) = self.at, self._take("<H")
            if message not in self._readers:
                raise InputError(
                    f"{self.path}: byte {start}, after {len(self.offsets)} readouts, begins a message of unknown kind "
                    f"{message}; the stream is damaged or holds what is not part of MRD."
                )
            self._readers[message]()

    def notes(self) -> list[str]:
        unread = self.size - self.at
        return [
            *(["Images in the stream are ignored."] if self.images else []),
            *(["Waveforms are ignored."] if self.waveforms else []),
            *(
                []
                if self.closed
                else ["The stream has no closing message; the measurement may have been stopped early."]
            ),
            *([f"{unread} bytes after the closing message are ignored."] if unread else []),
        ]

    def _text(self) -> bytes:
        (length,) = self._take("<I")
        return self._bytes(length)

    def _header(self) -> None:
        text = self._text()
        if self.header not in (None, text):
            raise InputError(
                f"{self.path}: holds several measurements, with a header each; split it into one file each."
            )
        self.header = text

    def _close(self) -> None:
        self.closed = True

    def _acquisition(self) -> None:
        # AcquisitionHeader of 340 bytes: samples at 34, channels at 38, dimensions of the trajectory at 176.
        head = self._bytes(STORED.itemsize)
        samples, coils, dimensions = struct.unpack_from("<34xH2xH136xH", head)
        self._skip(4 * samples * dimensions)
        offset = self.at
        self._skip(8 * samples * coils)
        self.heads += head
        self.offsets.append(offset)

    def _image(self) -> None:
        # ImageHeader of 198 bytes: type at 2, matrix at 16, channels at 34.
        kind, *matrix, channels = self._take("<2xH12x3H12xH162x")
        (attributes,) = self._take("<Q")
        self._skip(attributes + math.prod(matrix) * channels * self._number_bytes(kind))
        self.images += 1

    def _waveform(self) -> None:
        # WaveformHeader of 40 bytes, aligned: samples at 28, channels at 30.
        samples, channels = self._take("<28xHH8x")
        self._skip(4 * samples * channels)
        self.waveforms += 1

    def _array(self) -> None:
        kind, _, dimensions = self._take("<HHH")
        self._skip(math.prod(self._take(f"<{dimensions}Q")) * self._number_bytes(kind))

    def _number_bytes(self, kind: int) -> int:
        if kind not in _NUMBER_BYTES:
            raise ValueError(f"byte {self.at} follows an image or array of unknown type {kind}")
        return _NUMBER_BYTES[kind]

    def _take(self, layout: str) -> tuple[int, ...]:
        """The numbers of a fixed layout that come next."""
        return struct.unpack(layout, self._bytes(struct.calcsize(layout)))

    def _bytes(self, length: int) -> bytes:
        self._skip(length)
        self.file.seek(self.at - length)
        return self.file.read(length)

    def _skip(self, length: int) -> None:
        self.at += length
        if self.at > self.size:
            raise InputError(
                f"{self.path}: ends inside a message after {len(self.offsets)} complete readouts; the file was cut "
                "short or is damaged, copy or export it again."
            )
