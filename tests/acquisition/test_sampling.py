import h5py
import numpy as np
import pytest
import scipy.io

from mrirecon.acquisition.array_files import open_arrays
from mrirecon.acquisition.sampling import sampling_from_file, sampling_of, undersample
from mrirecon.errors import InputError, UsageError
from mrirecon.physics.sampling import PartialFourier, mask_by_name


def open_scan(path, key=None, axes=None):
    """The only volume of a file."""
    (scan,) = open_arrays(path, key, axes)
    return scan


@pytest.fixture
def save(tmp_path):
    """Writes k-space (slices, coils, y, x) and opens it."""

    def write(kspace, axes="slice,coil,y,x"):
        np.save(tmp_path / "scan.npy", kspace)
        return open_scan(tmp_path / "scan.npy", axes=axes)

    return write


LINES = (np.arange(48) % 3 == 0) | (abs(np.arange(48) - 24) < 4)


def test_one_stray_zero_is_no_undersampling(save, kspace):
    kspace = kspace.copy()
    kspace[:, :, 3, 5] = 0
    sampling = sampling_of(save(kspace))
    assert (sampling.source, sampling.acceleration, sampling.retrospective) == ("fully sampled", 1.0, False)
    assert sampling.mask.all()


def test_zeros_are_found_as_undersampling_with_the_achieved_acceleration(save, kspace):
    scan = save(kspace * LINES)
    sampling = sampling_of(scan)
    assert scan.prospective
    assert sampling.source == "zeros in the k-space"
    assert sampling.mask.shape == (1, 64, 48)
    assert (sampling.mask[0] == LINES).all()
    # The last sampled line is 45, so that lines 46 and 47 lie outside the acquired range.
    assert sampling.acceleration == pytest.approx(46 / LINES.sum())


def test_masks_that_differ_between_slices_are_found(save, kspace):
    masks = np.random.default_rng(0).random((3, 1, 64, 48)) < 0.4
    scan = save(kspace * masks)
    sampling = sampling_of(scan)
    np.testing.assert_array_equal(sampling.mask, masks[:, 0])
    assert sampling.acceleration == pytest.approx(1 / masks.mean(), rel=1e-3)


def test_a_dead_coil_and_an_empty_slice_are_no_undersampling(save, kspace):
    kspace = kspace.copy()
    kspace[:, 2] = 0
    kspace[1] = 0
    scan = save(kspace)
    assert (scan.survey.dead_coils, scan.survey.empty_slices) == ([2], [1])
    assert sampling_of(scan).source == "fully sampled"


def test_padding_and_partial_fourier_are_no_undersampling(save, kspace):
    kspace = kspace.copy()
    kspace[..., :10] = 0
    kspace[..., :4, :] = 0
    sampling = sampling_of(save(kspace))
    assert (sampling.source, sampling.acceleration) == ("fully sampled", 1.0)
    assert not sampling.mask[0, :4].any()
    assert not sampling.mask[0, :, :10].any()
    assert sampling.mask[0, 4:, 10:].all()


def test_a_stored_mask_counts_inside_the_headers_range_only(write_fastmri, kspace, header_xml):
    padded = np.zeros(48, dtype=bool)
    padded[4:45] = True
    scan = open_scan(write_fastmri(kspace * (LINES & padded), mask=LINES, ismrmrd_header=header_xml()))
    sampling = sampling_of(scan)
    assert sampling.source == "stored mask"
    assert (sampling.mask[0] == LINES & padded).all()
    assert sampling.acceleration == pytest.approx(41 / (LINES & padded).sum())


def test_a_mask_of_ones_is_full_sampling(write_fastmri):
    assert sampling_of(open_scan(write_fastmri(mask=np.ones(48)))).source == "fully sampled"


def test_nothing_but_zeros_is_refused(save, kspace):
    with pytest.raises(InputError, match="all samples are zero"):
        sampling_of(save(kspace * 0))


def test_undersampling_varies_along_the_phase_encodes(save, kspace):
    mask = mask_by_name("equispaced", 4, acs=8)
    unknown = undersample(save(kspace), mask, seed=0)
    along_x = undersample(save(kspace, "slice,coil,phase,readout"), mask, seed=0)
    assert (unknown.mask == unknown.mask[:, :1]).all()
    assert unknown.source == "equispaced, asked 4×, seed 0, readout taken as y"
    assert (along_x.mask == along_x.mask[:, :, :1]).all()
    assert along_x.source == "equispaced, asked 4×, seed 0"
    assert unknown.retrospective
    assert unknown.acceleration == pytest.approx(unknown.mask[0].size / unknown.mask.sum().item())


def test_the_seed_comes_from_the_file_name(save, kspace):
    scan = save(kspace)
    mask = mask_by_name("gaussian2d", 4)
    first, second = undersample(scan, mask, None), undersample(scan, mask, None)
    assert (first.mask == second.mask).all()
    assert (first.mask != undersample(scan, mask, 1).mask).any()
    assert "seed of the file name" in first.source


def test_nothing_is_sampled_outside_the_acquired_range(write_fastmri, kspace, header_xml):
    scan = open_scan(write_fastmri(ismrmrd_header=header_xml()))
    sampling = undersample(scan, PartialFourier(mask_by_name("equispaced", 2, acs=8), 0.75), seed=0)
    lines = sampling.mask[0, 0]
    assert not lines[:12].any()
    assert not lines[45:].any()
    assert sampling.acceleration == pytest.approx((45 - 12) / lines.sum().item())


def test_an_undersampled_scan_is_not_undersampled_again(save, kspace):
    with pytest.raises(UsageError, match=r"scan.npy: was undersampled when it was acquired"):
        undersample(save(kspace * LINES), mask_by_name("random", 4), 0)


MASK = np.random.default_rng(0).random((64, 48)) < 0.5


def test_mask_files_of_every_format(save, kspace, tmp_path):
    scan = save(kspace)
    np.save(tmp_path / "m.npy", MASK)
    np.savez(tmp_path / "m.npz", mask=MASK, support=np.ones((64, 48)))
    scipy.io.savemat(tmp_path / "m.mat", {"anything": MASK.astype(float)})
    with h5py.File(tmp_path / "m.h5", "w") as file:
        file["sampling"] = MASK.astype(np.uint8)
    for name in ("m.npy", "m.npz", "m.mat", "m.h5"):
        sampling = sampling_from_file(scan, tmp_path / name)
        np.testing.assert_array_equal(sampling.mask[0], MASK)
        assert sampling.source == f"mask file {name}"
        assert sampling.retrospective


def test_a_line_mask_lies_along_the_phase_encodes(save, kspace, tmp_path):
    np.save(tmp_path / "x.npy", LINES)
    assert (sampling_from_file(save(kspace), tmp_path / "x.npy").mask[0] == LINES).all()
    rows = np.arange(64) % 2 == 0
    scipy.io.savemat(tmp_path / "y.mat", {"mask": rows})
    assert (sampling_from_file(save(kspace), tmp_path / "y.mat").mask[0] == rows[:, None]).all()
    square = np.concatenate([kspace, kspace[..., :16]], axis=-1)
    np.save(tmp_path / "y.npy", rows)
    known = sampling_from_file(save(square, "slice,coil,phase,readout"), tmp_path / "y.npy")
    assert (known.mask[0] == rows[:, None]).all()


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"m": np.ones((32, 48))}, r"the mask is 32 × 48, but the k-space of .*scan.npy is 64 × 48"),
        ({"m": np.ones(47)}, "the mask is 47"),
        ({"m": np.full((64, 48), 0.5)}, "other than 0 and 1"),
        ({"m": np.full((64, 48), np.nan)}, "other than 0 and 1"),
        ({"m": np.zeros((64, 48))}, "leaves no sample"),
        ({"m": np.ones((64, 48), dtype=complex)}, "a mask is one array of 0 and 1"),
        ({"a": np.ones((64, 48)), "b": np.ones(48)}, r"holds 'a' \(64 × 48 float64\), 'b'"),
    ],
)
def test_masks_that_are_none_are_explained(save, kspace, tmp_path, arrays, said):
    np.savez(tmp_path / "m.npz", **arrays)
    with pytest.raises(InputError, match=said):
        sampling_from_file(save(kspace), tmp_path / "m.npz")


def test_a_mask_file_never_invents_samples(save, kspace, tmp_path):
    scan = save(kspace * LINES)
    np.save(tmp_path / "m.npy", LINES)
    own = sampling_from_file(scan, tmp_path / "m.npy")
    assert (own.mask[0] == LINES).all()
    assert not own.retrospective
    np.save(tmp_path / "m.npy", np.ones(48))
    with pytest.raises(InputError, match="belongs to another scan"):
        sampling_from_file(scan, tmp_path / "m.npy")
