import numpy as np
import pytest

from mrirecon.physics.fourier import fftc
from mrirecon.simulation.anatomy import Head
from mrirecon.simulation.phantom import Phantom, head_phantom
from mrirecon.simulation.tissues import Tissue


@pytest.fixture(scope="module")
def phantom() -> Phantom:
    return head_phantom((64, 64), 2, "t2", seed=3, lesions=4)


@pytest.fixture(scope="module")
def fractions() -> np.ndarray:
    y, x = np.arange(100, -100, -1.0, dtype=np.float32), np.arange(-90, 90, 1.0, dtype=np.float32)
    return Head(5).fractions(y, x, 8.0)


def test_tissue_fractions_are_fractions(fractions: np.ndarray) -> None:
    assert fractions.min() >= 0
    np.testing.assert_allclose(fractions.sum(axis=0), 1, atol=1e-5)


def test_a_slice_through_the_basal_ganglia_holds_what_it_should_in_plausible_amounts(fractions: np.ndarray) -> None:
    area = fractions.sum(axis=(1, 2)) / 100  # cm²
    assert set(np.flatnonzero(area > 0)) == set(Tissue) - {Tissue.LESION, Tissue.VITREOUS}
    assert 30 < area[Tissue.GREY] < 110
    assert 40 < area[Tissue.WHITE] < 130
    assert 0.5 < area[Tissue.GREY] / area[Tissue.WHITE] < 1.5
    assert 2 < area[Tissue.THALAMUS] < 9
    assert 0.5 < area[Tissue.CAUDATE] < 5


def test_many_pixels_are_mixtures(fractions: np.ndarray) -> None:
    assert 0.1 < (fractions.max(axis=0) < 0.98)[fractions[Tissue.AIR] < 0.5].mean() < 0.8


def test_left_and_right_differ(fractions: np.ndarray) -> None:
    grey = fractions[Tissue.GREY]
    assert np.abs(grey - grey[:, ::-1]).sum() > 0.3 * grey.sum()


def test_slices_differ_and_are_finite(phantom: Phantom) -> None:
    assert phantom.images.shape == (2, 64, 64)
    assert phantom.images.dtype == np.float32
    assert np.isfinite(phantom.images).all()
    assert np.corrcoef(phantom.images[0].ravel(), phantom.images[1].ravel())[0, 1] < 0.95


def test_the_seed_decides_everything(phantom: Phantom) -> None:
    again = head_phantom((64, 64), 2, "t2", seed=3, lesions=4)
    np.testing.assert_array_equal(again.images, phantom.images)
    np.testing.assert_array_equal(again.lesion_mask, phantom.lesion_mask)
    assert np.abs(head_phantom((64, 64), 1, "t2", seed=4).images - phantom.images).max() > 0.3


@pytest.mark.parametrize("shape", [(65, 48), (33, 64)])
def test_any_matrix_shows_the_same_head(shape: tuple[int, int]) -> None:
    image = head_phantom(shape, 1, "pd", seed=3).images[0]
    assert image.shape == shape
    edge = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
    assert np.abs(edge).max() < 0.25 < image.mean() * 2, "the head fits in the field of view"


def test_a_coarse_matrix_sees_the_middle_of_a_fine_ones_k_space() -> None:
    fine, coarse = (head_phantom((n, n), 1, "t1", seed=1).images[0] for n in (128, 64))
    import torch

    centre = fftc(torch.from_numpy(fine))[48:80, 48:80].numpy()
    middle = fftc(torch.from_numpy(coarse))[16:48, 16:48].numpy()
    # Both are normalised by their own brightest pixels, and rendered on different fine grids.
    assert abs(np.vdot(centre, middle)) > 0.995 * np.linalg.norm(centre) * np.linalg.norm(middle)


def test_edges_ring_as_measured_ones(phantom: Phantom) -> None:
    outside = phantom.images[0, :4]
    assert 1e-5 < np.abs(outside).max() < 0.1


def test_lesions_lie_where_the_mask_says_and_are_bright_in_flair() -> None:
    with_lesions, without = (head_phantom((128, 128), 1, "flair", seed=2, lesions=n) for n in (8, 0))
    mask = with_lesions.lesion_mask
    assert 10 < mask.sum() < 1000
    assert not without.lesion_mask.any()
    change = np.abs(with_lesions.images / with_lesions.images[~mask].max() - without.images / without.images.max())
    assert change[mask].mean() > 10 * change[~mask].mean()
    assert with_lesions.images[mask].mean() > 1.3 * np.median(without.images[without.images > 0.2])
