"""The shipped networks do what their cards say, on simulated and on real k-space."""

from pathlib import Path

import numpy as np
import pytest
import torch

from mrirecon.acquisition.sampling import Sampling, undersample
from mrirecon.acquisition.scan import Scan
from mrirecon.classical.cg_sense import CGSense
from mrirecon.conditioning.opening import open_scan
from mrirecon.metrics import psnr
from mrirecon.physics.sampling import mask_by_name
from mrirecon.reconstruction.methods import default_method, method_by_name
from mrirecon.reconstruction.pipeline import measure, reconstruct_slice
from mrirecon.simulation.phantom import head_phantom
from mrirecon.simulation.scan import simulate_slices
from mrirecon.weights import shipped_models
from mrirecon.weights.intended import MEASURES, intended_ranges

#: PSNR (dB) on the simulated head when the weights were made. If it moves, they changed, or what they compute with did.
ON_THE_HEAD = {"cirim": 31.31, "irim": 31.66}


def scores(scan: Scan, sampling: Sampling, methods) -> list[float]:
    """PSNR in dB of each method on the scan's first slice, inside the support of the maps."""
    data = next(measure(scan, sampling, device=torch.device("cpu")))
    target, support = data.reference.abs().numpy()[None], data.support.numpy()
    return [psnr(target, reconstruct_slice(m, data).abs().numpy()[None], support) for m in methods]


@pytest.fixture(scope="module")
def head() -> tuple[Scan, Sampling]:
    images = np.abs(head_phantom((128, 104), 1, "t2", seed=5).images)
    kspace = next(iter(simulate_slices(images, coils=8, snr=40, seed=1)))
    scan = Scan(Path("head.h5"), "simulated", (1, *kspace.shape), lambda index: kspace)
    return scan, undersample(scan, mask_by_name("gaussian2d", 4, 20), seed=0)


def test_the_main_model_is_the_default_and_all_together_are_small():
    assert default_method() == "cirim"
    assert set(shipped_models()) == set(ON_THE_HEAD)
    assert sum(path.stat().st_size for path in shipped_models().values()) < 5_000_000


@pytest.mark.parametrize("name", ON_THE_HEAD)
def test_it_is_as_good_as_when_it_was_made_and_better_than_untrained_methods(name: str, head):
    names = ("zero-filled", "cg-sense", name)
    zero_filled, cg_sense, network = scores(*head, [method_by_name(name).reconstructor for name in names])
    assert network == pytest.approx(ON_THE_HEAD[name], abs=0.05)
    assert network > zero_filled + 3
    assert network > cg_sense + 0.3


@pytest.mark.parametrize("name", ON_THE_HEAD)
def test_its_card_states_ranges_and_when_not_to_trust_it(name: str):
    method = method_by_name(name)
    assert set(method.intended) == set(MEASURES)
    card = (Path(__file__).parents[2] / "docs" / "model_cards" / f"{name}.md").read_text(encoding="utf-8")
    assert "## When not to trust it" in card
    assert intended_ranges(card) == method.intended


@pytest.mark.parametrize("name", ON_THE_HEAD)
@pytest.mark.parametrize("mask", ["equi4", "gauss4"])
def test_at_4x_it_beats_cg_sense_at_its_best_step_on_a_real_scan_it_never_saw(name: str, mask: str, shared: Path):
    scan = open_scan(shared / "data" / "kspace" / "brain_pd_8ch_256x256.mat")
    stored = np.load(shared / "golden" / "bar_brain_pd.npz")[f"mask_{mask}"][None]
    sampling = Sampling(stored, "stored", 4.0, retrospective=True)
    network, *descents = scores(
        scan, sampling, [method_by_name(name).reconstructor, *(CGSense(steps) for steps in range(1, 13))]
    )
    assert network > max(descents) + 0.15
    assert max(descents) == pytest.approx({"equi4": 30.93, "gauss4": 37.85}[mask], abs=0.05)
