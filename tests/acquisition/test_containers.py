"""NumPy, MATLAB and plain HDF5 files, written by NumPy, SciPy and h5py."""

import pickle

import h5py
import numpy as np
import pytest
import scipy.io

from mrirecon.acquisition.array_files import open_arrays
from mrirecon.errors import InputError, UsageError


def open_scan(path, key=None, axes=None):
    """The only volume of a file."""
    (scan,) = open_arrays(path, key, axes)
    return scan


def assert_same(scan, kspace):
    assert scan.shape == kspace.shape
    for index in range(scan.slices):
        read = scan.kspace(index)
        assert read.dtype == np.complex64
        assert read.flags.c_contiguous
        np.testing.assert_array_equal(read, kspace[index])


def write_matlab_v73(path, **arrays):
    """As MATLAB does: a user block with its text, axes reversed, complex numbers as pairs."""
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, array in arrays.items():
            pair = np.dtype([("real", array.real.dtype), ("imag", array.real.dtype)])
            stored = np.ascontiguousarray(array.T)
            file[name] = stored.view(pair) if np.iscomplexobj(array) else stored
            file[name].attrs["MATLAB_class"] = np.bytes_("double")
    with path.open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64, Created on: Mon Jan  1 00:00:00 2024 HDF5 schema 1.00 .")


@pytest.mark.parametrize("order", ["C", "F"])
def test_npy_in_either_memory_order(tmp_path, kspace, order):
    np.save(tmp_path / "a", np.asarray(kspace, order=order))
    scan = open_scan(tmp_path / "a.npy", axes="slice,coil,ky,kx")
    assert_same(scan, kspace)
    assert (scan.format, scan.notes, scan.header.readout_axis) == ("NumPy array (.npy)", (), None)


def test_npy_is_read_lazily(tmp_path, kspace):
    path = tmp_path / "a.npy"
    np.save(path, kspace)
    scan = open_scan(path, axes="slice,coil,y,x")
    with path.open("r+b") as file:
        file.seek(-8, 2)
        file.write(np.array([np.nan, 0], dtype=np.float32).tobytes())
    assert np.isfinite(scan.kspace(0)).all()
    with pytest.raises(InputError, match="slice 2 holds NaN"):
        scan.kspace(2)


def test_npz_needs_no_key_for_one_complex_array(tmp_path, kspace):
    np.savez_compressed(tmp_path / "a.npz", image=np.ones((9, 9)), data=kspace.astype(np.complex128))
    scan = open_scan(tmp_path / "a.npz", axes=["slice", "coil", "readout", "phase"])
    assert_same(scan, kspace)
    assert (scan.stored_dtype, scan.header.readout_axis) == ("complex128", "y")


def test_several_complex_arrays_are_listed_and_chosen_by_key(tmp_path, kspace):
    path = tmp_path / "a.npz"
    np.savez(path, kspace=kspace[0], maps=kspace[0, :, :8])
    with pytest.raises(InputError, match=r"--key: 'kspace' \(4 × 64 × 48 complex64\), 'maps' \(4 × 8 × 48 complex64\)"):
        open_scan(path)
    assert_same(open_scan(path, key="kspace"), kspace[:1])
    with pytest.raises(InputError, match=r"no array 'k'\. It holds 'kspace'"):
        open_scan(path, key="k")


def test_matlab_v5_in_matlabs_order(tmp_path, kspace):
    scipy.io.savemat(
        tmp_path / "a.mat", {"k": kspace.transpose(2, 3, 1, 0), "n": 3, "s": {"a": 1}}, do_compression=True
    )
    assert_same(open_scan(tmp_path / "a.mat", axes="ky,kx,coil,slice"), kspace)


def test_matlab_v73_in_matlabs_order(tmp_path, kspace):
    path = tmp_path / "a.mat"
    write_matlab_v73(path, k=kspace.astype(np.complex128).transpose(2, 3, 1, 0), mask=np.ones((64, 48)))
    scan = open_scan(path, axes="ky,kx,coil,slice")
    assert_same(scan, kspace)
    assert (scan.format, scan.stored_dtype) == ("MATLAB v7.3", "complex pair")


def test_matlab_v73_guess_takes_the_last_axis_as_coils(tmp_path, kspace):
    path = tmp_path / "a.mat"
    write_matlab_v73(path, k=kspace[0].transpose(1, 2, 0))
    scan = open_scan(path)
    assert_same(scan, kspace[:1])
    assert "64 × 48 × 4 is taken as y,x,coil" in scan.notes[0]


def test_hdf5_in_a_group_with_pairs_and_chunks(tmp_path, kspace):
    path = tmp_path / "no_suffix"
    pair = np.dtype([("r", "<f4"), ("i", "<f4")])
    with h5py.File(path, "w") as file:
        stored = np.ascontiguousarray(kspace.transpose(2, 0, 1, 3))
        file.create_dataset("raw/scan", data=stored.view(np.float32).reshape(-1, 2).view(pair).reshape(stored.shape))
        file["raw/image"] = np.ones((64, 48))
    scan = open_scan(path, axes="y,slice,coil,x")
    assert_same(scan, kspace)
    assert scan.format == "HDF5"


def test_a_two_dimensional_array_is_one_slice_of_one_coil(tmp_path, kspace):
    np.save(tmp_path / "a.npy", kspace[0, 0])
    scan = open_scan(tmp_path / "a.npy")
    assert_same(scan, kspace[:1, :1])
    assert "taken as one slice of one coil" in scan.notes[0]


def test_a_scan_crosses_process_borders(tmp_path, kspace):
    np.save(tmp_path / "a.npy", kspace[0])
    assert_same(pickle.loads(pickle.dumps(open_scan(tmp_path / "a.npy"))), kspace[:1])


def test_the_name_says_nothing_about_the_format(tmp_path, kspace):
    path = tmp_path / "a.mat"
    with path.open("wb") as file:
        np.save(file, kspace[0])
    assert open_scan(path).format == "NumPy array (.npy)"


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.ones((64, 64)), r"\(64 × 64 float64\) is not complex, so it is not k-space; is it an image"),
        (np.ones((4, 64, 64, 2), dtype=np.float32), r"stored apart \(they seem to be its last axis\) must be joined"),
        (np.ones((64, 64), dtype=np.int16), "is not complex"),
        (np.zeros((64, 64), dtype=[("real", "<i4"), ("imag", "<i4")]), "is not complex"),
        (np.zeros((64, 64), dtype=[("a", "<f4"), ("b", "<f4")]), "is not complex"),
        (np.zeros((64, 64), dtype=[("real", "<f8"), ("imag", "<f4")]), "is not complex"),
        (np.zeros((0, 64, 64), dtype=np.complex64), "0 coils"),
        (np.zeros((64,), dtype=np.complex64), "two axes or more"),
        (np.complex64(1), "two axes or more"),
    ],
)
def test_arrays_that_are_no_kspace_are_refused(tmp_path, array, said):
    np.savez(tmp_path / "a.npz", array)
    with pytest.raises(InputError, match=said):
        open_scan(tmp_path / "a.npz")
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(InputError, match=said):
        open_scan(tmp_path / "a.npy")


def test_pickles_are_never_loaded(tmp_path):
    array = np.array([{"a": 1}, None], dtype=object)
    np.save(tmp_path / "a.npy", array, allow_pickle=True)
    np.savez(tmp_path / "a.npz", k=array)
    for name in ("a.npy", "a.npz"):
        with pytest.raises(InputError):
            open_scan(tmp_path / name)


def test_a_matlab_struct_is_refused_by_its_name(tmp_path, kspace):
    scipy.io.savemat(tmp_path / "a.mat", {"raw": {"k": kspace[0]}})
    with pytest.raises(InputError, match="'raw' holds objects"):
        open_scan(tmp_path / "a.mat")


def test_npy_has_no_keys(tmp_path, kspace):
    np.save(tmp_path / "a.npy", kspace[0])
    with pytest.raises(UsageError, match="leave --key out"):
        open_scan(tmp_path / "a.npy", key="kspace")


def test_samples_beyond_single_precision_are_refused_not_made_infinite(tmp_path):
    np.save(tmp_path / "a.npy", np.full((8, 8), 1e300 + 0j))
    with pytest.raises(InputError, match="NaN or infinite"):
        open_scan(tmp_path / "a.npy").kspace(0)


def test_partitions_and_volumes_are_read_from_a_file(tmp_path, kspace):
    stored = np.stack([kspace, 2 * kspace], axis=-1).transpose(1, 4, 3, 0, 2)
    np.save(tmp_path / "a.npy", stored)
    scans = open_arrays(tmp_path / "a.npy", axes="coil,time,readout,kz,phase")
    assert [scan.volume for scan in scans] == ["time-1", "time-2"]
    assert [(scan.stack, scan.header.readout_axis) for scan in scans] == [("partitions", "x")] * 2
    assert_same(scans[0], kspace)
    assert_same(pickle.loads(pickle.dumps(scans[1])), 2 * kspace)


def test_an_empty_axis_of_volumes_is_refused(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((0, 8, 8), dtype=np.complex64))
    with pytest.raises(InputError, match="an axis of 0 × 8 × 8 is empty"):
        open_arrays(tmp_path / "a.npy", axes="time,y,x")


def test_real_and_imaginary_parts_as_a_last_axis_of_hdf5_are_not_kspace(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["kspace"] = np.ones((3, 16, 16, 2), dtype=np.float32)
    with pytest.raises(InputError, match=r"they seem to be its last axis"):
        open_scan(tmp_path / "a.h5")


def test_mrd_images_are_no_raw_data(tmp_path):
    pair = np.dtype([("real", "<f4"), ("imag", "<f4")])
    with h5py.File(tmp_path / "images.h5", "w") as file:
        file["recon/image_0/data"] = np.zeros((1, 1, 1, 16, 16), dtype=pair)
        file["recon/image_0/header"] = np.zeros(1)
        file["recon/image_0/attributes"] = np.zeros(1)
    with pytest.raises(InputError, match="holds MRD images, and an image is not raw data"):
        open_scan(tmp_path / "images.h5")


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("axes", ["slice,coil,y,x", "coil,slice,y,x", "y,x,coil,slice"])
def test_npy_is_mapped_in_pieces(tmp_path, kspace, monkeypatch, order, axes):
    monkeypatch.setattr("mrirecon.acquisition.containers.MAPPED_BYTES", 1000)
    names = ["slice", "coil", "y", "x"]
    stored = kspace.transpose([names.index(name) for name in axes.split(",")])
    np.save(tmp_path / "a.npy", np.asarray(stored, order=order))
    assert_same(open_scan(tmp_path / "a.npy", axes=axes), kspace)
