from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mrirecon.errors import InputError
from mrirecon.physics import coils
from mrirecon.physics.coils import calibration_width, espirit
from mrirecon.physics.fourier import fftc


def centre_mask(height, width, rows, columns):
    mask = torch.zeros(1, 1, height, width, dtype=torch.bool)
    top, left = height // 2 - rows // 2, width // 2 - columns // 2
    mask[..., top : top + rows, left : left + columns] = True
    return mask


def simulated(coil_count=4, size=48, seed=0):
    from mrirecon.simulation.coils import coil_maps

    rng = np.random.default_rng(seed)
    y, x = np.meshgrid(*2 * [np.linspace(-1, 1, size)], indexing="ij")
    image = ((y / 0.8) ** 2 + (x / 0.7) ** 2 < 1) * (1 + 0.5 * np.sin(7 * x) * np.cos(5 * y))
    maps = torch.from_numpy(coil_maps((size, size), coil_count, rng))
    return fftc(maps * torch.from_numpy(image))[None].to(torch.complex64), maps, torch.from_numpy(image > 0)


@pytest.mark.parametrize(
    ("case", "calibration", "kernel"), [("classical_espirit_64x64x8", 24, 6), ("classical_espirit_63x50x6", 18, 5)]
)
def test_maps_agree_with_converged_sigpy_up_to_phase(
    case: str, calibration: int, kernel: int, golden: Path, monkeypatch
):
    monkeypatch.setattr(coils, "KERNEL", kernel)
    data = np.load(golden / f"{case}.npz")
    kspace = torch.from_numpy(data["ksp"]).to(torch.complex64)[None]
    mask = centre_mask(*kspace.shape[-2:], calibration, calibration)
    maps = espirit(kspace * mask, mask)[0]
    assert maps.is_contiguous()
    support = maps.abs().sum(dim=0) > 0
    assert torch.equal(support, torch.from_numpy(np.abs(data["sigpy_maps"]).sum(axis=0) > 0))
    converged = torch.from_numpy(data["sigpy_maps_uncropped_500"]).to(torch.complex64)
    assert (maps.conj() * converged).sum(dim=0).abs()[support].min() > 0.9998


@pytest.mark.parametrize(("rows", "columns"), [(24, 24), (48, 20)])
def test_true_maps_are_found_in_the_object(rows, columns):
    kspace, true_maps, inside = simulated()
    mask = centre_mask(48, 48, rows, columns)
    maps = espirit(kspace * mask, mask)[0]
    support = maps.abs().sum(dim=0) > 0
    assert (support & inside).sum() > 0.97 * inside.sum()
    torch.testing.assert_close(maps.norm(dim=0)[support], torch.ones(int(support.sum())))
    agreement = (maps.conj() * true_maps).sum(dim=0).abs()[support & inside]
    assert agreement.quantile(0.02) > 0.99


def test_only_the_calibration_centre_matters():
    kspace, _, _ = simulated()
    mask = centre_mask(48, 48, 24, 24)
    elsewhere = torch.randn_like(kspace) * ~mask
    torch.testing.assert_close(espirit(kspace * mask + elsewhere, mask), espirit(kspace * mask, mask))


def test_dead_coils_and_empty_slices_stay_finite_zeros():
    kspace, _, _ = simulated()
    kspace[:, 0] = 0
    kspace = torch.cat([kspace, torch.zeros_like(kspace)])
    mask = centre_mask(48, 48, 24, 24)
    maps = espirit(kspace * mask, mask)
    assert torch.isfinite(torch.view_as_real(maps)).all()
    assert maps[:, 0].abs().max() == 0
    assert maps[1].abs().max() == 0
    assert maps[0].abs().max() > 0


def test_a_single_coil_has_maps_of_ones():
    kspace = torch.randn(2, 1, 8, 8, dtype=torch.complex64)
    assert torch.equal(espirit(kspace, torch.ones(1, 1, 8, 8, dtype=torch.bool)), torch.ones_like(kspace))


def test_too_small_a_centre_is_refused_with_its_size():
    kspace, _, _ = simulated()
    mask = centre_mask(48, 48, 3, 3)
    with pytest.raises(InputError, match="3 × 3"):
        espirit(kspace * mask, mask)


@given(st.integers(4, 20), st.integers(4, 20), st.data())
@settings(max_examples=50, deadline=None)
def test_the_largest_centred_block_is_found(height, width, data):
    rows, columns = data.draw(st.integers(1, height)), data.draw(st.integers(1, width))
    mask = centre_mask(height, width, rows, columns)[0, 0]
    assert calibration_width(mask) == (rows, columns)
    mask[height // 2, width // 2] = False
    assert calibration_width(mask) == (0, 0)
