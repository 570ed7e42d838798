"""A run so small that it takes a moment."""

import pytest
import torch

from mrirecon.benchmark.measure import Settings


@pytest.fixture
def tiny() -> Settings:
    """One round, one thread, 3 coils × 48²."""
    return Settings(
        device=torch.device("cpu"),
        threads=1,
        coils=3,
        matrix=(48, 48),
        rounds=1,
        quick=True,
        knee=(2, 40, 32),
        files=3,
        slices=2,
    )
