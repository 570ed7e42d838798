from pathlib import Path

import numpy as np
import pytest
import torch

from mrirecon.acquisition.sampling import undersample
from mrirecon.acquisition.scan import Scan
from mrirecon.physics.sampling import mask_by_name
from mrirecon.reconstruction.pipeline import SliceData, measure
from mrirecon.simulation.scan import simulate_scan


@pytest.fixture(scope="session")
def disc() -> Scan:
    """A fully sampled scan of 1 slice, 4 coils, 48 × 40: an even disc of 1 with a darker half, SNR 40."""
    y, x = np.mgrid[-1:1:48j, -1:1:40j]
    image = (y**2 + x**2 < 0.8) * (1 - 0.2 * (x > 0))
    kspace, _ = simulate_scan(image[None].astype(np.float32), 4, 40, 0)
    return Scan(Path("disc.h5"), "simulated", kspace.shape, lambda index: kspace[index])


@pytest.fixture(scope="session", params=["equispaced", "gaussian2d"])
def data(disc: Scan, request: pytest.FixtureRequest) -> SliceData:
    """The disc, three times undersampled by lines or by points."""
    sampling = undersample(disc, mask_by_name(request.param, 3, 12), 0)
    return next(measure(disc, sampling, device=torch.device("cpu")))
