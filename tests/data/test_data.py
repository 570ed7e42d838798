import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mrirecon.data.batch import Slice, collate, make_example
from mrirecon.data.datamodule import VolumeSampler
from mrirecon.data.images import image_sources
from mrirecon.data.index import index_volumes
from mrirecon.data.manifest import scan_files
from mrirecon.data.sampler import EpochSampler
from mrirecon.data.scans import ScanSlices, crop_field_of_view
from mrirecon.data.simulated import Scanner, SimulatedSlices, fold, lower_resolution, random_crop
from mrirecon.data.undersampling import Undersampling
from mrirecon.errors import InputError, UsageError
from mrirecon.export.fastmri import Acquisition, write_fastmri
from mrirecon.physics.calibration import calibration_width
from mrirecon.physics.fourier import fftc, ifftc

SCANNER = Scanner(matrix=(40, 64), coils=(2, 4), undersampling=Undersampling(acceleration=(2, 4), acs=(12, 16)))


def disc(rng):
    y, x = np.mgrid[-1:1:72j, -1:1:80j]
    return ((y**2 + x**2 < 0.7) * (1 + 0.3 * np.sin(8 * x + rng.uniform(0, 6)))).astype(np.float32)


@pytest.fixture
def slices():
    return SimulatedSlices([disc], SCANNER, length=6, seed=3)


def test_an_example_is_a_function_of_seed_and_index(slices):
    again = SimulatedSlices([disc], SCANNER, length=6, seed=3)
    assert torch.equal(slices[4].kspace, again[4].kspace)
    assert torch.equal(slices[4].mask, again[4].mask)
    assert not torch.equal(slices[4].kspace[:2, :40, :40], slices[10].kspace[:2, :40, :40])


def test_simulated_slices_have_the_matrix_the_coils_and_the_scale_asked_for(slices):
    for index in range(6):
        kspace = slices[index].kspace
        assert sorted(kspace.shape[1:]) == [40, 64]
        assert 2 <= kspace.shape[0] <= 4
        brightness = np.percentile(ifftc(kspace).abs().square().sum(dim=0).sqrt().numpy(), 99)
        assert 0.4 < brightness < 2.5


def test_what_the_mask_hides_holds_no_noise():
    """Of nothing but air, nothing is left there."""
    air = SimulatedSlices([lambda rng: np.zeros((72, 80), np.float32)], SCANNER, 4, 0)
    for index in range(4):
        sampled = air[index].mask.expand(air[index].kspace.shape)
        assert (air[index].kspace[~sampled] == 0).all()
        assert (air[index].kspace[sampled] != 0).all()


def test_a_field_of_view_that_is_too_small_folds():
    images = np.arange(2 * 3 * 10, dtype=np.complex64).reshape(2, 3, 10)
    folded = fold(images, (3, 8))
    assert np.array_equal(folded[..., 1:7], images[..., 2:8])
    assert np.array_equal(folded[..., 0], images[..., 1] + images[..., 9])
    assert np.array_equal(folded[..., 7], images[..., 0] + images[..., 8])
    assert fold(images, (3, 10)) is images


def test_lower_resolution_keeps_brightness_and_is_no_smaller_than_asked_for():
    image = disc(np.random.default_rng(0))
    for seed in range(20):
        low = lower_resolution(image, 60, np.random.default_rng(seed))
        assert max(low.shape) >= 0.85 * 0.85 * 60
        assert low.mean() == pytest.approx(image.mean(), rel=0.05)


@given(
    shape=st.tuples(st.integers(32, 128), st.integers(96, 160)),
    acs=st.integers(6, 64),
    acceleration=st.integers(1, 12),
    seed=st.integers(0, 2**16),
    axis=st.sampled_from("yx"),
)
def test_every_drawn_mask_leaves_enough_to_calibrate_from(shape, acs, acceleration, seed, axis):
    kinds = ("equispaced", "equispaced_fraction", "random", "magic", "magic_fraction", "gaussian1d", "gaussian2d")
    undersampling = Undersampling(kinds, (acceleration, acceleration), (acs, acs))
    mask = undersampling.mask(shape if axis == "y" else shape[::-1], axis, np.random.default_rng(seed))
    assert min(calibration_width(mask)) >= 4
    assert mask.float().mean() < 1.9 / acceleration


def test_an_array_file_of_images_is_a_source(tmp_path):
    images = np.stack([disc(np.random.default_rng(i)) for i in range(3)])
    np.savez(tmp_path / "hearts.npz", img=(1000 * images).astype(np.uint16), names=np.array(["a", "b", "c"]))
    (source,) = image_sources([tmp_path / "hearts.npz"], [], 0)
    assert 0.8 < source(np.random.default_rng(0)).max() < 1.5
    np.savez(tmp_path / "two.npz", first=images, second=images)
    with pytest.raises(InputError, match="one array of three axes"):
        image_sources([tmp_path / "two.npz"], [], 0)
    np.savez(tmp_path / "words.npz", words=np.array([[["a"]]]))
    with pytest.raises(InputError, match="finite real numbers"):
        image_sources([tmp_path / "words.npz"], [], 0)
    (tmp_path / "damaged.npz").write_bytes(b"PK\x03\x04 no archive")
    with pytest.raises(InputError, match=r"damaged\.npz"):
        image_sources([tmp_path / "damaged.npz"], [], 0)


def test_maps_come_from_what_is_left_after_masking():
    example = SimulatedSlices([disc], SCANNER, 1, 0)[0]
    hidden = Slice(example.kspace + 5 * torch.randn_like(example.kspace) * ~example.mask, example.mask)
    first, second = make_example(collate([example])), make_example(collate([hidden]))
    torch.testing.assert_close(first.measurement.sensitivities, second.measurement.sensitivities)
    torch.testing.assert_close(first.measurement.kspace, second.measurement.kspace)
    assert not torch.allclose(first.target, second.target)


def test_the_target_is_the_full_image_combined_with_the_same_maps():
    example = SimulatedSlices([disc], SCANNER, 1, 0)[0]
    made = make_example(collate([example]))
    expected = (made.measurement.sensitivities[0].conj() * ifftc(example.kspace)).sum(dim=0)
    torch.testing.assert_close(made.target[0], expected)


def test_a_batch_pads_coils_and_turns_slices_without_changing_their_images():
    one, two = (
        Slice(torch.randn(2, 32, 48, dtype=torch.complex64), torch.ones(1, 32, 48, dtype=torch.bool)),
        Slice(torch.randn(3, 48, 32, dtype=torch.complex64), torch.ones(1, 48, 32, dtype=torch.bool)),
    )
    batch = collate([one, two])
    assert batch["kspace"].shape == (2, 3, 32, 48)
    assert batch["kspace"][0, 2].abs().max() == 0
    assert torch.equal(batch["kspace"][1], two.kspace.mT)
    with pytest.raises(InputError, match="batch size of 1"):
        collate([one, Slice(one.kspace[..., :40], one.mask[..., :40])])


def test_devices_share_out_what_one_device_would_see():
    def batches(rank, world):
        sampler = EpochSampler(10, seed=5, rank=rank, world=world)
        sampler.set_epoch(3)
        return list(sampler)

    one = batches(0, 1)
    assert sorted(one) == list(range(30, 40))
    assert batches(0, 2) == one[0::2]
    assert batches(1, 2) == one[1::2]
    assert len(batches(0, 3)) == len(batches(2, 3)) == 3


def test_a_volume_stays_on_one_device():
    volumes = [0, 0, 1, 1, 1, 2]
    assert list(VolumeSampler(volumes, 0, 2)) == [0, 1, 5]
    assert list(VolumeSampler(volumes, 1, 2)) == [2, 3, 4]
    assert list(VolumeSampler([0, 0], 1, 2)) == [0, 1]


def test_a_crop_of_the_field_of_view_is_part_of_the_image():
    image = torch.randn(2, 20, 24, dtype=torch.complex64)
    part = ifftc(crop_field_of_view(fftc(image), (8, 10), np.random.default_rng(1)))
    windows = image.unfold(1, 8, 1).unfold(2, 10, 1)
    distances = (windows - part[:, None, None]).abs().amax(dim=(0, 3, 4))
    assert distances.min() < 1e-5
    with pytest.raises(InputError, match="does not fit"):
        crop_field_of_view(fftc(image), (30, 10), np.random.default_rng(1))


def test_small_images_are_padded_with_air():
    image = np.ones((4, 6), np.float32)
    padded = random_crop(image, (8, 6), np.random.default_rng(0))
    assert padded.shape == (8, 6)
    assert padded.sum() == image.sum()


def test_nonsense_ranges_are_refused():
    with pytest.raises(UsageError, match="acceleration"):
        Undersampling(acceleration=(4, 2))
    with pytest.raises(UsageError, match="nosuchmask"):
        Undersampling(masks=("nosuchmask",))


def write_scan(path, kspace):
    acquisition = Acquisition("AXT2", "simulated", pixel_mm=(1.0, 1.0), thickness_mm=4.0, sequence={})
    write_fastmri(path, iter(kspace), kspace.shape, acquisition, {"simulated": True})


def test_files_train_with_new_masks_and_validate_with_one_per_volume(tmp_path):
    rng = np.random.default_rng(0)
    for name in "ab":
        kspace = np.stack([fftc(torch.from_numpy(disc(rng) * (1 + 0j))).numpy() for _ in range(2)])[:, None]
        write_scan(tmp_path / f"{name}.h5", np.repeat(kspace, 2, axis=1).astype(np.complex64))
    scans = index_volumes(scan_files([tmp_path], "train"))
    masks = Undersampling(masks=("random",), acceleration=(4, 4), acs=(8, 8))
    training = ScanSlices(scans, masks, None, seed=0)
    assert len(training) == 4
    assert torch.equal(training[1].kspace, training[5].kspace)
    assert not torch.equal(training[1].mask, training[5].mask)
    validation = ScanSlices(scans, masks, None, seed=0, one_mask_per_volume=True)
    assert torch.equal(validation[0].mask, validation[1].mask)
    assert not torch.equal(validation[0].mask, validation[2].mask)
    assert [validation[i].volume for i in range(4)] == [0, 0, 1, 1]


def test_a_folder_without_scans_is_named(tmp_path):
    with pytest.raises(InputError, match="no scan files"):
        scan_files([tmp_path], "train")
