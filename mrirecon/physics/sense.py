"""The SENSE forward operator: the only place where masks, coils and FFTs meet.

    A = M F S        image x (batch, y, x)  →  k-space y (batch, coils, y, x)

S multiplies by the coil sensitivities, F is the centred orthonormal FFT, M keeps the sampled frequencies.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from mrirecon.physics.fourier import centring_phases
from mrirecon.physics.measurement import Measurement
from mrirecon.physics.noise import estimate_noise_std

#: Without autograd a CPU combines coils in groups of about this size, which stay in a core's cache: two at 256 × 256.
GROUP_BYTES = 2**20


class SenseOperator:
    """A, A^H, A^H A and the likelihood gradient for one Measurement, with autograd through image and sensitivities.

    The centred FFT is D_k · FFT · D_x (see `centring_phases`). D_x is folded into the maps and conj(D_k) into the data
    when the operator is built, so loops hold plain FFTs only. Where the mask does not vary along an axis, that axis'
    transform cancels in A^H A and is left out. The transforms' scaling is folded into the mask's weights.
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
        self._maps = (maps * (y_x[:, None] * x_x)).contiguous()
        self._mask = measurement.mask
        self._axes = tuple(axis for axis in (-2, -1) if _varies(self._mask, axis))
        scaling = math.prod(kspace.shape[axis] for axis in self._axes)
        # Complex, like what they multiply: torch multiplies mixed types at half the speed.
        self._weights = _collapse(self._mask, self._axes).to(kspace.dtype) / scaling
        self._kspace = kspace
        self._adjoint_data: Tensor | None = None
        self._noise_std = measurement.noise_std

    def forward(self, image: Tensor) -> Tensor:
        """A x: complex (batch, y, x) → (batch, coils, y, x), centred, zero where not sampled."""
        return self.expand(image).mul_(self._mask)

    def adjoint(self, kspace: Tensor) -> Tensor:
        """A^H y: complex (batch, coils, y, x) → (batch, y, x). Values outside the mask are ignored."""
        return self._reduce(kspace, self._mask * self._phase_k.conj())

    def expand(self, image: Tensor) -> Tensor:
        """F S x: complex (batch, y, x) → (batch, coils, y, x), centred, of all frequencies."""
        return torch.fft.fft2(self._maps * image[:, None], norm="ortho").mul_(self._phase_k)

    def reduce(self, kspace: Tensor) -> Tensor:
        """S^H F^-1 k: complex (batch, coils, y, x) → (batch, y, x), of all frequencies."""
        return self._reduce(kspace, self._phase_k.conj()[None, None])

    def normal(self, image: Tensor) -> Tensor:
        """A^H A x: complex (batch, y, x) → (batch, y, x)."""
        weights = self._weights.expand(len(image), -1, -1, -1)

        def coil_images(entries: slice, coils: slice) -> Tensor:
            product = self._maps[entries, coils] * image[entries, None]
            if not self._axes:
                return product * weights[entries]
            kspace = torch.fft.fftn(product, dim=self._axes, norm="backward").mul_(weights[entries])
            return torch.fft.ifftn(kspace, dim=self._axes, norm="forward")

        return self._combine(coil_images, image)

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

        def coil_images(entries: slice, coils: slice) -> Tensor:
            return torch.fft.ifft2(kspace[entries, coils] * weights[entries], norm="ortho")

        return self._combine(coil_images, kspace)

    def _combine(self, coil_images: Callable[[slice, slice], Tensor], source: Tensor) -> Tensor:
        """S^H of what `coil_images` makes from `source` for slices of the batch and of the coils: (batch, y, x)."""
        tracked = torch.is_grad_enabled() and (source.requires_grad or self._maps.requires_grad)
        if tracked or source.device.type != "cpu":
            return (self._maps.conj() * coil_images(slice(None), slice(None))).sum(dim=1)
        batch, coils, height, width = self._maps.shape
        size = max(1, GROUP_BYTES // (height * width * self._maps.element_size()))
        conjugate = self._maps.new_zeros(batch, height, width)
        for entry in range(batch):
            for start in range(0, coils, size):
                group = slice(start, start + size)
                made = coil_images(slice(entry, entry + 1), group)[0].conj_physical_()
                for maps, coil in zip(self._maps[entry, group], made, strict=True):
                    conjugate[entry].addcmul_(maps, coil)
        return conjugate.conj_physical_()


def _varies(mask: Tensor, axis: int) -> bool:
    return bool(mask.shape[axis] > 1 and (mask != mask.narrow(axis, 0, 1)).any())


def _collapse(mask: Tensor, axes: tuple[int, ...]) -> Tensor:
    """The mask with size 1 along the axes where it is constant."""
    for axis in (-2, -1):
        if axis not in axes:
            mask = mask.narrow(axis, 0, 1)
    return mask
