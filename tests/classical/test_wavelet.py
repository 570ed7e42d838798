"""Claims about the wavelet transform, on PyWavelets' own coefficients."""

import numpy as np
import pytest
import pywt
import torch
from torch import Tensor

from mrirecon.classical.wavelet import Wavelet

NAMES = ["haar", "db2", "db4", "db10", "db20", "sym5", "coif2"]


def random_image(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.complex128, generator=torch.Generator().manual_seed(3))


def in_pywavelets_order(coefficients: Tensor, levels: int) -> Tensor:
    """Real (2, batch, y, x), bands interleaved → complex (batch, y, x), bands side by side as `coeffs_to_array` has."""
    result = torch.complex(*coefficients)
    for level in range(levels):
        low = result[..., : result.shape[-2] >> level, : result.shape[-1] >> level]
        for axis in (-2, -1):
            order = torch.arange(low.shape[axis]).view(-1, 2).T.flatten()
            low[:] = low.index_select(axis, order)
    return result


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.filterwarnings("ignore:Level value")  # filters longer than the image; they wrap around
@pytest.mark.parametrize(("shape", "levels"), [((48, 40), 3), ((64, 96), 1), ((32, 256), 4)])
def test_coefficients_are_pywavelets(name, shape, levels):
    image = random_image(2, *shape)
    coefficients = in_pywavelets_order(Wavelet(name, shape, levels, image).forward(image), levels)
    bands = pywt.wavedec2(image.numpy(), name, mode="periodization", level=levels)
    expected, _ = pywt.coeffs_to_array(bands, axes=(-2, -1))
    np.testing.assert_allclose(coefficients.numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("name", ["haar", "db2", "db4"])
def test_coefficients_are_those_on_file(shared, name):
    with np.load(shared / "golden" / "classical_operators.npz") as file:
        image, expected = torch.from_numpy(file["image"]), file[f"pywt_periodization_{name}_level3"]
    coefficients = in_pywavelets_order(Wavelet(name, (48, 40), 3, image).forward(image[None]), 3)[0]
    np.testing.assert_allclose(coefficients.numpy(), expected, atol=2e-6 * np.abs(expected).max())


@pytest.mark.parametrize("name", NAMES)
def test_the_transform_keeps_the_norm_and_its_inverse_undoes_it(name):
    image = random_image(2, 64, 40)
    wavelet = Wavelet(name, (64, 40), 3, image)
    coefficients = wavelet.forward(image, (3, 6))
    torch.testing.assert_close(coefficients.norm(), image.abs().norm())
    torch.testing.assert_close(wavelet.inverse(coefficients, (3, 6)), image, rtol=0, atol=1e-10)


def test_a_shift_moves_the_image_before_the_transform():
    image = random_image(1, 32, 32)
    wavelet = Wavelet("db4", (32, 32), 2, image)
    torch.testing.assert_close(wavelet.forward(image, (1, 5)), wavelet.forward(image.roll((1, 5), (-2, -1))))


@pytest.mark.parametrize("approximation", [False, True])
def test_shrinking_is_soft_thresholding_of_magnitudes(approximation):
    image = random_image(1, 32, 48)
    wavelet = Wavelet("db2", (32, 48), 2, image)
    before = torch.complex(*wavelet.forward(image))
    after = torch.complex(*wavelet.forward(wavelet.shrink(image, 0.9, approximation)))
    expected = before * (1 - 0.9 / before.abs()).clamp(min=0)
    if not approximation:
        expected[:, ::4, ::4] = before[:, ::4, ::4]
    torch.testing.assert_close(after, expected)


@pytest.mark.parametrize("approximation", [False, True])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("shape", "levels"), [((48, 40), 3), ((64, 96), 1), ((32, 256), 4), ((2, 2), 1)])
def test_the_compiled_loops_shrink_as_the_tensors_do(name, shape, levels, approximation):
    image = random_image(2, *shape)
    expected = Wavelet(name, shape, levels, image).shrink(image, 0.7, approximation, (3, 5))
    single = image.to(torch.complex64)
    found = Wavelet(name, shape, levels, single).shrink(single, 0.7, approximation, (3, 5))
    torch.testing.assert_close(found, expected.to(torch.complex64), rtol=0, atol=3e-6)
    assert torch.equal(single, image.to(torch.complex64))


def test_shrinking_by_nothing_and_shrinking_nothing_are_safe():
    image = random_image(1, 32, 32)
    wavelet = Wavelet("db4", (32, 32), 2, image)
    torch.testing.assert_close(wavelet.shrink(image, 0.0), image)
    assert not wavelet.shrink(torch.zeros_like(image), 0.0).any()


def test_sides_that_cannot_be_halved_and_wavelets_that_are_not_orthogonal_are_refused():
    with pytest.raises(ValueError, match="at least one level"):
        Wavelet("db4", (32, 32), 0, random_image(1, 32, 32))
    with pytest.raises(ValueError, match="multiples of 8"):
        Wavelet("db4", (32, 36), 3, random_image(1))
    with pytest.raises(ValueError, match="not an orthogonal wavelet"):
        Wavelet("bior2.2", (32, 32), 3, random_image(1))
