"""CMRxRecon in MATLAB v7.3, written as published: `kspace_full`, … (kx, ky, coil, slice, time), ky undersampled."""

import h5py
import numpy as np
import pytest

from mrirecon.acquisition.array_files import open_arrays
from mrirecon.acquisition.sampling import sampling_of
from mrirecon.errors import InputError

RNG = np.random.default_rng(5)
SHAPE = (20, 14, 4, 3, 2)
KSPACE = (RNG.normal(size=SHAPE) + 1j * RNG.normal(size=SHAPE)).astype(np.complex64)
LINES = (np.arange(14) % 4 == 0) | (abs(np.arange(14) - 7) < 3)
MASK = np.broadcast_to(LINES, (20, 14))


@pytest.fixture
def write(tmp_path):
    """Writes arrays, given in MATLAB's order, as MATLAB does."""

    def make(**arrays):
        path = tmp_path / "cine_sax.mat"
        with h5py.File(path, "w", userblock_size=512) as file:
            for name, array in arrays.items():
                stored = np.ascontiguousarray(array.T)
                pair = np.dtype([("real", stored.real.dtype), ("imag", stored.real.dtype)])
                file[name] = stored.view(pair) if np.iscomplexobj(stored) else stored
        with path.open("r+b") as file:
            file.write(
                b"MATLAB 7.3 MAT-file, Platform: GLNXA64, Created on: Mon Jan  1 00:00:00 2023 HDF5 schema 1.00 ."
            )
        return path

    return make


def test_time_frames_are_volumes_and_kx_is_the_readout(write):
    scans = open_arrays(write(kspace_full=KSPACE))
    assert [scan.volume for scan in scans] == ["time-1", "time-2"]
    for time, scan in enumerate(scans):
        assert (scan.format, scan.shape) == ("CMRxRecon MATLAB v7.3", (3, 4, 14, 20))
        assert (scan.header.readout_axis, scan.stack) == ("x", "slices")
        np.testing.assert_array_equal(scan.kspace(1), KSPACE[:, :, :, 1, time].transpose(2, 1, 0))
        assert "by documentation" in scan.notes[0]


@pytest.mark.parametrize(
    ("array", "shapes"), [(KSPACE[..., 0], [(3, 4, 14, 20)]), (KSPACE[..., 0, 0], [(1, 4, 14, 20)])]
)
def test_axes_that_matlab_leaves_out_are_of_size_one(write, array, shapes):
    assert [scan.shape for scan in open_arrays(write(kspace_full=array))] == shapes


def test_single_coil_files_have_no_axis_of_coils(write):
    scans = open_arrays(write(kspace_single_sub08=KSPACE[:, :, 0]))
    assert [(scan.volume, scan.shape) for scan in scans] == [("time-1", (3, 1, 14, 20)), ("time-2", (3, 1, 14, 20))]
    np.testing.assert_array_equal(scans[1].kspace(2)[0], KSPACE[:, :, 0, 2, 1].T)


@pytest.mark.parametrize("mask", [MASK, LINES, LINES[None], LINES[:, None]])
def test_the_mask_of_the_same_acceleration_is_used(write, mask):
    sub = KSPACE * LINES[:, None, None, None]
    path = write(kspace_sub04=sub, mask04=mask.astype(np.uint8), mask08=np.ones((20, 14)))
    scan = open_arrays(path)[0]
    np.testing.assert_array_equal(scan.stored_mask, MASK.T)
    sampling = sampling_of(scan)
    assert sampling.source == "stored mask"
    np.testing.assert_array_equal(sampling.mask[0], MASK.T)


def test_a_mask_that_does_not_fit_is_noted(write):
    scan = open_arrays(write(kspace_sub04=KSPACE, mask04=np.ones((20, 13))))[0]
    assert scan.stored_mask is None
    assert "mask (20 × 13) does not fit" in scan.notes[1]


def test_the_full_kspace_is_the_default_and_its_mask_is_none(write):
    path = write(kspace_sub04=0 * KSPACE, kspace_full=KSPACE, mask04=MASK.astype(float), mask=MASK.astype(float))
    scan = open_arrays(path)[0]
    np.testing.assert_array_equal(scan.kspace(0), KSPACE[..., 0, 0].transpose(2, 1, 0))
    assert scan.stored_mask is None
    assert not open_arrays(path, key="kspace_sub04")[0].kspace(0).any()


def test_several_without_the_full_one_are_asked_for(write):
    with pytest.raises(InputError, match="choose one with --key: kspace_sub04, kspace_sub08"):
        open_arrays(write(kspace_sub04=KSPACE, kspace_sub08=KSPACE))


def test_kspace_of_five_axes_is_the_later_layout_and_of_fewer_is_anyones(write):
    assert open_arrays(write(kspace=KSPACE))[1].format == "CMRxRecon MATLAB v7.3"
    with pytest.raises(InputError, match="--axes slice,coil,ky,kx"):
        open_arrays(write(kspace=KSPACE[..., 0]))


def test_named_axes_and_another_key_win(write):
    path = write(kspace_full=KSPACE, other=KSPACE[:, :, 0, 0, 0])
    scans = open_arrays(path, key="kspace_full", axes="phase,readout,coil,time,slice")
    assert [(scan.format, scan.volume, scan.shape) for scan in scans][2] == ("MATLAB v7.3", "time-3", (2, 4, 20, 14))
    assert open_arrays(path, key="other")[0].shape == (1, 1, 20, 14)
