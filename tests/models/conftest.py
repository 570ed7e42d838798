from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from mrirecon.physics.fourier import fftc
from mrirecon.physics.measurement import Measurement
from mrirecon.physics.sense import SenseOperator

MakeMeasurement = Callable[..., Measurement]
GradientDescent = Callable[[Measurement, int], list[Tensor]]


@pytest.fixture(autouse=True)
def same_random_weights_every_time():
    """Some untrained networks amplify rounding; every run sees the same ones."""
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def measurement() -> MakeMeasurement:
    """Makes noisy slices of random images and maps, sampled at random points around a full centre."""

    def make(
        batch: int = 1, coils: int = 3, height: int = 15, width: int = 12, dtype: torch.dtype = torch.complex64
    ) -> Measurement:
        generator = torch.Generator().manual_seed(0)

        def random(*shape: int) -> Tensor:
            return torch.randn(shape, dtype=dtype, generator=generator)

        maps = random(batch, coils, height, width)
        maps = maps / maps.norm(dim=1, keepdim=True)
        mask = torch.rand(batch, 1, height, width, generator=generator) < 0.5
        mask[..., height // 2 - 2 : height // 2 + 3, width // 2 - 2 : width // 2 + 3] = True
        noise_std = torch.linspace(0.05, 0.1, batch, dtype=dtype.to_real())
        noise = noise_std[:, None, None, None] * random(batch, coils, height, width)
        kspace = fftc(maps * 0.3 * random(batch, 1, height, width)) + noise
        return Measurement(kspace * mask, mask, maps, noise_std)

    return make


@pytest.fixture(scope="session")
def gradient_descent() -> GradientDescent:
    """The images x ← x − A^H (A x − y) of so many steps from A^H y on, what many untrained networks compute."""

    def images(measurement: Measurement, steps: int) -> list[Tensor]:
        operator = SenseOperator(measurement)
        image, images = operator.adjoint_data, []
        for _ in range(steps):
            image = image - operator.gradient(image)
            images.append(image)
        return images

    return images
