import numpy as np
import pytest
import torch

from mrirecon.physics.fourier import centring_phases, fftc, ifftc

SIZES = [(4, 4), (5, 4), (8, 7), (9, 5), (1, 6)]


@pytest.mark.parametrize("shape", SIZES)
def test_fft_is_numpys_centred_orthonormal_one(shape):
    image = np.random.default_rng(0).standard_normal((3, *shape, 2)).view(complex)[..., 0]
    expected = np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(image, axes=(-2, -1)), norm="ortho"), axes=(-2, -1))
    np.testing.assert_allclose(fftc(torch.from_numpy(image)).numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("shape", SIZES)
def test_inverse_undoes_and_energy_is_kept(shape):
    image = torch.randn(2, *shape, dtype=torch.complex128)
    torch.testing.assert_close(ifftc(fftc(image)), image)
    torch.testing.assert_close(fftc(image).norm(), image.norm())


@pytest.mark.parametrize("n", [1, 2, 3, 6, 7, 256, 501])
def test_centred_fft_is_a_plain_one_between_two_phases(n):
    image = torch.randn(n, dtype=torch.complex128)
    d_k, d_x = centring_phases(n, image)
    torch.testing.assert_close(d_k * torch.fft.fft(d_x * image, norm="ortho"), fftc(image, dim=(-1,)))


def test_a_point_in_the_image_centre_has_flat_kspace_without_phase():
    image = torch.zeros(7, 8, dtype=torch.complex64)
    image[3, 4] = 1
    torch.testing.assert_close(fftc(image), torch.full((7, 8), 1 / 56**0.5, dtype=torch.complex64))
