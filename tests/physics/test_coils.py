import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mrirecon.errors import InputError
from mrirecon.physics import coils
from mrirecon.physics.coils import calibration_width, espirit
from mrirecon.physics.fourier import fftc, ifftc


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
    monkeypatch.setattr(coils, "KERNELS", {kernel: (0, 0)})
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


@pytest.mark.parametrize("coil_count", [4, 8, 16])
@pytest.mark.parametrize(("rows", "columns"), [(96, 7), (96, 10), (8, 8), (10, 10), (12, 12), (16, 16)])
def test_a_small_centre_gives_maps_as_good_as_a_large_one(rows, columns, coil_count):
    kspace, _, inside = simulated(coil_count, 96)
    noise = torch.randn(kspace.shape, dtype=kspace.dtype, generator=torch.Generator().manual_seed(0))
    coil_images = ifftc(kspace + 0.02 * noise)

    def left_out(block: tuple[int, int]) -> float:
        maps = espirit(fftc(coil_images), centre_mask(96, 96, *block))
        rest = coil_images - maps * (maps.conj() * coil_images).sum(dim=1, keepdim=True)
        return float(rest[..., inside].norm())

    assert left_out((rows, columns)) < 1.35 * left_out((24, 24))


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


def test_a_batch_gives_what_its_slices_give_though_their_masks_differ():
    kspace = torch.cat([simulated(seed=seed)[0] for seed in range(4)])
    mask = torch.cat([centre_mask(48, 48, rows, 20) for rows in (24, 16, 48, 24)])
    together = espirit(kspace * mask, mask, maps=2)
    alone = [espirit(k[None] * m, m[None], maps=2)[0] for k, m in zip(kspace, mask, strict=True)]
    torch.testing.assert_close(together, torch.stack(alone), rtol=0, atol=5e-6)


@pytest.mark.parametrize("shape", [(48, 40), (47, 41)])
def test_chunks_do_not_change_the_maps(shape, monkeypatch):
    kspace = torch.cat([simulated(seed=seed)[0][..., : shape[0], : shape[1]] for seed in range(3)])
    mask = centre_mask(*shape, 20, 20)
    maps = espirit(kspace * mask, mask)
    for size in (1, 2**15, 2**19):
        monkeypatch.setitem(coils.CHUNK_BYTES, "cpu", size)
        torch.testing.assert_close(espirit(kspace * mask, mask), maps, rtol=0, atol=5e-6)


@pytest.mark.parametrize("coil_count", [4, 12])  # more, and fewer, kernel positions than unknowns
def test_maps_are_leading_eigenvectors_and_single_precision_is_enough(coil_count):
    kspace, _, _ = simulated(coil_count)
    kspace = kspace + 0.01 * torch.randn(kspace.shape, dtype=kspace.dtype, generator=torch.Generator().manual_seed(0))
    mask = centre_mask(48, 48, 24, 24)
    single, double = espirit(kspace, mask)[0], espirit(kspace.to(torch.complex128), mask)[0]
    correlations = coils._kernel_correlations(kspace[..., 12:36, 12:36].to(torch.complex128), 6)
    phases = coils._offset_phases(48, 6, double)
    matrices = torch.einsum("yd,xe,deij->yxij", phases, phases, correlations[0].unflatten(-1, 2 * (coil_count,)))
    eigenvalues, vectors = torch.linalg.eigh(matrices)
    support = double.norm(dim=0) > 0
    assert torch.equal(support, eigenvalues[..., -1] > coils.EIGENVALUE_CROP)
    agreement = (vectors[..., -1] * double.permute(1, 2, 0).conj()).sum(dim=-1).abs()[support]
    assert agreement.min() > 1 - 1e-6
    both = support & (single.norm(dim=0) > 0)
    assert (support ^ both).sum() <= 2
    torch.testing.assert_close(single[:, both].to(double.dtype), double[:, both], rtol=0, atol=1e-4)


def folded(rows=80, size=128):
    """K-space of an object taller than its field of view, and how many of its places fold onto each pixel (y, x)."""
    kspace, _, inside = simulated(8, size)
    whole = ifftc(kspace)
    image, places = torch.zeros_like(whole[..., :rows, :]), torch.zeros(rows, size, dtype=torch.long)
    for start in range(0, size, rows):
        part = whole[..., start : start + rows, :]
        image[..., : part.shape[-2], :] += part
        places[: part.shape[-2]] += inside[start : start + rows]
    return fftc(image), places


def test_a_second_map_explains_a_folded_field_of_view():
    kspace, places = folded()
    mask = centre_mask(*kspace.shape[-2:], 24, 24)
    maps = espirit(kspace, mask, maps=2)
    torch.testing.assert_close(maps[:, 0], espirit(kspace, mask), rtol=0, atol=1e-6)
    image = ifftc(kspace)
    explained = (maps * (maps.conj() * image[:, None]).sum(dim=2, keepdim=True)).sum(dim=1)
    first_only = maps[:, 0] * (maps[:, 0].conj() * image).sum(dim=1, keepdim=True)
    both = places == 2
    assert (maps[0, 1].norm(dim=0) > 0)[both].all()
    assert (image - explained)[..., both].norm() < 0.02 * image[..., both].norm()
    assert (image - first_only)[..., both].norm() > 0.2 * image[..., both].norm()
    assert (maps[:, 0].conj() * maps[:, 1]).sum(dim=1).abs().max() < 1e-5


@pytest.mark.skipif(shutil.which("bart") is None, reason="bart is not on the PATH")
def test_two_maps_span_what_those_of_bart_span(tmp_path):
    kspace, _ = folded()
    height, width = kspace.shape[-2:]
    (tmp_path / "k.hdr").write_text(f"# Dimensions\n{width} {height} 1 {kspace.shape[1]}\n")
    kspace[0].numpy().tofile(tmp_path / "k.cfl")
    command = ["bart", "ecalib", "-m2", "-r24", "-k6", "-t0.0004", "-c0.95", "k", "maps"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    bart = np.fromfile(tmp_path / "maps.cfl", np.complex64).reshape(2, -1, height, width)
    ours = espirit(kspace, centre_mask(height, width, 24, 24), maps=2)[0]
    theirs = torch.from_numpy(bart)
    both = (ours.norm(dim=1) > 0.5).all(dim=0) & (theirs.norm(dim=1) > 0.5).all(dim=0)
    assert both.sum() > 0.9 * (theirs.norm(dim=1) > 0.5).all(dim=0).sum()
    overlap = torch.einsum("mcp,ncp->pmn", ours[..., both].conj(), theirs[..., both])
    assert torch.linalg.svdvals(overlap)[:, -1].quantile(0.05) > 0.99


def test_a_soft_crop_fades_the_maps_between_its_eigenvalues():
    kspace, _, _ = simulated()
    mask = centre_mask(48, 48, 24, 24)
    soft, low, high = (
        espirit(kspace, mask, soft=soft)[0].norm(dim=0) for soft in [(0.6, 0.98), (0.6, 0.6001), (0.98, 0.9801)]
    )
    torch.testing.assert_close(soft[high > 0.9999], torch.ones(int((high > 0.9999).sum())))
    assert soft[low == 0].max() == 0
    assert ((soft > 0.1) & (soft < 0.9)).any()


def test_a_single_coil_has_maps_of_ones():
    kspace = torch.randn(2, 1, 8, 8, dtype=torch.complex64)
    assert torch.equal(espirit(kspace, torch.ones(1, 1, 8, 8, dtype=torch.bool)), torch.ones_like(kspace))


def test_a_single_coil_has_no_second_map():
    maps = espirit(torch.randn(1, 1, 8, 8, dtype=torch.complex64), torch.ones(1, 1, 8, 8, dtype=torch.bool), maps=2)
    assert torch.equal(maps[0, :, 0].real, torch.stack([torch.ones(8, 8), torch.zeros(8, 8)]))


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


@pytest.mark.parametrize("coils", [1, 2, 5, 32])
def test_arrays_of_any_kind_have_maps_of_unit_length_that_differ(coils):
    from mrirecon.simulation.coils import any_coil_maps

    for seed in range(5):
        maps = any_coil_maps((20, 30), coils, np.random.default_rng(seed))
        assert maps.dtype == np.complex64
        np.testing.assert_allclose((np.abs(maps) ** 2).sum(axis=0), 1, rtol=1e-5)
        if coils > 1:
            assert np.linalg.matrix_rank(maps.reshape(coils, -1)) > 1


def test_virtual_coils_keep_the_root_sum_of_squares_or_drop_the_weakest():
    from mrirecon.simulation.coils import virtual_coils

    kspace = simulated(8)[0][0].numpy()
    energy = (np.abs(kspace) ** 2).sum()
    counts = set()
    for seed in range(40):
        mixed = virtual_coils(kspace, np.random.default_rng(seed))
        counts.add(len(mixed))
        share = (np.abs(mixed) ** 2).sum() / energy
        assert share == pytest.approx(1, abs=1e-5) if len(mixed) == 8 else 0.8 < share < 1
    assert max(counts) == 8
    assert min(counts) >= 4
    assert len(counts) > 1
