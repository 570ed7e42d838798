"""MRD version 2, binary or NDJSON, read with the package `mrd-python` (extra `mrirecon[mrd2]`)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from io import TextIOWrapper
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from mrirecon.acquisition import mrd_header
from mrirecon.acquisition.containers import reading
from mrirecon.acquisition.magic import first_bytes
from mrirecon.acquisition.mrd_heads import VECTORS, check_heads
from mrirecon.acquisition.readouts import HEAD, Encoding, Limits, Readouts, System
from mrirecon.errors import InputError, UsageError

FORMAT = "MRD version 2"
#: Number of MRD 2's binary form, which follows its name in the file.
_BINARY_VERSION = 1


def open_mrd2(path: Path) -> Readouts:
    """The readouts of an MRD 2 file. The format can only be read from its beginning to its end, so that is done here.

    Raises InputError for files that are damaged, of another version, or without raw data; UsageError without the extra.
    """
    content = _content(path, path.stat().st_mtime_ns)
    return Readouts(path, FORMAT, content.heads, Mrd2Rows(path), content.encodings, content.system, notes=content.notes)


@dataclass(frozen=True)
class Mrd2Rows:
    """Readout numbers → their samples, kept in memory while this file is the last one read."""

    path: Path

    def __call__(self, rows: Sequence[int]) -> list[NDArray[np.complex64]]:
        content = _content(self.path, self.path.stat().st_mtime_ns)
        return [content.samples[row].copy() for row in rows]


@dataclass(frozen=True, eq=False)
class _Content:
    heads: NDArray[np.void]
    samples: list[NDArray[np.complex64]]
    encodings: tuple[Encoding, ...]
    system: System
    notes: tuple[str, ...]


@lru_cache(maxsize=1)
def _content(path: Path, modified_ns: int) -> _Content:
    try:
        import mrd
    except ImportError as error:
        raise UsageError(
            f"{path}: MRD version 2 is read with the package mrd-python; install it: pip install 'mrirecon[mrd2]'."
        ) from error

    heads: list[tuple[Any, ...]] = []
    samples: list[NDArray[np.complex64]] = []
    others = 0
    with reading(path, "MRD version 2"), path.open("rb") as file:
        binary = first_bytes(path).startswith(b"yardl")
        reader = _binary_reader(file, path) if binary else mrd.NDJsonMrdReader(TextIOWrapper(file, "utf-8"))
        header = reader.read_header()
        if header is None:
            raise InputError(f"{path}: has no MRD header, without which it cannot be read.")
        encodings = tuple(_encoding(encoding) for encoding in header.encoding)
        if not encodings:
            raise ValueError("encoding is missing")
        for item in _items(reader, path, heads):
            if not isinstance(item, mrd.StreamItem.Acquisition):
                others += 1
                continue
            data = np.asarray(item.value.data)
            if data.ndim != 2 or data.dtype != np.complex64:
                raise ValueError(f"readout {len(heads)} is of shape {data.shape} and type {data.dtype}")
            heads.append(_head(item.value.head, *data.shape))
            samples.append(data)
        table = np.array(heads, dtype=HEAD)
        notes = check_heads(table, encodings)
    if others and not heads:
        raise InputError(f"{path}: holds {others} images or other items and no raw data, so nothing to reconstruct.")
    notes += [f"{others} waveforms, images or other items are ignored."] if others else []
    return _Content(table, samples, encodings, _system(header), tuple(notes))


def _items(reader: Any, path: Path, heads: Sequence[Any]) -> Iterator[Any]:
    """The items of a file; InputError that says how far it got if it ends too early or cannot be read on."""
    try:
        yield from reader.read_data()
    except Exception as error:
        reason = str(error) or type(error).__name__
        raise InputError(
            f"{path}: cannot be read beyond {len(heads)} complete readouts ({reason}); the file was cut short or is "
            "damaged, copy or export it again."
        ) from error


def _binary_reader(file: BinaryIO, path: Path) -> Any:
    """The package's reader, which allocates what the file says, made to compare that with the file's size first."""
    import mrd

    schema = mrd.BinaryMrdReader.schema.encode()
    beginning = b"yardl" + _BINARY_VERSION.to_bytes(4, "little") + _variable_length(len(schema)) + schema
    if file.read(len(beginning)) != beginning:
        raise InputError(
            f"{path}: is of another version of MRD 2 than the installed package mrd-python reads, or cut short; "
            "install the version of mrd-python that it was written with."
        )
    file.seek(0)
    reader = mrd.BinaryMrdReader(file)
    size, stream = path.stat().st_size, reader._stream
    for name in ("read_view", "read_bytearray"):
        setattr(stream, name, _bounded(getattr(stream, name), size))
    return reader


def _variable_length(number: int) -> bytes:
    """Seven bits per byte, lowest first; the top bit says that more follow."""
    return bytes([number]) if number < 128 else bytes([number & 127 | 128]) + _variable_length(number >> 7)


def _bounded(read: Any, size: int) -> Any:
    def checked(count: int) -> Any:
        if not 0 <= count <= size:
            raise EOFError(f"an item of {count} bytes in a file of {size}")
        return read(count)

    return checked


def _head(head: Any, coils: int, samples: int) -> tuple[Any, ...]:
    """One record of HEAD. What MRD 2 leaves out is 0, and the centre is the middle."""
    index = head.idx
    return (
        int(head.flags),
        head.encoding_space_ref or 0,
        coils,
        samples,
        samples // 2 if head.center_sample is None else head.center_sample,
        head.discard_pre or 0,
        head.discard_post or 0,
        index.kspace_encode_step_1 or 0,
        index.kspace_encode_step_2 or 0,
        *(
            getattr(index, name) or 0
            for name in ("average", "slice", "contrast", "phase", "repetition", "set", "segment")
        ),
        head.sample_time_us or 0.0,
        *(np.array(getattr(head, name)) for name in VECTORS),
    )


def _encoding(encoding: Any) -> Encoding:
    parallel, ranges = encoding.parallel_imaging, encoding.encoding_limits

    def sizes(space: Any) -> list[float | None]:
        return [space.matrix_size.x, space.matrix_size.y, space.matrix_size.z]

    def lengths(space: Any) -> list[float | None]:
        return [space.field_of_view_mm.x, space.field_of_view_mm.y, space.field_of_view_mm.z]

    def counter(limit: Any, name: str) -> Limits | None:
        return limit and mrd_header.limits([limit.minimum, limit.maximum, limit.center], name)

    acceleration = parallel and parallel.acceleration_factor
    mode, band = parallel and parallel.calibration_mode, parallel and parallel.multiband
    return Encoding(
        trajectory=_name(encoding.trajectory) or "unknown",
        encoded_matrix=mrd_header.matrix(sizes(encoding.encoded_space), "the encoded space's matrix"),
        encoded_fov_mm=mrd_header.fov_mm(lengths(encoding.encoded_space)),
        recon_matrix=mrd_header.recon_matrix(sizes(encoding.recon_space), "the reconstructed space's matrix"),
        recon_fov_mm=mrd_header.fov_mm(lengths(encoding.recon_space)),
        step1=counter(ranges.kspace_encoding_step_1, "kspace_encoding_step_1"),
        step2=counter(ranges.kspace_encoding_step_2, "kspace_encoding_step_2"),
        acceleration=(
            (acceleration and mrd_header.positive(acceleration.kspace_encoding_step_1)) or 1.0,
            (acceleration and mrd_header.positive(acceleration.kspace_encoding_step_2)) or 1.0,
        ),
        calibration=None if mode is None else _name(mode),
        multiband=mrd_header.factor(band.multiband_factor, "multiband") if band else 1,
    )


def _system(header: Any) -> System:
    system, sequence = header.acquisition_system_information, header.sequence_parameters
    measurement = header.measurement_information

    def first(values: list[float]) -> float | None:
        return mrd_header.positive(values[0]) if values else None

    return System(
        vendor=system and mrd_header.label(system.system_vendor),
        model=system and mrd_header.label(system.system_model),
        field_strength_t=system and mrd_header.positive(system.system_field_strength_t),
        bandwidth=system and mrd_header.positive(system.relative_receiver_noise_bandwidth),
        frequency_hz=mrd_header.positive(header.experimental_conditions.h1resonance_frequency_hz),
        tr_ms=sequence and first(sequence.t_r),
        te_ms=mrd_header.times_ms(sequence.t_e) if sequence else (),
        ti_ms=sequence and first(sequence.t_i),
        flip_angle_deg=sequence and first(sequence.flip_angle_deg),
        patient_position=measurement and mrd_header.patient_position(_name(measurement.patient_position)),
    )


def _name(value: Any) -> str | None:
    """Of an enumeration's value, in MRD 1's spelling ("H_FS" is "hfs"); None for a number that stands for nothing."""
    return (value.name or "").replace("_", "").lower() or None
