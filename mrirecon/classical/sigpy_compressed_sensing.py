"""Compressed sensing with a wavelet prior, solved by SigPy: another program to check `compressed_sensing` against."""

import torch
from torch import Tensor

from mrirecon.physics.measurement import Measurement, Reconstructor


class SigpyCompressedSensing(Reconstructor):
    """min_x ½‖A x − y‖² + λ ‖W x‖₁  by FISTA, with Daubechies wavelets W and step 1; one slice at a time on the CPU.

    weight: λ, relative to k-space whose image is of order 1 (a scan divided by its scale).
    iterations: FISTA steps. wavelet: a name that PyWavelets knows.

    SigPy's wavelets see zeros beyond the border instead of a periodic image and are not shifted; the approximation is
    thresholded too.

    Gradients do not pass through. The result is zero where the sensitivity maps are: there the data say nothing.
    """

    def __init__(self, weight: float = 0.005, iterations: int = 30, wavelet: str = "db4"):
        super().__init__()
        self.weight = weight
        self.iterations = iterations
        self.wavelet = wavelet

    @torch.no_grad()
    def forward(self, measurement: Measurement) -> list[Tensor]:
        kspace, maps = measurement.kspace, measurement.sensitivities
        if maps is None:
            raise ValueError("SigpyCompressedSensing needs sensitivities; estimate them first (physics.coils.espirit)")
        masks = measurement.mask.expand(kspace.shape[0], 1, *kspace.shape[-2:])
        images = [self._slice(*parts) for parts in zip(kspace.cpu(), maps.cpu(), masks.cpu(), strict=True)]
        return [torch.stack(images).to(kspace.device)]

    def _slice(self, kspace: Tensor, maps: Tensor, mask: Tensor) -> Tensor:
        """One image (y, x) from k-space and maps (coils, y, x) and mask (1, y, x)."""
        from sigpy.mri.app import L1WaveletRecon

        solver = L1WaveletRecon(
            kspace.numpy(),
            maps.numpy(),
            self.weight,
            weights=mask.to(kspace.real.dtype).numpy(),  # else SigPy takes measured zeros for unmeasured samples
            wave_name=self.wavelet,
            alpha=1,  # the step: ‖A‖ ≤ 1 because Σ|S|² ≤ 1
            max_iter=self.iterations,
            show_pbar=False,
        )
        image: Tensor = torch.from_numpy(solver.run())
        return image * (maps != 0).any(dim=0)
