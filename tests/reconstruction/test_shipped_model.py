"""The shipped network does what its model card says, on simulated and on real k-space."""

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


def scores(scan: Scan, sampling: Sampling, methods) -> list[float]:
    """PSNR in dB of each method on the scan's first slice, inside the support of the maps."""
    data = next(measure(scan, sampling, device=torch.device("cpu")))
    target, support = data.reference.abs().numpy()[None], data.support.numpy()
    return [psnr(target, reconstruct_slice(m, data).abs().numpy()[None], support) for m in methods]


def test_it_is_the_default_and_beats_the_untrained_methods_on_a_simulated_head():
    assert default_method() == "cirim_small"
    images = np.abs(head_phantom((128, 104), 1, "t2", seed=5).images)
    kspace = next(iter(simulate_slices(images, coils=8, snr=40, seed=1)))
    scan = Scan(Path("head.h5"), "simulated", (1, *kspace.shape), lambda index: kspace)
    sampling = undersample(scan, mask_by_name("gaussian2d", 4, 20), seed=0)
    zero_filled, cg_sense, network = scores(
        scan, sampling, [method_by_name(name).reconstructor for name in ("zero-filled", "cg-sense", "cirim_small")]
    )
    assert network > zero_filled + 3
    assert network > cg_sense + 0.5


@pytest.mark.parametrize("mask", ["equi4", "gauss4"])
def test_at_4x_it_beats_cg_sense_at_its_best_step_on_a_real_scan_it_never_saw(mask: str, shared: Path):
    scan = open_scan(shared / "data" / "kspace" / "brain_pd_8ch_256x256.mat")
    stored = np.load(shared / "golden" / "bar_brain_pd.npz")[f"mask_{mask}"][None]
    sampling = Sampling(stored, "stored", 4.0, retrospective=True)
    network, *descents = scores(
        scan, sampling, [method_by_name("cirim_small").reconstructor, *(CGSense(steps) for steps in range(1, 13))]
    )
    assert network > max(descents) + 0.3
    assert max(descents) == pytest.approx({"equi4": 30.93, "gauss4": 37.85}[mask], abs=0.05)
