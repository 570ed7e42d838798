"""The SKM-TEA layout, written as published: `kspace` (x, ky, kz, echoes, coils), `maps`, `target`, `masks`."""

import pickle

import h5py
import numpy as np
import pytest

from mrirecon.acquisition.array_files import open_arrays
from mrirecon.errors import InputError

RNG = np.random.default_rng(4)
SHAPE = (6, 16, 12, 2, 8)


def complex_noise(*shape):
    return (RNG.normal(size=shape) + 1j * RNG.normal(size=shape)).astype(np.complex64)


KSPACE, MAPS, TARGET = complex_noise(*SHAPE), complex_noise(6, 16, 12, 8, 1), complex_noise(6, 16, 12, 2, 1)


@pytest.fixture
def write(tmp_path):
    def make(**others):
        with h5py.File(tmp_path / "MTR_000.h5", "w") as file:
            for name, item in {"kspace": KSPACE, "maps": MAPS, "target": TARGET, **others}.items():
                if item is not None:
                    file[name] = item
        return tmp_path / "MTR_000.h5"

    return make


def test_each_echo_is_a_stack_of_readout_positions(write):
    scans = open_arrays(write(**{"masks/poisson_6.0x": np.ones((14, 10))}))
    assert [scan.volume for scan in scans] == ["echo-1", "echo-2"]
    for echo, scan in enumerate(scans):
        assert (scan.format, scan.shape, scan.stack) == ("SKM-TEA HDF5", (6, 8, 16, 12), "readouts")
        np.testing.assert_array_equal(scan.kspace(4), KSPACE[4, :, :, echo].transpose(2, 0, 1))
        assert "by documentation" in scan.notes[0]
        assert "masks (poisson_6.0x)" in scan.notes[1]
        assert (scan.stored_mask, scan.header.te_ms, scan.header.readout_axis) == (None, None, None)


def test_the_target_is_the_magnitude_of_the_stored_reconstruction(write):
    scan = pickle.loads(pickle.dumps(open_arrays(write())[1]))
    assert scan.target_name == "target"
    target = scan.read_target(3)
    assert target.dtype == np.float32
    np.testing.assert_allclose(target, np.abs(TARGET[3, :, :, 1, 0]), rtol=1e-6)


@pytest.mark.parametrize("target", [None, TARGET[..., :1, :], np.zeros((6, 16, 12, 2, 1), dtype="S3")])
def test_a_missing_or_strange_target_is_none(write, target):
    assert open_arrays(write(target=target))[0].read_target is None


@pytest.mark.parametrize("maps", [None, MAPS[:, :8], MAPS.real, MAPS[..., 0]])
def test_without_fitting_maps_the_axes_are_asked_for(write, maps):
    with pytest.raises(InputError, match=r"--axes|--key"):
        open_arrays(write(maps=maps, target=None))


def test_named_axes_win(write):
    scans = open_arrays(write(), key="kspace", axes="readout,slice,phase,time,coil")
    assert [scan.volume for scan in scans] == ["time-1", "time-2"]
    assert (scans[0].format, scans[0].shape) == ("HDF5", (16, 8, 6, 12))


def test_a_file_that_shrinks_is_an_input_error(write):
    path = write()
    scan = open_arrays(path)[0]
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(InputError, match="slice 2 cannot be read"):
        scan.kspace(2)
    with pytest.raises(InputError, match="target, slice 2, cannot be read"):
        scan.read_target(2)
