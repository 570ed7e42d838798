from pathlib import Path

import numpy as np
import pytest
import torch

from mrirecon.errors import CheckpointError
from mrirecon.models.blocks.unet import NormUNet, UNetBlock
from mrirecon.models.importers.unet_names import unet_names
from mrirecon.models.unet import UNet
from mrirecon.physics.sense import SenseOperator


def weights(data, prefix="w/"):
    return {name: torch.from_numpy(data[key]) for key, name in unet_names(data.files, prefix, "").items()}


@pytest.mark.parametrize("case", ["fastmri_unet_even", "fastmri_unet_odd"])
def test_the_block_is_fastmris(case: str, golden: Path):
    data = np.load(golden / f"{case}.npz")
    block = UNetBlock(1, 1, channels=4, pools=3)
    block.load_state_dict(weights(data))
    with torch.no_grad():
        out = block(torch.from_numpy(data["in/image"]))
    torch.testing.assert_close(out, torch.from_numpy(data["out/out"]), rtol=0, atol=1e-5)


def test_the_normalised_form_is_fastmris(golden: Path):
    data = np.load(golden / "fastmri_normunet.npz")
    network = NormUNet(channels=4, pools=2)
    network.unet.load_state_dict(weights(data, "w/unet."))
    image = torch.from_numpy(data["in/x"])[:, 0].permute(0, 3, 1, 2)
    with torch.no_grad():
        out = network(image).permute(0, 2, 3, 1)[:, None]
    torch.testing.assert_close(out, torch.from_numpy(data["out/out"]), rtol=0, atol=1e-5)


def test_foreign_parts_are_named():
    with pytest.raises(CheckpointError, match="attention"):
        unet_names(["down_sample_layers.0.layers.0.weight", "attention"], "", "")


def test_parameter_count_is_that_of_the_papers_comparison():
    assert sum(p.numel() for p in UNet(channels=64, pools=2).parameters()) == 1_860_866


def test_untrained_it_hands_the_image_on(measurement):
    m = measurement(2, 3, 48, 32)
    (estimate,) = UNet(channels=4, pools=2).eval()(m)
    torch.testing.assert_close(estimate, SenseOperator(m).adjoint_data, rtol=1e-2, atol=1e-2)


def test_magnitude_images_are_real_and_not_negative(measurement):
    (estimate,) = UNet(channels=4, pools=2, image="magnitude").eval()(measurement())
    assert estimate.imag.abs().max() == 0
    assert estimate.real.min() >= 0


def test_a_magnitude_cannot_be_made_consistent():
    with pytest.raises(ValueError, match="has no phase"):
        UNet(image="magnitude", data_consistency="soft")
