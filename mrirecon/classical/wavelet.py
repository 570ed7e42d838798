"""Orthonormal wavelets with periodic borders, on batches of complex images, on CPU and GPU.

Every orthogonal wavelet of PyWavelets, in its alignment (mode "periodization"). One level along one axis is an
orthogonal band matrix. It is applied in blocks of 32 samples, each of which needs its own samples and the first few of
the next block: two plain matrix products, several times faster than strided convolutions and than the whole matrix.
On a CPU, in single precision, `shrink` goes through compiled loops instead (`classical.wavelet_kernel`).
"""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from mrirecon.physics.compiled import in_parts

#: Samples per block: the fastest of 16, 32 and 64 at 256 × 256.
BLOCK = 32

Shift = tuple[int, int]


class Wavelet:
    """W for images (batch, y, x) of one shape, dtype and device.

    name: an orthogonal wavelet that PyWavelets knows. levels: how often the low-pass band is split again.
    like: any complex tensor of the dtype and device wanted. The image's sides must be multiples of 2^levels, else
    ValueError: only then is there an orthonormal transform at every level. There must be a level.

    Coefficients stay where they arise: real and imaginary part (2, batch, y, x), low-pass at even and high-pass at odd
    indices of each axis, and the next level on the low-pass grid [::2, ::2]. So the approximation is
    [::2^levels, ::2^levels], and nothing is sorted that is only thresholded.
    """

    def __init__(self, name: str, shape: tuple[int, int], levels: int, like: Tensor):
        if any(n % 2**levels for n in shape):
            raise ValueError(f"{levels} levels need sides that are multiples of {2**levels}, not {shape}")
        if levels < 1:
            raise ValueError(f"a wavelet transform has at least one level, not {levels}")
        low, high = _filters(name)
        self.levels = levels
        self._start = len(low) // 2 - 1  # PyWavelets' first coefficient begins so many samples before the image
        self._filters, self._shape, self._like = (low, high), shape, like.real

    @cached_property
    def _bands(self) -> "list[list[_Band]]":
        """Of each level, along y and along x."""
        return [
            [_Band.make(*self._filters, n // 2**level, self._like) for n in self._shape] for level in range(self.levels)
        ]

    def forward(self, image: Tensor, shift: Shift = (0, 0)) -> Tensor:
        """W of the image moved circularly by `shift` (y, x): complex (batch, y, x) → real (2, batch, y, x)."""
        low = torch.view_as_real(image).movedim(-1, 0)
        for level, (y, x) in enumerate(self._bands):
            low = y.analyse_columns(x.analyse_rows(low.roll(self._moves(level, shift), (-2, -1))))
            if level == 0:
                coefficients = low
            else:
                coefficients[..., :: 2**level, :: 2**level] = low
            low = low[..., ::2, ::2]
        return coefficients

    def inverse(self, coefficients: Tensor, shift: Shift = (0, 0)) -> Tensor:
        """The image (batch, y, x) that `forward` makes these coefficients of. Overwrites `coefficients`."""
        for level, (y, x) in reversed(list(enumerate(self._bands))):
            low = coefficients[..., :: 2**level, :: 2**level]
            back = [-n for n in self._moves(level, shift)]
            low = x.synthesise_rows(y.synthesise_columns(low)).roll(back, (-2, -1))
            if level > 0:
                coefficients[..., :: 2**level, :: 2**level] = low
        return torch.complex(*low)

    def shrink(self, image: Tensor, threshold: float, approximation: bool = False, shift: Shift = (0, 0)) -> Tensor:
        """argmin_x ½‖x − image‖² + threshold · ‖W x‖₁, with W of x moved by `shift`: soft thresholding of magnitudes.

        approximation: threshold the coarsest low-pass band too.
        """
        if image.device.type == "cpu" and image.dtype == torch.complex64 and not image.requires_grad:
            return self._shrink_compiled(image, threshold, approximation, shift)
        coefficients = self.forward(image, shift)
        step = 2**self.levels
        coarse = coefficients[..., ::step, ::step].clone()
        magnitude = torch.hypot(*coefficients)
        tiny = torch.finfo(magnitude.dtype).tiny
        coefficients *= (magnitude - threshold).clamp_(min=0).div_(magnitude.clamp_(min=tiny))
        if not approximation:
            coefficients[..., ::step, ::step] = coarse
        return self.inverse(coefficients, shift)

    def _shrink_compiled(self, image: Tensor, threshold: float, approximation: bool, shift: Shift) -> Tensor:
        from mrirecon.classical import wavelet_kernel

        pixels = torch.view_as_real(image.resolve_conj().contiguous()).flatten(-2).numpy()
        shrunk, coefficients = (torch.empty(2, *image.shape) for _ in range(2))
        real, imag = coefficients.numpy()
        parts, bands = shrunk.flatten(0, 1).numpy(), coefficients.flatten(0, 1).numpy()
        taps = [filter_.float().numpy() for filter_ in self._filters]
        starts = -np.array([self._moves(level, shift) for level in range(self.levels)])

        def analyse(first: int, last: int, number: int) -> None:
            for k in range(first, last):
                part, entry = divmod(k, len(pixels))
                wavelet_kernel.analyse(pixels[entry], part, bands[k], *taps, self.levels, starts)

        def synthesise(first: int, last: int, number: int) -> None:
            for k in range(first, last):
                wavelet_kernel.synthesise(bands[k], parts[k], *taps, self.levels, starts)

        in_parts(analyse, len(bands))
        for entry in range(len(pixels)):
            wavelet_kernel.threshold(real[entry], imag[entry], np.float32(threshold), self.levels, approximation)
        in_parts(synthesise, len(bands))
        return torch.complex(*shrunk)

    def _moves(self, level: int, shift: Shift) -> list[int]:
        return [self._start + (n if level == 0 else 0) for n in shift]


@dataclass(frozen=True)
class _Band:
    """One level along one axis: blocks (…, size) times `own`, plus the head of the next block times `next`.

    own: (size, size). next: (size, taps − 2), or (size, 0) when one block is the whole axis.
    """

    own: Tensor
    next: Tensor

    @staticmethod
    def make(low: Tensor, high: Tensor, n: int, like: Tensor) -> "_Band":
        taps = len(low)
        columns = (torch.arange(0, n, 2)[:, None] + torch.arange(taps)) % n
        matrix = torch.zeros(n // 2, 2, n, dtype=torch.double)
        for row, taps_in_order in enumerate((low, high)):
            matrix[:, row].scatter_add_(1, columns, taps_in_order.expand(n // 2, taps))
        matrix = matrix.reshape(n, n).to(like)
        size = math.gcd(n, BLOCK)
        if size < taps - 2:
            size = n
        return _Band(matrix[:size, :size].contiguous(), matrix[:size, size : size + taps - 2].contiguous())

    def analyse_rows(self, image: Tensor) -> Tensor:
        """Along x of real (…, y, x)."""
        blocks = image.unflatten(-1, (-1, len(self.own)))
        bands = blocks @ self.own.T
        if heads := self.next.shape[1]:
            bands += blocks[..., :heads].roll(-1, -2) @ self.next.T
        return bands.flatten(-2)

    def analyse_columns(self, image: Tensor) -> Tensor:
        """Along y of real (…, y, x)."""
        blocks = image.unflatten(-2, (-1, len(self.own)))
        bands = self.own @ blocks
        if heads := self.next.shape[1]:
            bands += self.next @ blocks[..., :heads, :].roll(-1, -3)
        return bands.flatten(-3, -2)

    def synthesise_rows(self, bands: Tensor) -> Tensor:
        """The transpose of `analyse_rows`, which is its inverse."""
        blocks = bands.unflatten(-1, (-1, len(self.own)))
        image = blocks @ self.own
        if heads := self.next.shape[1]:
            image[..., :heads] += (blocks @ self.next).roll(1, -2)
        return image.flatten(-2)

    def synthesise_columns(self, bands: Tensor) -> Tensor:
        """The transpose of `analyse_columns`, which is its inverse."""
        blocks = bands.unflatten(-2, (-1, len(self.own)))
        image = self.own.T @ blocks
        if heads := self.next.shape[1]:
            image[..., :heads, :] += (self.next.T @ blocks).roll(1, -3)
        return image.flatten(-3, -2)


def _filters(name: str) -> tuple[Tensor, Tensor]:
    """Low-pass and high-pass taps, double, in the order in which they meet the samples."""
    import pywt

    wavelet = pywt.Wavelet(name)
    if not wavelet.orthogonal:
        raise ValueError(f"{name} is not an orthogonal wavelet; take one of db, sym or coif")
    return tuple(torch.tensor(taps[::-1], dtype=torch.double) for taps in (wavelet.dec_lo, wavelet.dec_hi))  # type: ignore[return-value]
