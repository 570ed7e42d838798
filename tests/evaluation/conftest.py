import json
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from mrirecon.physics.fourier import fftc

WriteScan = Callable[..., Path]


@pytest.fixture
def write_scan(tmp_path: Path) -> WriteScan:
    """Writes a fully sampled scan in fastMRI layout: 2 slices, 4 coils, 64 × 64; slices get brighter."""

    def write(name: str = "head.h5", *, simulated: bool | None = True, rss: bool = False, noise: float = 1e-3) -> Path:
        y, x = np.meshgrid(np.linspace(-1, 1, 64), np.linspace(-1, 1, 64), indexing="ij")
        head = ((y / 0.85) ** 2 + (x / 0.7) ** 2 < 1) * (1 + 0.4 * np.sin(14 * x) * np.cos(11 * y))
        images = np.stack([head * (1 + 0.1 * index) for index in range(2)])[:, None] * np.exp(0.5j * x)
        centres = [(-1, -1), (-1, 1), (1, -1), (1, 1)]
        coils = np.stack([np.exp(-((y - v) ** 2 + (x - u) ** 2) / 3 + 1j * (v * y + u * x)) for v, u in centres])
        kspace = fftc(torch.from_numpy(images * coils)).numpy()
        rng = np.random.default_rng(0)
        kspace += noise * (rng.standard_normal(kspace.shape) + 1j * rng.standard_normal(kspace.shape))
        path = tmp_path / name
        with h5py.File(path, "w") as file:
            file["kspace"] = kspace.astype(np.complex64)
            if simulated is not None:
                file.attrs["provenance"] = json.dumps({"simulated": simulated})
            if rss:
                file["reconstruction_rss"] = np.sqrt((np.abs(images * coils) ** 2).sum(axis=1)).astype(np.float32)
        return path

    return write
