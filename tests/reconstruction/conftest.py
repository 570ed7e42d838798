from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from mrirecon.acquisition.scan import Header, Scan
from mrirecon.physics.fourier import fftc

MakeScan = Callable[..., Scan]


@pytest.fixture(scope="session")
def slice_kspace() -> NDArray[np.complex64]:
    """Fully sampled k-space (4 coils, 48, 40) of an ellipse with detail, smooth coils and a little noise."""
    generator = np.random.default_rng(0)
    y, x = np.meshgrid(np.linspace(-1, 1, 48), np.linspace(-1, 1, 40), indexing="ij")
    image = ((y / 0.8) ** 2 + (x / 0.7) ** 2 < 1) * (1 + 0.5 * np.sin(12 * x) * np.cos(9 * y)) * np.exp(0.5j * x)
    centres = [(-1, -1), (-1, 1), (1, -1), (1, 1)]
    coils = np.stack([np.exp(-((y - v) ** 2 + (x - u) ** 2) / 3 + 1j * (v * y + u * x)) for v, u in centres])
    noise = generator.standard_normal((2, 4, 48, 40)) * 0.005
    return (fftc(torch.from_numpy(coils * image)).numpy() + noise[0] + 1j * noise[1]).astype(np.complex64)


@pytest.fixture
def make_scan(tmp_path: Path, slice_kspace: NDArray[np.complex64]) -> MakeScan:
    """A Scan whose slice i is the fully sampled slice times i + 1, changed by `edit(kspace, index)`."""

    def make(slices: int = 2, edit: Callable | None = None, header: Header | None = None) -> Scan:
        def read_slice(index: int) -> NDArray[np.complex64]:
            kspace = slice_kspace * np.float32(index + 1)
            if edit:
                edit(kspace, index)
            return kspace

        shape = (slices, *slice_kspace.shape)
        return Scan(tmp_path / "scan.h5", "test", shape, read_slice, header=header or Header())

    return make
