import numpy as np
import pytest
import torch

from mrirecon.batch.noise_map import LATTICE, REPLICAS, lattice_of, noise_map
from mrirecon.classical.cg_sense import CGSense
from mrirecon.physics.measurement import Measurement
from mrirecon.physics.sampling import mask_by_name


def test_lattices_are_found_with_their_centre_and_their_unmeasured_edge() -> None:
    def lines(step: int, first: int, width: int = 60) -> np.ndarray:
        mask = np.zeros((40, width), bool)
        mask[:, first::step] = True
        return mask

    assert lattice_of(np.ones((40, 60), bool)) == (1, 1)
    assert lattice_of(lines(3, 1)) == (1, 3)
    assert lattice_of(lines(3, 1).T) == (3, 1)
    with_centre = lines(4, 2)
    with_centre[:, 24:36] = True
    assert lattice_of(with_centre) == (1, 4)
    partial = with_centre.copy()
    partial[:, :13] = False
    assert lattice_of(partial) == (1, 4)
    both = np.zeros((40, 60), bool)
    both[::3, 1::2] = True
    assert lattice_of(both) == (3, 2)


@pytest.mark.parametrize("kind", ["random", "gaussian1d", "poisson2d"])
def test_what_is_not_regular_is_no_lattice(kind: str) -> None:
    assert lattice_of(mask_by_name(kind, 3.0).mask((64, 60), 0).numpy()) is None


@pytest.fixture
def maps() -> torch.Tensor:
    """Four smooth coils (1, 4, 32, 36) with Σ|S|² = 1 in an ellipse."""
    y, x = np.meshgrid(np.linspace(-1, 1, 32), np.linspace(-1, 1, 36), indexing="ij")
    centres = [(-1, -1), (-1, 1), (1, -1), (1, 1)]
    coils = np.stack([np.exp(-((y - v) ** 2 + (x - u) ** 2) + 1j * (v * y + u * x)) for v, u in centres])
    coils = coils / np.linalg.norm(coils, axis=0) * ((y / 0.9) ** 2 + (x / 0.8) ** 2 < 1)
    return torch.from_numpy(coils.astype(np.complex64))[None]


COUNT = 64


def measured_noise(maps: torch.Tensor, mask: torch.Tensor, iterations: int) -> torch.Tensor:
    """Standard deviation over many reconstructions of noise."""
    noise = torch.randn(COUNT, *maps.shape[1:], dtype=torch.complex64, generator=torch.Generator().manual_seed(1)) * 0.1
    measurement = Measurement(noise * mask, mask.expand(COUNT, -1, -1, -1), maps.expand(COUNT, -1, -1, -1))
    return CGSense(iterations)(measurement)[-1].abs().square().mean(dim=0).sqrt()


@pytest.mark.parametrize("steps", [(1, 1), (1, 2), (2, 2)])
def test_the_formula_is_what_reconstructions_of_noise_show(maps: torch.Tensor, steps: tuple[int, int]) -> None:
    mask = torch.zeros(1, 1, 32, 36, dtype=torch.bool)
    mask[..., :: steps[0], :: steps[1]] = True
    measurement = Measurement(torch.zeros_like(maps), mask, maps)
    noise, how = noise_map(measurement, torch.tensor([0.1]))
    assert how == LATTICE
    inside = (maps != 0).any(dim=1)[0]
    assert not noise[0][~inside].any()
    ratio = noise[0][inside] / measured_noise(maps, mask, iterations=40)[inside]
    assert ratio.median() == pytest.approx(1, abs=0.03)
    assert ((ratio - 1).abs() < 0.25).float().mean() > 0.95


def test_replicas_are_what_reconstructions_of_noise_show(maps: torch.Tensor) -> None:
    mask = mask_by_name("gaussian1d", 2.0).mask((32, 36), 0)[None, None]
    measurement = Measurement(torch.zeros_like(maps), mask, maps)
    noise, how = noise_map(measurement, torch.tensor([0.1]))
    assert how == REPLICAS
    inside = (maps != 0).any(dim=1)[0]
    ratio = noise[0][inside] / measured_noise(maps, mask, iterations=6)[inside]
    assert ratio.median() == pytest.approx(1, abs=0.1)


def test_replicas_can_be_asked_for(maps: torch.Tensor) -> None:
    mask = torch.ones(1, 1, 32, 36, dtype=torch.bool)
    measurement = Measurement(torch.zeros_like(maps), mask, maps)
    noise, how = noise_map(measurement, torch.tensor([0.1]), "replica")
    assert how == REPLICAS
    inside = (maps != 0).any(dim=1)[0]
    assert noise[0][inside].median() == pytest.approx(0.1, rel=0.15)
