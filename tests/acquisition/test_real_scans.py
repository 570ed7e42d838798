"""Real scans, in the folder beside the project; skipped without it."""

import pytest

from mrirecon.acquisition.array_files import open_arrays
from mrirecon.acquisition.detection import open_file
from mrirecon.acquisition.readouts import Readouts
from mrirecon.acquisition.sampling import sampling_of


def open_scan(path, key=None, axes=None):
    """The only volume of a file."""
    (scan,) = open_arrays(path, key, axes)
    return scan


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("brain_pd_8ch_256x256.mat", (1, 8, 256, 256)),
        ("brain_t1_sagittal_1ch_256x256.mat", (1, 1, 256, 256)),
        ("knee_fatsat_coronal_1ch_332x640.mat", (1, 1, 332, 640)),
    ],
)
def test_fully_sampled(shared, name, shape):
    scan = open_scan(shared / "data" / "kspace" / name)
    assert scan.shape == shape
    assert sampling_of(scan).acceleration == 1
    assert sampling_of(scan).source == "fully sampled"


def test_prospectively_undersampled(shared):
    scan = open_scan(shared / "data" / "kspace" / "brain_8ch_230x180_poisson_undersampled.npy", axes="coil,y,x")
    sampling = sampling_of(scan)
    assert scan.shape == (1, 8, 230, 180)
    assert sampling.source == "zeros in the k-space"
    assert 7.5 < sampling.acceleration < 8.1
    assert sampling.mask[0, 115 - 12 : 115 + 12, 90 - 12 : 90 + 12].all()


def test_twix_is_raw_data(shared):
    pytest.importorskip("twixtools")
    readouts = open_file(shared / "data" / "kspace" / "phantom_gre_2ch_siemens.dat")
    assert isinstance(readouts, Readouts)
    assert set(readouts.heads["coils"]) == {2}
