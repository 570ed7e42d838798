"""Coil compression: fewer coils, the same image, for less work."""

import pickle
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from mrirecon.acquisition.scan import Header, Scan
from mrirecon.classical.cg_sense import CGSense
from mrirecon.conditioning.compression import compress_coils
from mrirecon.conditioning.hybrid import to_hybrid
from mrirecon.errors import UsageError
from mrirecon.physics.coils import espirit
from mrirecon.physics.measurement import Measurement
from mrirecon.simulation.phantom import head_phantom
from mrirecon.simulation.scan import simulate_slices

Kind = Literal["svd", "geometric"]


@dataclass(frozen=True)
class Stored:
    """Slice index → k-space (coils, y, x)."""

    kspace: NDArray[np.complex64]

    def __call__(self, index: int) -> NDArray[np.complex64]:
        return self.kspace[index]


def scan_of(kspace: NDArray[np.complex64], **facts: object) -> Scan:
    given = {"header": Header(readout_axis="x"), **facts}
    return Scan(Path("scan.h5"), "test", kspace.shape, Stored(kspace), **given)  # type: ignore[arg-type]


@cache
def head(coils: int = 32) -> Scan:
    images = head_phantom((96, 80), 2, "t1", seed=1).images
    return scan_of(np.stack(list(simulate_slices(images, coils, np.inf, seed=0))))


def undersampled(scan: Scan, acs: int = 24) -> Scan:
    rows = np.arange(scan.shape[2])
    lines = (rows % 3 == 0) | (np.abs(rows - len(rows) // 2) < acs // 2)
    kspace = np.stack([scan.read_slice(index) for index in range(scan.slices)])
    return replace(scan, read_slice=Stored(kspace * lines[:, None]))


@cache
def volume() -> Scan:
    """A 3D scan of 24 coils in four rings along the readout, as partitions."""
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in (24, 32, 40)), indexing="ij")
    phantom = ((z**2 + y**2) / 0.7 + (x / 0.9) ** 2 < 1) * (1 + 0.3 * np.cos(9 * x) * np.cos(7 * y))
    coils = []
    for number in range(24):
        angle, along = np.pi / 3 * (number % 6) + 0.4 * (number // 6), -1 + 2 / 3 * (number // 6)
        cy, cz = 1.3 * np.cos(angle), 1.3 * np.sin(angle)
        distance = (y - cy) ** 2 + (z - cz) ** 2 + (x - along) ** 2 + 0.15
        coils.append(np.exp(1j * (number + 0.8 * x * np.sin(angle) + 0.5 * y * np.cos(angle))) / distance**1.5)
    images = np.stack(coils) * phantom
    shifted = np.fft.fftn(np.fft.ifftshift(images, axes=(1, 2, 3)), axes=(1, 2, 3), norm="ortho")
    kspace = np.fft.fftshift(shifted, axes=(1, 2, 3)).transpose(1, 0, 2, 3).astype(np.complex64)
    return scan_of(np.ascontiguousarray(kspace), stack="partitions")


def combined(scan: Scan) -> NDArray:
    """Root-sum-of-squares images (slices, y, x)."""
    axes = (-2, -1)
    images = (np.fft.fftshift(np.fft.ifft2(np.fft.ifftshift(k, axes=axes), norm="ortho"), axes=axes) for k in scan)
    return np.stack([np.linalg.norm(image, axis=0) for image in images])


def nrmse(scan: Scan, reference: Scan) -> float:
    full = combined(reference)
    return float(np.linalg.norm(combined(scan) - full) / np.linalg.norm(full))


def sense(scan: Scan) -> tuple[torch.Tensor, torch.Tensor]:
    """Image of the first slice by ESPIRiT and CG-SENSE, and the support of its maps."""
    kspace = torch.from_numpy(scan.kspace(0))[None]
    mask = (kspace != 0).any(dim=1, keepdim=True)
    maps = espirit(kspace, mask)
    (image,) = CGSense().eval()(Measurement(kspace=kspace, mask=mask, sensitivities=maps))
    return image[0].abs(), (maps != 0).any(dim=1)[0]


@pytest.fixture(scope="module")
def uncompressed() -> tuple[torch.Tensor, torch.Tensor]:
    return sense(undersampled(head()))


@pytest.mark.parametrize(("kind", "coils"), [("svd", 10), ("geometric", 6)])
def test_the_image_of_a_third_of_the_coils_differs_by_less_than_one_per_cent(kind: Kind, coils: int) -> None:
    scan = compress_coils(head(), coils, kind)
    assert scan.shape == (2, coils, 96, 80)
    assert nrmse(scan, head()) < 0.01


@pytest.mark.parametrize(("kind", "coils"), [("svd", 10), ("geometric", 8)])
def test_sense_of_undersampled_data_loses_less_than_one_per_cent(
    kind: Kind, coils: int, uncompressed: tuple[torch.Tensor, torch.Tensor]
) -> None:
    expected, support = uncompressed
    image, compressed_support = sense(compress_coils(undersampled(head()), coils, kind))
    both = support & compressed_support
    assert (image - expected)[both].norm() / expected[both].norm() < 0.01


def test_geometric_needs_fewer_coils_than_svd_for_the_same_error() -> None:
    hybrid = to_hybrid(volume())
    by_svd, by_position = (nrmse(compress_coils(hybrid, 6, kind), hybrid) for kind in ("svd", "geometric"))
    assert by_position < 0.5 * by_svd
    assert by_position < nrmse(compress_coils(hybrid, 9, "svd"), hybrid)
    assert nrmse(compress_coils(hybrid, 10, "geometric"), hybrid) < 0.01


def test_matrices_of_neighbouring_positions_are_aligned() -> None:
    matrices = compress_coils(to_hybrid(volume()), 6, "geometric").read_slice.matrices  # type: ignore[attr-defined]
    inside = matrices[6:-6]
    assert np.linalg.norm(np.diff(inside, axis=0), axis=(1, 2)).max() < 0.5
    identity = matrices @ matrices.conj().swapaxes(1, 2)
    np.testing.assert_allclose(identity, np.broadcast_to(np.eye(6), identity.shape), atol=1e-5)


@pytest.mark.parametrize("kind", ["svd", "geometric"])
def test_white_noise_stays_white(kind: Kind) -> None:
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(2, 32, 96, 80)) + 1j * rng.normal(size=(2, 32, 96, 80))
    scan = compress_coils(head(), 8, kind)
    reader = replace(scan.read_slice, read=Stored(noise.astype(np.complex64)))  # type: ignore[type-var]
    left = np.concatenate([reader(index).reshape(8, -1) for index in range(2)], axis=1)
    np.testing.assert_allclose(left @ left.conj().T / left.shape[1], 2 * np.eye(8), atol=0.1)


@pytest.mark.parametrize("kind", ["svd", "geometric"])
def test_a_share_of_the_energy_gives_the_fewest_coils_that_hold_it(kind: Kind) -> None:
    scan = compress_coils(head(), 0.98, kind)
    fewer = compress_coils(head(), scan.coils - 1, kind)
    assert 1 < scan.coils < 32

    def kept(scan: Scan) -> float:
        return float(scan.steps[-1].done.split(", ")[-1].split("%")[0])

    assert kept(fewer) < 98 <= kept(scan) + 0.005


@pytest.mark.parametrize("kind", ["svd", "geometric"])
def test_lines_that_were_not_measured_stay_exactly_zero(kind: Kind) -> None:
    scan = undersampled(head())
    before = (scan.kspace(1) != 0).any(axis=(0, 2))
    np.testing.assert_array_equal((compress_coils(scan, 8, kind).kspace(1) != 0).any(axis=(0, 2)), before)


def test_the_matrix_is_found_from_separate_calibration_and_applied_to_it() -> None:
    full = head()
    central = np.zeros_like(full.kspace(0))
    central[:, 40:56] = full.kspace(0)[:, 40:56]
    noise = np.random.default_rng(0).normal(size=full.shape).astype(np.complex64)
    scan = replace(full, read_slice=Stored(noise), read_calibration=Stored(np.stack([central] * 2)))
    compressed = compress_coils(scan, 8, "svd")
    assert compressed.read_calibration is not None
    kept = np.linalg.norm(compressed.read_calibration(0)) / np.linalg.norm(central)
    assert kept > 0.98
    assert compressed.read_calibration(0).shape == (8, 96, 80)


def test_without_a_fully_sampled_centre_the_central_samples_are_used() -> None:
    full = head()
    kspace = np.stack([full.kspace(index) for index in range(2)])
    kspace[:, :, ::2] = 0
    assert nrmse(compress_coils(scan_of(kspace), 10, "svd"), scan_of(kspace)) < 0.02


@pytest.mark.parametrize("coils", [32, 40])
def test_more_coils_than_there_are_leave_the_scan_as_it_is(coils: int) -> None:
    scan = compress_coils(head(), coils, "svd")
    assert scan.read_slice is head().read_slice
    assert scan.steps[-1].name == "compression"
    assert "left out" in scan.steps[-1].done


def test_dead_coils_do_no_harm() -> None:
    kspace = np.stack([head().kspace(index) for index in range(2)])
    kspace[:, 3] = 0
    scan = scan_of(kspace)
    assert nrmse(compress_coils(scan, 10, "svd"), scan) < 0.01


def test_geometric_without_a_known_readout_is_refused() -> None:
    with pytest.raises(UsageError, match="readout"):
        compress_coils(replace(head(), header=Header()), 8, "geometric")


def test_the_readout_may_be_y() -> None:
    turned = scan_of(np.ascontiguousarray(np.stack(list(head())).swapaxes(2, 3)), header=Header(readout_axis="y"))
    np.testing.assert_allclose(
        combined(compress_coils(turned, 5, "geometric")),
        combined(compress_coils(head(), 5, "geometric")).swapaxes(1, 2),
        atol=1e-3,
    )


def test_the_step_tells_the_energy_kept() -> None:
    by_svd, by_position = (compress_coils(head(), 8, kind).steps[-1].done for kind in ("svd", "geometric"))
    assert "32 coils compressed to 8 (svd, one matrix), 98." in by_svd
    assert "80 matrices along the readout), 99.99% of the energy kept" in by_position


@pytest.mark.parametrize("kind", ["svd", "geometric"])
def test_the_scan_crosses_process_borders(kind: Kind) -> None:
    scan = compress_coils(head(), 5, kind)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(scan)).kspace(0), scan.kspace(0))
