"""Coil sensitivity maps from the fully sampled centre of k-space (ESPIRiT, Uecker et al., MRM 71:990, 2014)."""

import torch
from torch import Tensor

from mrirecon.errors import InputError
from mrirecon.physics.fourier import ifftc

KERNEL = 6
#: Singular vectors of the calibration matrix below this share of the largest singular value are noise.
SINGULAR_THRESHOLD = 0.02
#: Pixels whose eigenvalue is below this hold no signal that the maps can explain; maps are 0 there.
EIGENVALUE_CROP = 0.95
#: A wider calibration block costs time and adds little.
CALIBRATION_LIMIT = 24
#: A^(2^7) after seven squarings: as many power iterations as 128.
SQUARINGS = 7
#: Pixels per chunk are chosen so that one chunk's C × C matrices take about this many bytes.
CHUNK_BYTES = 2**24


def espirit(kspace: Tensor, mask: Tensor, calibration: Tensor | None = None) -> Tensor:
    """Sensitivity maps of measured slices, from their fully sampled centre only.

    kspace: complex (batch, coils, y, x), centred. mask: bool (batch, 1, y, x), axes of size 1 broadcast. calibration:
    bool like mask, the samples known to be the ACS; None = the largest fully sampled centred block of `mask`.
    Returns complex (batch, coils, y, x), contiguous: Σ|S|² = 1 in the object and 0 outside; 0 for dead coils and
    everywhere in empty slices. A single coil gets ones. The phase is that of the coils' principal component.
    Raises InputError if the centre is too small to calibrate from.
    """
    if kspace.shape[1] == 1:
        return torch.ones_like(kspace)
    centre = (mask if calibration is None else calibration).expand(kspace.shape[0], 1, *kspace.shape[-2:])
    maps = [_espirit_slice(k, calibration_width(m[0])) for k, m in zip(kspace, centre, strict=True)]
    return torch.stack(maps)


def root_sum_of_squares(kspace: Tensor) -> Tensor:
    """Magnitude image real (..., y, x) of multi-coil k-space complex (..., coils, y, x)."""
    return ifftc(kspace).abs().square().sum(dim=-3).sqrt()


def calibration_width(mask: Tensor) -> tuple[int, int]:
    """(rows, columns) of the largest fully sampled block around the centre of a bool mask (y, x); (0, 0) if none.

    A square grows first, then its rows and its columns, so that line masks give (all rows, ACS lines).
    """
    height, width = mask.shape

    def sampled(rows: int, columns: int) -> bool:
        top, left = height // 2 - rows // 2, width // 2 - columns // 2
        return rows <= height and columns <= width and bool(mask[top : top + rows, left : left + columns].all())

    side = 0
    while sampled(side + 1, side + 1):
        side += 1
    rows = columns = side
    while side and sampled(rows + 1, columns):
        rows += 1
    while side and sampled(rows, columns + 1):
        columns += 1
    return rows, columns


def _espirit_slice(kspace: Tensor, calibration: tuple[int, int]) -> Tensor:
    coils, height, width = kspace.shape
    rows, columns = (min(n, CALIBRATION_LIMIT) for n in calibration)
    kernel = min(KERNEL, rows // 2, columns // 2)
    if kernel < 2:
        raise InputError(
            f"the fully sampled centre of k-space is only {calibration[0]} × {calibration[1]} samples, too few to "
            "estimate coil sensitivity maps; acquire more calibration lines, or give maps (--maps FILE)."
        )
    top, left = height // 2 - rows // 2, width // 2 - columns // 2
    block = kspace[:, top : top + rows, left : left + columns]
    correlations = _kernel_correlations(block, kernel)
    reference = _principal_component(block)

    maps = torch.empty_like(kspace, memory_format=torch.contiguous_format)
    phases_x = _offset_phases(width, kernel, kspace)
    phases_y = _offset_phases(height, kernel, kspace)
    # Σ over the x offsets once for all rows: (coils, coils, offsets_y, x).
    partial = correlations @ phases_x.T
    chunk = max(1, CHUNK_BYTES // (coils * coils * width * kspace.element_size()))
    for start in range(0, height, chunk):
        stop = min(start + chunk, height)
        matrices = torch.einsum("yd,ijdx->yxij", phases_y[start:stop], partial)
        maps[:, start:stop] = _dominant_eigenvectors(matrices, reference).permute(2, 0, 1)
    return maps


def _kernel_correlations(block: Tensor, kernel: int) -> Tensor:
    """Correlations of the calibration kernels at all offsets: complex (coils, coils, 2·kernel-1, 2·kernel-1).

    The kernels V span the row space of the calibration matrix. The C × C matrix of pixel r in ESPIRiT's eigenproblem
    is Σ_d G(d) exp(2πi d·r/N), where G(d) gathers the entries of the projector V V^H whose k-space offset is d.
    """
    coils = block.shape[0]
    patches = block.unfold(1, kernel, 1).unfold(2, kernel, 1)  # (coils, positions_y, positions_x, kernel, kernel)
    matrix = patches.permute(1, 2, 0, 3, 4).reshape(-1, coils * kernel * kernel)
    eigenvalues, vectors = torch.linalg.eigh(matrix.T @ matrix.conj())
    signal = eigenvalues > SINGULAR_THRESHOLD**2 * eigenvalues[-1]
    basis = vectors * signal
    projector = (basis @ basis.mH).reshape(coils, kernel, kernel, coils, kernel, kernel) / kernel**2
    gathered = projector.new_zeros(coils, coils, 2 * kernel - 1, 2 * kernel - 1)
    for y in range(kernel):
        for x in range(kernel):
            entries = projector[:, y, x].flip(-1, -2)  # offsets y - b and x - b for b = kernel-1 … 0
            gathered[:, :, y : y + kernel, x : x + kernel] += entries
    return gathered


def _offset_phases(n: int, kernel: int, like: Tensor) -> Tensor:
    """exp(2πi d (j - n // 2) / n) for image index j and k-space offset d: complex (n, 2·kernel - 1)."""
    position = torch.arange(n, device=like.device) - n // 2
    offset = torch.arange(1 - kernel, kernel, device=like.device)
    angle = 2 * torch.pi / n * (position[:, None] * offset).double()
    return torch.polar(torch.ones_like(angle), angle).to(like.dtype)


def _principal_component(block: Tensor) -> Tensor:
    """Coil combination with the most signal in the calibration block: complex (coils,)."""
    samples = block.flatten(1)
    _, vectors = torch.linalg.eigh(samples @ samples.mH)
    return vectors[:, -1]


def _dominant_eigenvectors(matrices: Tensor, reference: Tensor) -> Tensor:
    """Unit eigenvectors (..., coils) of the largest eigenvalues of Hermitian (..., coils, coils), 0 below the crop."""
    tiny = torch.finfo(matrices.real.dtype).tiny
    power = matrices
    for _ in range(SQUARINGS):
        trace = power.diagonal(dim1=-2, dim2=-1).real.sum(dim=-1)
        power = power / trace.clamp_min(tiny)[..., None, None]
        power = power @ power
    # The powers are λ v v^H: any column is the eigenvector; the one of the strongest coil is the best conditioned.
    strongest = power.diagonal(dim1=-2, dim2=-1).abs().argmax(dim=-1)
    vector = power.take_along_dim(strongest[..., None, None], dim=-1).squeeze(-1)
    vector = vector / vector.norm(dim=-1, keepdim=True).clamp_min(tiny)
    eigenvalue = (vector.conj() * (matrices * vector[..., None, :]).sum(dim=-1)).sum(dim=-1).real
    virtual_coil = (vector * reference.conj()).sum(dim=-1, keepdim=True)
    phase = torch.polar(torch.ones_like(virtual_coil.real), -virtual_coil.angle())
    return torch.where((eigenvalue > EIGENVALUE_CROP)[..., None], vector * phase, 0)
