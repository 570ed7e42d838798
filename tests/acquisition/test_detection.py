"""What cannot be read is refused with one sentence, whatever happened to the file."""

import contextlib
import io
import os
import tempfile
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io
from hypothesis import given, settings
from hypothesis import strategies as st

from mrirecon.acquisition.array_files import open_arrays
from mrirecon.acquisition.detection import open_file
from mrirecon.errors import InputError, MrireconError, UsageError


def open_scan(path, key=None, axes=None):
    """The only volume of a file."""
    (scan,) = open_arrays(path, key, axes)
    return scan


RNG = np.random.default_rng(1)
SMALL = (RNG.normal(size=(2, 3, 12, 10)) + 1j * RNG.normal(size=(2, 3, 12, 10))).astype(np.complex64)


def _bytes_of(write):
    buffer = io.BytesIO()
    write(buffer)
    return buffer.getvalue()


def _hdf5(buffer, **options):
    with h5py.File(buffer, "w") as file:
        file.create_dataset("kspace", data=SMALL, **options)
        file["reconstruction_rss"] = np.ones((2, 6, 6), dtype=np.float32)
        file["ismrmrd_header"] = b"<ismrmrdHeader/>"
        file["mask"] = np.ones(10)


FILES = {
    "npy": _bytes_of(lambda f: np.save(f, SMALL)),
    "npz": _bytes_of(lambda f: np.savez(f, k=SMALL)),
    "npz compressed": _bytes_of(lambda f: np.savez_compressed(f, k=SMALL, other=np.ones(9))),
    "mat": _bytes_of(lambda f: scipy.io.savemat(f, {"k": SMALL})),
    "mat compressed": _bytes_of(lambda f: scipy.io.savemat(f, {"k": SMALL}, do_compression=True)),
    "hdf5": _bytes_of(_hdf5),
    "hdf5 compressed": _bytes_of(lambda f: _hdf5(f, compression="gzip", chunks=(1, 1, 12, 10))),
}


def _read_all(path):
    scan = open_scan(path, axes="slice,coil,y,x")
    for index in range(scan.slices):
        scan.kspace(index)
        if scan.read_target:
            scan.read_target(index)


def _read_or_refuse(content):
    with tempfile.TemporaryDirectory() as folder, contextlib.suppress(MrireconError, MemoryError):
        (Path(folder) / "scan").write_bytes(content)
        _read_all(Path(folder) / "scan")


@pytest.mark.parametrize("content", FILES.values(), ids=FILES)
def test_the_whole_file_is_read(tmp_path, content):
    (tmp_path / "scan").write_bytes(content)
    _read_all(tmp_path / "scan")


@settings(max_examples=150, deadline=None)
@given(kind=st.sampled_from(list(FILES)), data=st.data())
def test_a_file_cut_short_is_an_input_error(kind, data):
    content = FILES[kind]
    # Some formats lose nothing by the cut, so that reading may succeed; any other kind of error fails the test.
    _read_or_refuse(content[: data.draw(st.integers(0, len(content) - 1))])


@pytest.mark.filterwarnings("ignore:invalid")  # Python's, about escapes in damaged text
@settings(max_examples=150, deadline=None)
@given(kind=st.sampled_from([k for k in FILES if "hdf5" not in k]), data=st.data())
def test_damaged_bytes_are_an_input_error(kind, data):
    content = bytearray(FILES[kind])
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, min(len(content), 400) - 1))] = data.draw(st.integers(0, 255))
    _read_or_refuse(content)


@pytest.mark.parametrize("kind", FILES)
def test_half_a_file_is_said_to_be_damaged(tmp_path, kind):
    (tmp_path / "half").write_bytes(FILES[kind][: len(FILES[kind]) // 2])
    with pytest.raises(InputError, match=r"half: .*cannot be read .*damaged or cut short"):
        _read_all(tmp_path / "half")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"hello world", "unknown format"),
        (bytes(128) + b"DICM" + bytes(900), "DICOM image; an image is not raw data"),
        (bytes(344) + b"n+1\0" + bytes(900), "NIfTI"),
        (b"\x1f\x8b\x08\x00", "compressed"),
        (b"PK\x05\x06" + bytes(18), "zip archive without NumPy arrays"),
    ],
)
def test_other_formats_are_named(tmp_path, content, said):
    (tmp_path / "scan.h5").write_bytes(content)
    with pytest.raises(InputError, match=f"scan.h5: .*{said}"):
        open_scan(tmp_path / "scan.h5")


def test_missing_files_and_folders_are_named(tmp_path):
    with pytest.raises(InputError, match=r"nothing.h5: there is no such file"):
        open_scan(tmp_path / "nothing.h5")
    with pytest.raises(InputError, match="is a folder"):
        open_scan(tmp_path)


def test_pipes_and_devices_are_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(InputError, match="is a pipe or a device"):
            open_file(path)


def test_options_of_raw_data_are_refused_for_arrays(tmp_path):
    np.save(tmp_path / "scan.npy", SMALL)
    with pytest.raises(UsageError, match="--group is for raw data files"):
        open_file(tmp_path / "scan.npy", group="dataset")


def test_a_measurement_cannot_be_chosen_where_the_format_holds_one(write_mrd):
    with pytest.raises(UsageError, match="--group is for files of several measurements"):
        open_file(write_mrd(SMALL[:, :, None], stream=True), group="dataset")


@pytest.mark.parametrize("stream", [False, True])
def test_a_scan_that_lies_beside_its_copy_for_bart_is_still_itself(tmp_path, write_mrd, stream):
    path = write_mrd(SMALL[:, :, None], stream=stream)
    path.with_suffix(".hdr").write_text("# Dimensions\n10 12 1 3 1 1 1 1 1 1 1 1 1 2 1 1\n")
    path.with_suffix(".cfl").write_bytes(SMALL.tobytes())
    assert open_file(path).format.startswith("MRD")
    assert open_file(path.with_suffix(".cfl"))[0].shape == SMALL.shape
    path.with_suffix(".hdr").write_bytes(b"")
    assert open_file(path).format.startswith("MRD")


def test_a_file_that_shrinks_after_opening_is_an_input_error(tmp_path):
    path = tmp_path / "scan.h5"
    path.write_bytes(FILES["hdf5"])
    scan = open_scan(path)
    path.write_bytes(FILES["hdf5"][:3000])
    with pytest.raises(InputError, match="slice 1 cannot be read"):
        scan.kspace(1)


def test_our_own_results_are_no_scans(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "image.h5", "w") as file:
        file["reconstruction"] = np.ones((1, 16, 16), np.float32)
        file["noise_covariance"] = np.eye(4, dtype=np.complex128)
    with pytest.raises(InputError, match="holds reconstructed images"):
        open_arrays(tmp_path / "image.h5")
