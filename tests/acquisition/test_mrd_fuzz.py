"""Damaged MRD files of every kind end in an InputError or are read, and never take memory that the file does not need.

Corrupt HDF5 metadata is not made here: libhdf5 itself can loop for ever on it, and does so before we see anything.
"""

import io
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mrirecon.acquisition.containers import reading
from mrirecon.acquisition.mrd import open_mrd
from mrirecon.acquisition.mrd2 import open_mrd2
from mrirecon.acquisition.mrd_header import LARGEST, parse_header
from mrirecon.acquisition.mrd_heads import STORED
from mrirecon.acquisition.mrd_stream import open_mrd_stream
from mrirecon.acquisition.readouts import Readouts
from mrirecon.errors import InputError

MEMORY = 20 << 20

fuzz = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True)
EXAMPLES = [
    pytest.param(30, marks=[pytest.mark.slow, pytest.mark.smoke], id="smoke"),
    pytest.param(300, marks=pytest.mark.slow, id="long"),
]

#: Where, as a share of the file, and what to do there: replace a byte, insert bytes, delete bytes, or end.
changes = st.lists(
    st.tuples(
        st.floats(0, 1, exclude_max=True),
        st.one_of(
            st.integers(0, 255),
            st.sampled_from([b"\xff" * 2, b"\xff" * 4, b"\xff" * 9, b"\0" * 8, b"<", b"&", b"nan", b"-", b"9" * 40]),
            st.sampled_from(["delete 1", "delete 20", "end"]),
        ),
    ),
    min_size=1,
    max_size=4,
)


def changed(data: bytes, edits: list[tuple[float, Any]], first: int = 0) -> bytes:
    """The data with the edits made, none before byte `first`."""
    for share, what in edits:
        at = first + int(share * max(len(data) - first, 0))
        if isinstance(what, int):
            data = data[:at] + bytes([what]) + data[at + 1 :]
        elif isinstance(what, bytes):
            data = data[:at] + what + data[at + len(what) :]
        else:
            data = data[:at] if what == "end" else data[:at] + data[at + int(what.split()[1]) :]
    return data


@contextmanager
def bounded_memory() -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < MEMORY
    finally:
        tracemalloc.stop()


def open_and_read(open_format: Callable[[Path], Readouts], path: Path) -> None:
    """Opens the file and reads all samples; InputError is the only error it may have."""
    with bounded_memory(), suppress(InputError):
        readouts = open_format(path)
        for head, samples in zip(readouts.heads, readouts.read(range(len(readouts.heads))), strict=True):
            assert samples.shape == (head["coils"], head["samples"])


@pytest.fixture
def lines() -> np.ndarray:
    return np.ones((1, 2, 1, 4, 6), dtype=np.complex64)


def run(examples: int, strategy: Any, check: Callable[..., None]) -> None:
    settings(fuzz, max_examples=examples)(given(strategy)(check))()


@pytest.mark.parametrize("examples", EXAMPLES)
def test_the_header(mrd_header, examples):
    xml = mrd_header((8, 6, 4), multiband=2, calibration="embedded", vendor="GE", bandwidth=0.8).encode()

    def check(edits):
        with bounded_memory(), suppress(InputError), reading(Path("header")):
            encodings, _ = parse_header(changed(xml, edits))
            assert encodings
            for encoding in encodings:
                assert all(1 <= n <= LARGEST for n in encoding.encoded_matrix)

    run(examples, changes, check)


@pytest.mark.parametrize("examples", EXAMPLES)
def test_a_stream(write_mrd, lines, examples):
    path = write_mrd(lines, stream=True)
    whole = path.read_bytes()

    def check(edits):
        path.write_bytes(changed(whole, edits))
        open_and_read(open_mrd_stream, path)

    run(examples, changes, check)


def test_a_stream_cut_at_any_byte(write_mrd, lines):
    path = write_mrd(lines, stream=True)
    whole = path.read_bytes()
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        open_and_read(open_mrd_stream, path)


@pytest.mark.parametrize("examples", EXAMPLES)
@pytest.mark.parametrize("form", ["binary", "ndjson"])
def test_version_2(tmp_path, form, examples):
    mrd = pytest.importorskip("mrd")
    space = mrd.EncodingSpaceType(matrix_size=mrd.MatrixSizeType(x=6, y=4, z=1))
    target = io.BytesIO() if form == "binary" else io.StringIO()
    with (mrd.BinaryMrdWriter if form == "binary" else mrd.NDJsonMrdWriter)(target) as writer:
        writer.write_header(mrd.Header(encoding=[mrd.EncodingType(encoded_space=space)]))
        lines = [mrd.Acquisition(data=np.ones((2, 6), dtype=np.complex64)) for _ in range(4)]
        writer.write_data(mrd.StreamItem.Acquisition(line) for line in lines)
        image = mrd.Image(
            head=mrd.ImageHeader(image_type=mrd.ImageType.MAGNITUDE), data=np.ones((1, 1, 2, 2), np.uint16)
        )
        writer.write_data([mrd.StreamItem.ImageUint16(image)])
    whole = target.getvalue() if form == "binary" else target.getvalue().encode()
    schema = mrd.BinaryMrdReader.schema.encode()
    first = whole.index(schema) + len(schema) if form == "binary" else whole.index(b"\n") + 1
    path = tmp_path / "scan.mrd"

    def check(edits):
        path.write_bytes(changed(whole, edits, first if len(edits) > 1 else 0))
        open_and_read(open_mrd2, path)

    run(examples, changes, check)


def hdf5_heads() -> st.SearchStrategy[Any]:
    names = [name for name in STORED.names or () if name != "idx"]
    values = st.one_of(st.integers(0, 2**16 - 1), st.sampled_from([0, 1, 2**16 - 1]))
    return st.lists(st.tuples(st.integers(0, 3), st.sampled_from(names), values), min_size=1, max_size=4)


@pytest.mark.parametrize("examples", EXAMPLES)
def test_heads_in_hdf5(write_mrd, lines, examples):
    path = write_mrd(lines)
    with h5py.File(path, "r") as file:
        whole = file["dataset/data"][:]

    def check(edits):
        rows = whole.copy()
        for row, name, value in edits:
            with np.errstate(over="ignore"):
                rows["head"][name][row] = (
                    np.float32("nan") if rows["head"][name].dtype.kind == "f" and value % 2 else value
                )
        with h5py.File(path, "r+") as file:
            file["dataset/data"][:] = rows
        open_and_read(open_mrd, path)

    run(examples, hdf5_heads(), check)


@pytest.mark.parametrize("step", [pytest.param(499, id="some"), pytest.param(7, marks=pytest.mark.slow, id="many")])
def test_hdf5_cut_at_any_byte(write_mrd, lines, tmp_path, step):
    path, cut = write_mrd(lines), tmp_path / "cut.h5"
    with h5py.File(path, "r") as file, h5py.File(tmp_path / "small.h5", "w") as small:
        small["dataset/xml"] = file["dataset/xml"][:]
        small["dataset/data"] = file["dataset/data"][:]
    whole = (tmp_path / "small.h5").read_bytes()
    for length in range(0, len(whole), step):
        cut.write_bytes(whole[:length])
        with pytest.raises(InputError):
            open_mrd(cut)


TYPES: list[Any] = ["f4", "c8", "S5", h5py.string_dtype(), "u1", np.dtype([("head", "f8"), ("data", "f8")])]


@pytest.mark.parametrize("examples", EXAMPLES)
def test_structures_in_hdf5(tmp_path, examples):
    names = ["dataset/xml", "dataset/data", "dataset/waveforms", "dataset_1/xml", "dataset_1/data", "data", "xml"]
    shapes = st.sampled_from([(), (1,), (3,), (2, 3), (0,), (1 << 40,), (1 << 30, 1 << 30)])
    items = st.lists(st.tuples(st.sampled_from(names), st.sampled_from(TYPES), shapes), min_size=1, max_size=5)

    def check(members):
        path = tmp_path / "file.h5"
        with h5py.File(path, "w") as file:
            for name, kind, shape in members:
                if name not in file:
                    file.create_dataset(
                        name,
                        shape,
                        dtype=kind,
                        chunks=tuple(min(n, 4) for n in shape) if 0 not in (*shape, len(shape)) else None,
                    )
        open_and_read(open_mrd, path)

    run(examples, items, check)
