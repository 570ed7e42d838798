"""Files of arrays that are damaged, cut short or absurd: an error of ours, never another, and no memory for a claim."""

import contextlib
import io
import struct
import tempfile
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mrirecon.acquisition.array_files import open_arrays
from mrirecon.acquisition.axes import NAMES, named_axes
from mrirecon.errors import InputError, MrireconError, UsageError

RNG = np.random.default_rng(6)
KSPACE = (RNG.normal(size=(4, 6, 5, 2, 3)) + 1j * RNG.normal(size=(4, 6, 5, 2, 3))).astype(np.complex64)
#: Bytes; no machine can allocate it, so that an attempt would end in MemoryError.
ABSURD = 1 << 50


def hdf5(matlab=False, **arrays):
    """The bytes of an HDF5 file, or of a MATLAB v7.3 file with arrays in HDF5's order."""
    buffer = io.BytesIO()
    with h5py.File(buffer, "w", userblock_size=512 if matlab else 0) as file:
        for name, array in arrays.items():
            file[name] = array
    content = buffer.getvalue()
    return b"MATLAB 7.3 MAT-file".ljust(512) + content[512:] if matlab else content


def npy(array):
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def npy_header(shape, descr="<c8", version=(1, 0), order=False):
    text = repr({"descr": descr, "fortran_order": order, "shape": shape}).encode().ljust(117) + b"\n"
    return b"\x93NUMPY" + bytes(version) + struct.pack("<H" if version == (1, 0) else "<I", len(text)) + text


def ra(*fields):
    return b"rawarray" + struct.pack(f"<{len(fields)}Q", *fields)


PAIR = np.dtype([("real", "<f4"), ("imag", "<f4")])
HDR = b"# Dimensions\n6 5 1 2 1 1\n# Command\nphantom\n"
#: Content of the file, and of the .hdr beside it.
FILES = {
    "cfl": (KSPACE[0, :, :, :, 0].tobytes(), HDR),
    "ra": (ra(0, 4, 8, 480, 4, 6, 5, 1, 2) + KSPACE[0, :, :, :, 0].tobytes(), b""),
    "npy": (npy(KSPACE[0, ..., 0]), b""),
    "calgary-campinas": (hdf5(kspace=np.ones((3, 6, 5, 4), dtype=np.float32)), b""),
    "skm-tea": (hdf5(kspace=KSPACE, maps=KSPACE[..., :1, :].swapaxes(3, 4), target=KSPACE[..., :1]), b""),
    "cmrxrecon": (hdf5(matlab=True, kspace_sub04=KSPACE.view(PAIR), mask04=np.ones((6, 5))[:2, :3]), b""),
}


def read_all(path):
    for scan in open_arrays(path):
        for index in range(scan.slices):
            scan.kspace(index)
            if scan.read_target:
                scan.read_target(index)


def read_or_refuse(content, header=b""):
    """Reads everything; errors of ours are what is expected of damaged files."""
    with tempfile.TemporaryDirectory() as folder, contextlib.suppress(MrireconError):
        (Path(folder) / "scan.x").write_bytes(content)
        if header:
            (Path(folder) / "scan.hdr").write_bytes(header)
        read_all(Path(folder) / "scan.x")


@pytest.mark.parametrize("kind", FILES)
def test_the_whole_file_is_read(tmp_path, kind):
    content, header = FILES[kind]
    (tmp_path / "scan.x").write_bytes(content)
    if header:
        (tmp_path / "scan.hdr").write_bytes(header)
    read_all(tmp_path / "scan.x")


def _cuts(kind, step):
    content, header = FILES[kind]
    for length in range(0, len(content), step):
        read_or_refuse(content[:length], header)
    for length in range(0, len(header), step):
        read_or_refuse(content, header[:length])


@pytest.mark.parametrize("kind", FILES)
def test_a_file_cut_somewhere_is_an_input_error(kind):
    _cuts(kind, 211)


@pytest.mark.slow
@pytest.mark.parametrize("kind", FILES)
def test_a_file_cut_anywhere_is_an_input_error(kind):
    _cuts(kind, 1)


def damage(kind, data, reach):
    content, header = (bytearray(part) for part in FILES[kind])
    target = header if header and data.draw(st.booleans()) else content
    for _ in range(data.draw(st.integers(1, 4))):
        target[data.draw(st.integers(0, min(len(target), reach) - 1))] = data.draw(st.integers(0, 255))
    read_or_refuse(bytes(content), bytes(header))


BYTEWISE = ["cfl", "ra", "npy"]


@pytest.mark.slow
@pytest.mark.smoke
@pytest.mark.filterwarnings("ignore")  # Python's and NumPy's, about damaged text
@settings(max_examples=300, deadline=None)
@given(kind=st.sampled_from(BYTEWISE), data=st.data())
def test_damaged_bytes_are_an_input_error(kind, data):
    damage(kind, data, reach=120)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@settings(max_examples=5000, deadline=None)
@given(kind=st.sampled_from(BYTEWISE), data=st.data())
def test_damaged_bytes_are_an_input_error_at_length(kind, data):
    damage(kind, data, reach=1000)


@pytest.mark.slow
@settings(max_examples=2000, deadline=None)
@given(
    st.binary(max_size=300), st.sampled_from([b"", b"# Dimensions\n", b"rawarray", b"\x93NUMPY\1\0", b"\x93NUMPY\2\0"])
)
@pytest.mark.filterwarnings("ignore")
def test_any_bytes_after_a_mark_are_an_input_error(content, mark):
    read_or_refuse(mark + content)
    read_or_refuse(content, b"# Dimensions\n" + content)


SIZES = st.integers(-2, 9) | st.sampled_from([1 << 20, 1 << 31, 1 << 40, 1 << 62, 1 << 64])


@pytest.mark.slow
@pytest.mark.smoke
@settings(max_examples=300, deadline=None)
@given(st.lists(SIZES, max_size=18), st.sampled_from(["<c8", ">c8", "<c16", "|O", "<f4", "|V8", "<c64"]), st.booleans())
def test_any_claim_of_sizes_is_checked_against_the_file(sizes, descr, order):
    read_or_refuse(npy_header(tuple(sizes), descr, order=order) + bytes(480))
    read_or_refuse(bytes(480), b"# Dimensions\n" + " ".join(map(str, sizes)).encode())
    fields = [size % (1 << 64) for size in sizes]
    read_or_refuse(ra(0, 4, 8, 480, len(fields), *fields) + bytes(480))


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(NAMES) | st.text(max_size=4), max_size=9), st.lists(st.integers(0, 4), max_size=9))
def test_any_axes_are_a_layout_or_a_usage_error(names, shape):
    try:
        layout = named_axes(names, shape, Path("scan.npy"))
    except UsageError:
        return
    array = np.zeros(shape, dtype=np.complex64)
    leading, coils, *matrix = layout.scan_shape(shape)
    for volume in layout.volumes(shape).values():
        for index in range(leading):
            assert layout.arrange(array[layout.select(index, volume)]).shape == (coils, *matrix)


@pytest.mark.parametrize("shape", [(ABSURD, 8, 8), (8, ABSURD), (1 << 31, 1 << 31, 1 << 31)])
@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_sizes_that_an_npy_file_cannot_hold_are_refused_on_opening(tmp_path, shape, version):
    (tmp_path / "a.npy").write_bytes(npy_header(shape, version=version) + bytes(1000))
    with pytest.raises(InputError, match="the file is too small"):
        open_arrays(tmp_path / "a.npy", axes=("y", "x", "slice")[: len(shape)])


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_sizes_that_an_npz_file_cannot_hold_are_refused_on_opening(tmp_path, compression):
    with zipfile.ZipFile(tmp_path / "a.npz", "w", compression) as archive:
        archive.writestr("k.npy", npy_header((ABSURD, 8, 8)) + bytes(1000))
    with pytest.raises(InputError, match="the file is too small"):
        open_arrays(tmp_path / "a.npz", axes="slice,y,x")


def unwritten(path, matlab=False, **shapes):
    """Chunked datasets of which nothing, or one chunk, is stored."""
    with h5py.File(path, "w", userblock_size=512 if matlab else 0) as file:
        for name, (shape, dtype) in shapes.items():
            dataset = file.create_dataset(name, shape, dtype, chunks=(1,) * len(shape), compression="gzip")
            dataset[(0,) * len(shape)] = 1
    if matlab:
        with path.open("r+b") as file:
            file.write(b"MATLAB 7.3 MAT-file")
    return path


WIDE = 1 << 24


@pytest.mark.parametrize(
    ("matlab", "arrays"),
    [
        (False, {"kspace": ((WIDE, 4, 8, 8), "c8")}),  # fastMRI
        (False, {"kspace": ((2, 4, 8, WIDE), "c8"), "mask": ((WIDE,), "f4")}),
        (False, {"kspace": ((4, WIDE, WIDE, 8), "f4")}),  # Calgary-Campinas
        (False, {"kspace": ((4, WIDE, 8, 2, 4), "c8"), "maps": ((4, WIDE, 8, 4, 1), "c8")}),  # SKM-TEA
        (True, {"kspace_full": ((3, 2, 4, WIDE, WIDE), PAIR)}),  # CMRxRecon
        (False, {"k": ((WIDE, WIDE), "c8")}),
        (True, {"k": ((WIDE, WIDE), PAIR)}),
    ],
)
def test_sizes_that_an_hdf5_file_cannot_hold_are_refused_on_opening(tmp_path, matlab, arrays):
    path = unwritten(tmp_path / "a.h5", matlab, **arrays)
    with pytest.raises(InputError, match="the file is too small"):
        open_arrays(path)


def test_an_absurd_array_beside_the_kspace_does_no_harm(tmp_path):
    path = unwritten(tmp_path / "a.h5", **{"more/absurd": ((WIDE, WIDE), "f4")})
    with h5py.File(path, "a") as file:
        file.create_dataset("kspace", data=np.zeros((2, 3, 64, 64), np.complex64) + 1, compression="gzip")
    read_all(path)


def test_well_compressed_kspace_is_read(tmp_path):
    """Zeros compress best, and whole regions of k-space can be zero."""
    kspace = np.zeros((4, 1, 256, 256), dtype=np.complex64)
    kspace[:, :, 120:136, 120:136] = 1
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("kspace", data=kspace, compression="gzip", compression_opts=9, chunks=(1, 1, 256, 256))
    np.savez_compressed(tmp_path / "a.npz", k=kspace)
    np.testing.assert_array_equal(open_arrays(tmp_path / "a.h5")[0].kspace(3), kspace[3])
    np.testing.assert_array_equal(open_arrays(tmp_path / "a.npz", axes="slice,coil,y,x")[0].kspace(3), kspace[3])
