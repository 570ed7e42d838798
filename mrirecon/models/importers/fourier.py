"""The Fourier transform of a toolbox whose own is not the centred, orthonormal one."""

from typing import Literal

import torch
from torch import Tensor

from mrirecon.physics.fourier import ifftc

Norm = Literal["ortho", "backward", "forward"]
AXES = (-2, -1)


class PeerFourier:
    """Another toolbox's 2D transform, over the last two axes of complex tensors.

    centered: index n // 2 is the zero frequency and the middle of the image; otherwise index 0 of k-space is the zero
    frequency, and images, which are never shifted, begin at their corner. norm: as in `torch.fft`. Networks that work
    in k-space have learned in that layout and scale; networks in the image do not see the difference.
    """

    def __init__(self, centered: bool, norm: Norm):
        self.centered = centered
        self.norm = norm

    def forward(self, image: Tensor) -> Tensor:
        """Image to the toolbox's k-space."""
        if not self.centered:
            return torch.fft.fftn(image, dim=AXES, norm=self.norm)
        shifted = torch.fft.ifftshift(image, dim=AXES)
        return torch.fft.fftshift(torch.fft.fftn(shifted, dim=AXES, norm=self.norm), dim=AXES)

    def inverse(self, kspace: Tensor) -> Tensor:
        """The toolbox's k-space to image."""
        if not self.centered:
            return torch.fft.ifftn(kspace, dim=AXES, norm=self.norm)
        shifted = torch.fft.ifftshift(kspace, dim=AXES)
        return torch.fft.fftshift(torch.fft.ifftn(shifted, dim=AXES, norm=self.norm), dim=AXES)

    def kspace(self, kspace: Tensor) -> Tensor:
        """The toolbox's k-space of the same image as centred, orthonormal k-space."""
        same = self.centered and self.norm == "ortho"
        return kspace if same else self.forward(ifftc(kspace))

    def mask(self, mask: Tensor) -> Tensor:
        """A mask of centred k-space in the toolbox's layout; axes of size 1 stay."""
        return mask if self.centered else torch.fft.ifftshift(mask, dim=AXES)
