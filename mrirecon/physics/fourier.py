"""Centred, orthonormal Fourier transforms.

Zero frequency sits at index n // 2 of k-space and the field of view's centre at index n // 2 of the image, for even and
odd n. With norm="ortho" the transform is unitary, so its adjoint is its inverse.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def fftc(image: Tensor, dim: Sequence[int] = (-2, -1)) -> Tensor:
    """Image to k-space along `dim`."""
    shifted = torch.fft.ifftshift(image, dim=tuple(dim))
    return torch.fft.fftshift(torch.fft.fftn(shifted, dim=tuple(dim), norm="ortho"), dim=tuple(dim))


def ifftc(kspace: Tensor, dim: Sequence[int] = (-2, -1)) -> Tensor:
    """K-space to image along `dim`."""
    shifted = torch.fft.ifftshift(kspace, dim=tuple(dim))
    return torch.fft.fftshift(torch.fft.ifftn(shifted, dim=tuple(dim), norm="ortho"), dim=tuple(dim))


def centring_phases(n: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """The diagonals D_k and D_x, each of length n, with  centred FFT = D_k · FFT · D_x.

    With c = n // 2 the centred kernel exp(-2πi (k-c)(j-c) / n) splits into the plain one, exp(2πi c j / n) on the image
    side and exp(2πi c (k-c) / n) on the k-space side. For even n both are signs. Multiplying by them once replaces four
    array shifts in every pass of an iterative reconstruction. Device and complex dtype follow `like`.
    """
    c = n // 2
    # Exact integers modulo n keep the angles small, so that float32 phases stay accurate for large n.
    index = torch.arange(n, device=like.device)
    angle_x = 2 * math.pi / n * ((c * index) % n).double()
    angle_k = 2 * math.pi / n * ((c * (index - c)) % n).double()
    d_k = torch.polar(torch.ones_like(angle_k), angle_k).to(like.dtype)
    d_x = torch.polar(torch.ones_like(angle_x), angle_x).to(like.dtype)
    return d_k, d_x
