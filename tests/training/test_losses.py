from pathlib import Path

import numpy as np
import pytest
import torch

from mrirecon.metrics import nmse, ssim
from mrirecon.models.cirim import CIRIM
from mrirecon.models.rim import RIM
from mrirecon.models.unet import UNet
from mrirecon.training.losses import l1, log_nmse, mse, ssim_loss, step_weights
from mrirecon.training.module import ReconstructionModule


def images(seed=0):
    generator = torch.Generator().manual_seed(seed)
    target = torch.randn(2, 20, 24, dtype=torch.complex64, generator=generator)
    return target, target + 0.3 * torch.randn(2, 20, 24, dtype=torch.complex64, generator=generator)


def test_losses_see_scale_and_phase():
    target, _ = images()
    for loss in (l1, mse):
        assert loss(target, target) == 0
        assert loss(2 * target, target) > 0
        assert loss(1j * target, target) > 0


def test_log_nmse_is_a_mean_of_decibels_but_for_its_scale():
    target, prediction = images()
    decibels = [10 * np.log10(nmse(t[None].numpy(), p[None].numpy())) for t, p in zip(target, prediction, strict=True)]
    assert log_nmse(prediction, target).item() * 10 / np.log(10) == pytest.approx(np.mean(decibels), abs=1e-2)
    assert log_nmse(5 * prediction, 5 * target).item() == pytest.approx(log_nmse(prediction, target).item(), abs=1e-5)
    air = torch.zeros_like(target).requires_grad_()
    log_nmse(air, torch.zeros_like(target)).backward()
    assert torch.isfinite(torch.view_as_real(air.grad)).all()


def test_ssim_loss_is_one_minus_the_metric():
    target, prediction = images()
    data_range = target.abs().amax().expand(2)
    expected = 1 - ssim(target.abs().numpy(), prediction.abs().numpy())
    assert ssim_loss(prediction.abs(), target.abs(), data_range).item() == pytest.approx(expected, abs=1e-5)


def test_ssim_loss_equals_fastmris(golden: Path):
    data = np.load(golden / "fastmri_losses_metrics.npz")
    prediction, target = (torch.from_numpy(data[f"in/{name}"]) for name in ("pred", "target"))
    loss = ssim_loss(prediction, target, torch.from_numpy(data["in/data_range"]))
    assert loss.item() == pytest.approx(float(data["out/ssim_loss"]), abs=1e-5)


def test_step_weights_grow_over_the_time_steps_of_each_cascade():
    weights = step_weights(CIRIM(cascades=2, channels=4, time_steps=3), 6)
    torch.testing.assert_close(weights, torch.tensor([0.1, 10**-0.5, 1, 0.1, 10**-0.5, 1]))
    assert step_weights(UNet(channels=2, pools=1), 1).tolist() == [1]


def test_every_estimate_counts_by_its_weight():
    target, prediction = images()
    estimates = [target, prediction, target]
    module = ReconstructionModule(RIM(channels=4, time_steps=3))
    weights = torch.tensor([0.1, 10**-0.5, 1])
    expected = weights[1] / weights.sum() * l1(prediction, target)
    torch.testing.assert_close(module.total_loss(estimates, target), expected)
    uniform = ReconstructionModule(RIM(channels=4, time_steps=3), loss_weighting="uniform")
    torch.testing.assert_close(uniform.total_loss(estimates, target), l1(prediction, target) / 3)


def test_a_share_of_ssim_replaces_that_share_of_the_loss():
    target, prediction = images()
    module = ReconstructionModule(RIM(channels=4, time_steps=1), ssim_share=0.9)
    structure = ssim_loss(prediction.abs(), target.abs(), target.abs().amax(dim=(-2, -1)))
    torch.testing.assert_close(module.total_loss([prediction], target), 0.1 * l1(prediction, target) + 0.9 * structure)
