"""Where the readouts lie in a Siemens twix file, of software VB and of VD, VE and XA.

A file of VD and later holds several measurements, the scanner's adjustments first. A measurement is a header of texts
and then the readouts: each a measurement data header (MDH) and, per channel, a channel header and complex64 samples. In
VB there is one measurement, and each channel's samples have an MDH of their own instead. The layout of these headers
and the names of their flags are taken from the package twixtools (github.com/pehses/twixtools, MIT).
"""

import importlib.machinery
import importlib.util
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from mrirecon.acquisition.containers import reading
from mrirecon.errors import InputError, UsageError

#: No measurement has so long a header (one megabyte is usual) or so many channels (128 is the most that is built).
LONGEST_HEADER = 1 << 27
MOST_CHANNELS = 1024


@dataclass(frozen=True)
class Layout:
    """Record layout of one software generation.

    mdh: header of a readout; zero bytes of it in VB, where `channel`, the header before each channel's samples, is the
    MDH. bits: number of each flag's bit in EvalInfoMask.
    """

    name: str
    mdh: np.dtype[Any]
    channel: np.dtype[Any]
    bits: dict[str, int]

    @property
    def vb(self) -> bool:
        return self.mdh == self.channel

    @property
    def before_channels(self) -> int:
        """Bytes between a readout's start and its first channel."""
        return 0 if self.vb else self.mdh.itemsize

    def flagged(self, mdhs: NDArray[np.void], name: str) -> NDArray[np.bool_]:
        """Which readouts carry a flag."""
        return (mdhs["EvalInfoMask"] >> np.uint64(self.bits[name])) & np.uint64(1) != 0


@dataclass(frozen=True)
class Measurement:
    """Where in the file one measurement lies, as bytes from start to end. name: of its protocol, empty in VB."""

    number: int
    start: int
    end: int
    name: str = ""


@dataclass(frozen=True)
class Lines:
    """The readouts of one measurement that are whole.

    mdhs: their headers. starts: their positions in the file. ended: the measurement says that it ends here. unread:
    bytes that follow, besides the filling up to the next measurement.
    """

    mdhs: NDArray[np.void]
    starts: NDArray[np.int64]
    ended: bool
    unread: int


def layout_of(file: BinaryIO) -> Layout:
    """The layout of an open file. UsageError if twixtools is not installed."""
    mdh_def = _definitions()
    file.seek(0)
    if int.from_bytes(file.read(4), "little"):
        vb = np.dtype(mdh_def.VB17_header)
        return Layout("Siemens twix (VB)", vb, vb, mdh_def.mask_dict)
    mdh, channel = np.dtype(mdh_def.Scan_header), np.dtype(mdh_def.Channel_header)
    return Layout("Siemens twix (VD and later)", mdh, channel, mdh_def.mask_dict)


def _definitions() -> ModuleType:
    """twixtools' definitions of the headers, without the rest of that package, which takes seconds to import."""
    package = importlib.util.find_spec("twixtools")
    spec = package and importlib.machinery.PathFinder.find_spec("mdh_def", package.submodule_search_locations)
    if not spec or not spec.loader:
        raise UsageError(
            "Siemens raw data is read with the package twixtools, which is not installed; "
            "run: pip install 'mrirecon[twix]'."
        )
    definitions = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(definitions)
    return definitions


def measurements_of(file: BinaryIO, layout: Layout, path: Path) -> list[Measurement]:
    """The measurements in an open file. Raises InputError if the table of them is damaged."""
    size = file.seek(0, 2)
    if layout.vb:
        return [Measurement(0, 0, size)]
    file.seek(0)
    count = int.from_bytes(file.read(8)[4:], "little")
    table = np.dtype(
        [("ids", "<u4", 2), ("start", "<u8"), ("length", "<u8"), ("identity", "V64"), ("name", "S64")],
    )
    stored = file.read(table.itemsize * 64)
    if not 1 <= count <= 64 or len(stored) < count * table.itemsize:
        raise InputError(f"{path}: the table of measurements is damaged or cut short; copy or export the file again.")
    found = []
    for number, entry in enumerate(np.frombuffer(stored, table, count)):
        start, length = int(entry["start"]), int(entry["length"])
        # A length of zero is left behind where the scanner did not come to write it; the file's end stands for it.
        end = start + length if length else size
        found.append(Measurement(number, start, end, entry["name"].decode("latin1")))
    return found


def header_of(file: BinaryIO, measurement: Measurement, path: Path) -> bytes:
    """The header of texts, to where the readouts begin. Raises InputError if it does not fit into the file."""
    room = min(LONGEST_HEADER, file.seek(0, 2) - measurement.start)
    length = 0
    if room > 8:
        file.seek(measurement.start)
        length = int.from_bytes(file.read(4), "little")
    if not 8 < length <= room:
        raise InputError(
            f"{path}: measurement {measurement.number} (byte {measurement.start}) does not fit into the file; "
            "it is damaged or cut short: copy or export it again, or choose another measurement (--group)."
        )
    file.seek(measurement.start)
    return file.read(length)


def lines_of(file: BinaryIO, measurement: Measurement, layout: Layout, header_bytes: int) -> Lines:
    """All whole readouts. Stops where the measurement ends, or where what follows cannot be a readout."""
    mask_at = layout.mdh.fields["EvalInfoMask"][1]  # type: ignore[index]
    facts = struct.Struct("<QHH")  # EvalInfoMask, SamplesInScan, UsedChannels
    end_bit, sync_bit = (1 << layout.bits[name] for name in ("ACQEND", "SYNCDATA"))
    file_end = file.seek(0, 2)
    end = min(measurement.end, file_end)
    at = measurement.start + header_bytes
    mdhs, starts, ended = [], [], False
    while at + layout.mdh.itemsize <= end:
        file.seek(at)
        mdh = file.read(layout.mdh.itemsize)
        mask, samples, channels = facts.unpack_from(mdh, mask_at)
        # The upper bits of the first word are flags; its length is right only where there are no samples.
        length = int.from_bytes(mdh[:4], "little") & 0x1FFFFFF
        if mask & end_bit:
            ended, at = True, at + length
            break
        if not mask & sync_bit:
            if not (samples and 0 < channels <= MOST_CHANNELS):
                break
            length = layout.before_channels + channels * (layout.channel.itemsize + 8 * samples)
            if at + length > end:
                break
            mdhs.append(mdh)
            starts.append(at)
        elif length < layout.mdh.itemsize:
            break
        at += length
    unread = max(end - at - 512, 0)
    return Lines(np.frombuffer(b"".join(mdhs), layout.mdh), np.asarray(starts, dtype=np.int64), ended, unread)


def channel_ids(file: BinaryIO, lines: Lines, layout: Layout, row: int) -> list[int]:
    """The receivers of one readout, in the order of its samples."""
    file.seek(int(lines.starts[row]) + layout.before_channels)
    mdh = lines.mdhs[row]
    channel = np.dtype([("header", layout.channel), ("data", np.complex64, mdh["SamplesInScan"])])
    stored = file.read(channel.itemsize * int(mdh["UsedChannels"]))
    return [int(number) for number in np.frombuffer(stored, channel)["header"]["ChannelId"]]


@dataclass(frozen=True)
class RowReader:
    """Row numbers, ascending → complex64 (coils, samples) of each. Holds no open file.

    starts: position of each readout's first channel. channel_bytes: of the header before each channel's samples.
    """

    path: Path
    starts: NDArray[np.int64]
    coils: NDArray[np.int64]
    samples: NDArray[np.int64]
    channel_bytes: int

    def __call__(self, rows: Sequence[int]) -> list[NDArray[np.complex64]]:
        with reading(self.path, "a readout"), self.path.open("rb", buffering=0) as file:
            return [self._read(file, int(row)) for row in rows]

    def _read(self, file: BinaryIO, row: int) -> NDArray[np.complex64]:
        coils, samples = int(self.coils[row]), int(self.samples[row])
        channel = np.dtype([("header", "V", self.channel_bytes), ("data", "<c8", samples)])
        file.seek(int(self.starts[row]))
        return np.frombuffer(file.read(coils * channel.itemsize), channel, coils)["data"].astype(np.complex64)
