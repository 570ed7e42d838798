"""The SENSE forward operator: the only place where masks, coils and FFTs meet.

    A = M F S        image x (batch, y, x)  →  k-space y (batch, coils, y, x)

S multiplies by the coil sensitivities, F is the centred orthonormal FFT, M keeps the sampled frequencies.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from mrirecon.physics.fourier import centring_phases
from mrirecon.physics.fused import FusedNormal, can_fuse
from mrirecon.physics.measurement import Measurement
from mrirecon.physics.noise import estimate_noise_std

#: Without autograd a CPU combines coils in groups of about this size for each thread, which stay in a core's cache: two
#: coils at 256 × 256.
GROUP_BYTES = 2**20


class SenseOperator:
    """A, A^H, A^H A and the likelihood gradient for one Measurement, with autograd through image and sensitivities.

    The centred FFT is D_k · FFT · D_x (see `centring_phases`). D_x is folded into the maps and conj(D_k) into the data
    when the operator is built, so loops hold plain FFTs only. Where the mask does not vary along an axis, that axis'
    transform cancels in A^H A and is left out. The transforms' scaling is folded into the mask's weights.

    A^H A is applied as conj(Σ S · F conj(M F S x)), since F^-1 k is the conjugate of F conj(k) but for the scaling: the
    mask's weights conjugate at no cost, by their sign on the imaginary parts. On a CPU in single precision all of it is
    one compiled loop (`physics.fused`).
    """

    def __init__(self, measurement: Measurement):
        if measurement.sensitivities is None:
            raise ValueError("SenseOperator needs sensitivities; estimate them first (physics.coils.espirit)")
        kspace, maps = measurement.kspace, measurement.sensitivities
        if maps.shape != kspace.shape:
            raise ValueError(f"sensitivities {tuple(maps.shape)} and k-space {tuple(kspace.shape)} differ in shape")
        height, width = kspace.shape[-2:]
        y_k, y_x = centring_phases(height, kspace)
        x_k, x_x = centring_phases(width, kspace)
        self._phase_k = y_k[:, None] * x_k
        self._mask = measurement.mask
        self._axes = tuple(axis for axis in (-2, -1) if _varies(self._mask, axis))
        self._maps = (maps * (y_x[:, None] * x_x)).contiguous()
        scaling = math.prod(kspace.shape[axis] for axis in self._axes)
        sampled = _collapse(self._mask, self._axes).to(kspace.real.dtype) / scaling
        self._weights = torch.stack((sampled, -sampled), dim=-1)
        self._kspace = kspace
        self._adjoint_data: Tensor | None = None
        self._noise_std = measurement.noise_std
        self._fused: FusedNormal | None = None

    def forward(self, image: Tensor) -> Tensor:
        """A x: complex (batch, y, x) → (batch, coils, y, x), centred, zero where not sampled."""
        return self.expand(image).mul_(self._mask)

    def adjoint(self, kspace: Tensor) -> Tensor:
        """A^H y: complex (batch, coils, y, x) → (batch, y, x). Values outside the mask are ignored."""
        return self._reduce(kspace, self._mask * self._phase_k.conj())

    def expand(self, image: Tensor) -> Tensor:
        """F S x: complex (batch, y, x) → (batch, coils, y, x), centred, of all frequencies."""
        return torch.fft.fft2(self._maps * image[:, None], norm="ortho").mul_(self._phase_k).contiguous()

    def reduce(self, kspace: Tensor) -> Tensor:
        """S^H F^-1 k: complex (batch, coils, y, x) → (batch, y, x), of all frequencies."""
        return self._reduce(kspace, self._phase_k.conj()[None, None])

    def normal(self, image: Tensor) -> Tensor:
        """A^H A x: complex (batch, y, x) → (batch, y, x)."""
        return self._normal(image) if self._maps.requires_grad else _Normal.apply(image, self)

    def _normal(self, image: Tensor) -> Tensor:
        if not torch.is_grad_enabled() and image.dtype == torch.complex64 and can_fuse(self._maps, self._axes):
            if self._fused is None:
                self._fused = FusedNormal(self._maps, self._weights[..., 0], self._axes)
                self._maps = self._fused.maps  # the same values, once in memory
            return self._fused(image)
        image = self._laid_out(image)
        self._maps = self._laid_out(self._maps)
        weights = self._weights.expand(len(image), -1, -1, -1, -1)

        def conjugate_images(entries: slice, coils: slice, out: Tensor | None = None) -> Tensor:
            kspace = torch.mul(self._maps[entries, coils], image[entries, None], out=out)
            if self._axes:
                kspace = torch.fft.fftn(kspace, dim=self._axes, norm="backward")
            torch.view_as_real(kspace).mul_(weights[entries])
            return torch.fft.fftn(kspace, dim=self._axes, norm="backward") if self._axes else kspace

        return self._combine(conjugate_images, image)

    def gradient(self, image: Tensor) -> Tensor:
        """A^H (A x − y), the gradient of ½‖A x − y‖² at `image` (batch, y, x)."""
        return self.normal(image) - self.adjoint_data

    @property
    def adjoint_data(self) -> Tensor:
        """A^H y of the measured data: the zero-filled, coil-combined image. Computed once."""
        if self._adjoint_data is None:
            self._adjoint_data = self.adjoint(self._kspace)
        return self._adjoint_data

    @property
    def noise_std(self) -> Tensor:
        """Noise level of the measurement, real (batch,); estimated from its outer samples if it came without one."""
        if self._noise_std is None:
            self._noise_std = estimate_noise_std(self._kspace, self._mask)
        return self._noise_std

    def _reduce(self, kspace: Tensor, weights: Tensor) -> Tensor:
        weights = weights.expand(len(kspace), -1, -1, -1)

        def conjugate_images(entries: slice, coils: slice, out: Tensor | None = None) -> Tensor:
            weighted = torch.mul(kspace[entries, coils], weights[entries], out=out)
            return torch.fft.fft2(weighted.conj_physical_(), norm="ortho")

        return self._combine(conjugate_images, kspace)

    def _combine(self, conjugate_images: Callable[..., Tensor], source: Tensor) -> Tensor:
        """S^H z, complex (batch, y, x), of coil images z.

        conjugate_images: makes conj(z) from `source`, for a slice of the batch and one of the coils, with a buffer of
        their shape to work in if there is one.
        """
        maps, everything = self._maps, slice(None)
        if torch.is_grad_enabled() and (source.requires_grad or maps.requires_grad):
            return (conjugate_images(everything, everything) * maps).sum(dim=1).conj_physical().contiguous()
        if source.device.type != "cpu":
            return conjugate_images(everything, everything).mul_(maps).sum(dim=1).conj_physical_().contiguous()
        batch, coils, height, width = maps.shape
        size = max(1, torch.get_num_threads() * GROUP_BYTES // (height * width * maps.element_size()))
        buffer = torch.empty_like(maps[:1, :size])  # fresh memory in each pass costs as much as what is done in it
        conjugate = torch.zeros_like(maps[:, 0])
        for entry in range(batch):
            for start in range(0, coils, size):
                group = maps[entry, start : start + size]
                made = conjugate_images(
                    slice(entry, entry + 1), slice(start, start + size), out=buffer[:, : len(group)]
                )
                for coil, coil_map in zip(made[0], group, strict=True):
                    conjugate[entry].addcmul_(coil, coil_map)
        return conjugate.conj_physical_().contiguous()

    def _laid_out(self, images: Tensor) -> Tensor:
        """(..., y, x), in memory with the axis last that alone is transformed: FFTs along strides are half as fast."""
        return images.mT.contiguous().mT if self._axes == (-2,) else images.contiguous()


class _Normal(torch.autograd.Function):
    """A^H A with constant maps. It is its own adjoint, so nothing is saved for the way back, at any order."""

    @staticmethod
    def forward(ctx: Any, image: Tensor, operator: SenseOperator) -> Tensor:
        ctx.operator = operator
        return operator._normal(image)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return ctx.operator.normal(gradient), None


def _varies(mask: Tensor, axis: int) -> bool:
    return bool(mask.shape[axis] > 1 and (mask != mask.narrow(axis, 0, 1)).any())


def _collapse(mask: Tensor, axes: tuple[int, ...]) -> Tensor:
    """The mask with size 1 along the axes where it is constant."""
    for axis in (-2, -1):
        if axis not in axes:
            mask = mask.narrow(axis, 0, 1)
    return mask
