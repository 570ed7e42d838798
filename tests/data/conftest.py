from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest


@pytest.fixture(autouse=True)
def cache_folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of scans, so that no test meets what another one left, and none writes to the user's."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    return folder


@pytest.fixture
def write_kspace() -> Callable[..., Path]:
    """Writes a file of fully sampled noise in fastMRI's layout."""

    def write(path: Path, shape: tuple[int, ...] = (2, 3, 24, 20), seed: int = 0, contrast: str = "AXT2") -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        with h5py.File(path, "w") as file:
            numbers = np.random.default_rng(seed).standard_normal((*shape, 2), dtype=np.float32)
            file["kspace"] = 1e-5 * numbers.view(np.complex64)[..., 0]
            file.attrs["acquisition"] = contrast
        return path

    return write
