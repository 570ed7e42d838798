import io
import struct
import zlib
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from hypothesis import given, settings
from hypothesis import strategies as st

from mrirecon.acquisition.matlab_v5 import read_array

DTYPES = ["f4", "f8", "c8", "c16", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8"]


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_arrays_are_those_that_scipy_reads(tmp_path: Path, dtype: str, compressed: bool):
    rng = np.random.default_rng(0)
    shapes = {"a": (3, 4, 5), "long_name_of_an_array": (7, 1), "one": (1, 1), "none": (0, 3)}
    arrays = {name: (100 * (rng.normal(size=shape) + 1j * rng.normal(size=shape))) for name, shape in shapes.items()}
    stored = {name: (a if dtype[0] == "c" else np.abs(a)).astype(dtype) for name, a in arrays.items()}
    others = {"text": "words", "cell": np.array([1, "x"], dtype=object), "structure": {"field": np.ones(3)}}
    path = tmp_path / "file.mat"
    scipy.io.savemat(path, others | stored, do_compression=compressed)
    theirs = scipy.io.loadmat(path)
    for name, array in stored.items():
        ours = read_array(path, name)
        np.testing.assert_array_equal(ours, theirs[name])
        assert ours.shape == array.shape
        assert ours.dtype == theirs[name].dtype


def test_numbers_stored_as_smaller_ones_and_big_endian(tmp_path: Path):
    """MATLAB stores whole numbers of class double in few bytes; machines of either order write files."""
    for order, mark in (("<", b"IM"), (">", b"MI")):

        def element(kind: int, data: bytes, order: str = order) -> bytes:
            return struct.pack(f"{order}II", kind, len(data)) + data + bytes(-len(data) % 8)

        flags, shape = struct.pack(f"{order}II", 6, 0), struct.pack(f"{order}ii", 2, 3)
        small_name = struct.pack(f"{order}I", 1 << 16 | 1) + b"k\0\0\0"
        parts = element(6, flags) + element(5, shape) + small_name + element(3, struct.pack(f"{order}6h", *range(6)))
        (tmp_path / "k.mat").write_bytes(bytes(124) + struct.pack(f"{order}H", 0x0100) + mark + element(14, parts))
        array = read_array(tmp_path / "k.mat", "k")
        assert array.dtype == np.float64
        np.testing.assert_array_equal(array, [[0, 2, 4], [1, 3, 5]])


@pytest.mark.parametrize("compressed", [False, True])
@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_damaged_files_raise_and_never_crash(tmp_path_factory, compressed: bool, data):
    """Where the tags are, bytes become numbers of types that there are, or are not."""
    buffer = io.BytesIO()
    scipy.io.savemat(buffer, {"k": np.ones((3, 4), np.complex64)}, do_compression=compressed)
    content = bytearray(buffer.getvalue())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(124, len(content) - 1))] = data.draw(st.integers(0, 20) | st.integers(0, 255))
    path = tmp_path_factory.mktemp("damaged") / "k.mat"
    path.write_bytes(content)
    with suppress(ValueError, KeyError, OverflowError, StopIteration, struct.error, zlib.error):
        read_array(path, "k")


def test_a_damaged_size_takes_no_memory(tmp_path: Path):
    scipy.io.savemat(tmp_path / "k.mat", {"k": np.ones((3, 4), np.complex64)})
    content = (tmp_path / "k.mat").read_bytes()
    (tmp_path / "k.mat").write_bytes(content.replace(struct.pack("=ii", 3, 4), struct.pack("=ii", 3, 2**31 - 1), 1))
    with pytest.raises(ValueError, match="12 numbers are no array"):
        read_array(tmp_path / "k.mat", "k")


def test_an_absent_array_is_named(tmp_path: Path):
    scipy.io.savemat(tmp_path / "k.mat", {"k": np.ones(3)})
    with pytest.raises(ValueError, match="no array 'x'"):
        read_array(tmp_path / "k.mat", "x")
