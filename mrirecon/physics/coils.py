"""Coil sensitivity maps from the fully sampled centre of k-space (ESPIRiT, Uecker et al., MRM 71:990, 2014)."""

import torch
from torch import Tensor

from mrirecon.errors import InputError
from mrirecon.physics.calibration import calibration_width
from mrirecon.physics.fourier import ifftc

#: Side of the kernels → how wide the calibration block must be for it, and at how many positions it must fit in. Coils
#: blur k-space over some three samples, so that about (side + 3)² kernels differ; measured with 2 to 16 coils.
KERNELS = {6: (13, 97), 5: (11, 77), 4: (9, 59), 3: (6, 36)}
#: With fewer coils than this, kernels of two samples leave nothing that tells signal from noise.
COILS_FOR_TWO = 6
#: Singular vectors of the calibration matrix below this share of the largest singular value are noise.
SINGULAR_THRESHOLD = 0.02
#: Pixels whose eigenvalue is below this hold no signal that the maps can explain; maps are 0 there.
EIGENVALUE_CROP = 0.95
#: A wider calibration block costs time and adds little.
CALIBRATION_LIMIT = 24
#: (A^(2^6))² = A^128 in the slowest pixels: as many power iterations.
SQUARINGS = 6
#: Squarings that nearly every pixel needs; only then is each asked whether it has converged.
UNCHECKED_SQUARINGS = 3
#: Share of other eigenvectors in A^n at which one more product, which squares it, leaves less than float32 resolves.
CONVERGED = 1e-3
#: Pixels per chunk are chosen so that one chunk's C × C matrices take about this many bytes: what a CPU's cache holds,
#: what keeps a GPU busy.
CHUNK_BYTES = {"cpu": 2**21, "cuda": 2**27}


def espirit(
    kspace: Tensor,
    mask: Tensor,
    calibration: Tensor | None = None,
    maps: int = 1,
    soft: tuple[float, float] | None = None,
) -> Tensor:
    """Sensitivity maps of measured slices, from their fully sampled centre only.

    kspace: complex (batch, coils, y, x), centred. mask: bool (batch, 1, y, x), axes of size 1 broadcast. calibration:
    bool like mask, the samples known to be the ACS; None = the largest fully sampled centred block of `mask`.
    Returns complex (batch, coils, y, x), contiguous: Σ|S|² = 1 in the object and 0 outside; 0 for dead coils and
    everywhere in empty slices. A single coil gets ones. The phase is that of the coils' principal component.

    maps: 2 returns (batch, 2, coils, y, x), by falling eigenvalue, orthogonal to one another. Where the object is
    larger than the field of view, two places fold onto one pixel and no single map explains the data; the model is then
    k = M F (S_1 x_1 + S_2 x_2) with an image per map, shown as sqrt(|x_1|² + |x_2|²). Elsewhere the second map is 0.

    soft: (low, high) eigenvalues between which the maps' weight rises from 0 to 1 along BART's S-shaped curve, in place
    of the sharp cut at EIGENVALUE_CROP.

    Raises InputError if the centre is too small to calibrate from.
    """
    batch, coils, height, width = kspace.shape
    found = kspace.new_zeros(batch, maps, coils, height, width)
    if coils == 1:
        found[:, 0] = 1
    else:
        centre = (mask if calibration is None else calibration).cpu().expand(-1, 1, height, width)
        sizes = [_calibration_size(m[0]) for m in centre] * (batch // len(centre))
        for size in set(sizes):
            slices = [i for i, other in enumerate(sizes) if other == size]
            found[slices] = _espirit(kspace if len(slices) == batch else kspace[slices], size, maps, soft)
    return found if maps > 1 else found[:, 0]


def root_sum_of_squares(kspace: Tensor) -> Tensor:
    """Magnitude image real (..., y, x) of multi-coil k-space complex (..., coils, y, x)."""
    return ifftc(kspace).abs().square().sum(dim=-3).sqrt()


def _calibration_size(mask: Tensor) -> tuple[int, int]:
    rows, columns = calibration_width(mask)
    if min(rows, columns) < 4:
        raise InputError(
            f"the fully sampled centre of k-space is only {rows} × {columns} samples, too few to "
            "estimate coil sensitivity maps; acquire more calibration lines, or give maps (--maps FILE)."
        )
    return min(rows, CALIBRATION_LIMIT), min(columns, CALIBRATION_LIMIT)


def _kernel_side(block: tuple[int, int], coils: int) -> int:
    """The largest kernel that a calibration block (rows, columns) holds at enough positions.

    With too few the kernels span only a part of the signal, and the maps explain that part alone: in a block of 12 × 12
    kernels of 6 in place of 4 cost a reconstruction of a measured brain 17 dB.
    """
    for side, (width, needed) in KERNELS.items():
        positions = (block[0] - side + 1) * (block[1] - side + 1)
        if min(block) >= width and positions >= needed:
            return side
    return 3 if coils < COILS_FOR_TWO and positions >= 2 * 3**2 else 2


def _espirit(kspace: Tensor, calibration: tuple[int, int], count: int, soft: tuple[float, float] | None) -> Tensor:
    """Maps (batch, count, coils, y, x) of slices with the same calibration block (rows, columns)."""
    batch, coils, height, width = kspace.shape
    rows, columns = calibration
    kernel = _kernel_side(calibration, coils)
    top, left = height // 2 - rows // 2, width // 2 - columns // 2
    block = kspace[..., top : top + rows, left : left + columns]
    correlations = _kernel_correlations(block, kernel)
    reference = _principal_component(block)
    phases_y = _offset_phases(height, kernel, kspace)
    phases_x = _offset_phases(width, kernel, kspace)

    maps = kspace.new_empty(batch, count, coils, height, width)
    chunk = CHUNK_BYTES[kspace.device.type] // (height * coils * coils * kspace.element_size())  # image columns
    together = max(1, chunk // width)
    step = max(1, chunk // min(together, batch))
    for first in range(0, batch, together):
        group = slice(first, first + together)
        for x in range(0, width, step):
            # Σ over the x offsets, then over the y offsets: (slices, y, columns · coils²).
            partial = phases_x[x : x + step] @ correlations[group]
            matrices = phases_y @ partial.flatten(-2)
            vectors = _leading_eigenvectors(matrices.reshape(-1, coils, coils), reference[group], count, soft)
            vectors = vectors.reshape(count, len(matrices), height, -1, coils)
            maps[group, ..., x : x + step] = vectors.permute(1, 0, 4, 2, 3)
    return maps


def _kernel_correlations(block: Tensor, kernel: int) -> Tensor:
    """Correlations of the calibration kernels at all offsets: complex (batch, 2·kernel-1, 2·kernel-1, coils²).

    The kernels V span the row space of the calibration matrix. The C × C matrix of pixel r in ESPIRiT's eigenproblem
    is Σ_d G(d) exp(2πi d·r/N), where G(d) gathers the entries of the projector V V^H whose k-space offset is d.
    """
    batch, coils = block.shape[:2]
    patches = block.unfold(2, kernel, 1).unfold(
        3, kernel, 1
    )  # (batch, coils, positions_y, positions_x, kernel, kernel)
    matrix = patches.permute(0, 2, 3, 4, 5, 1).reshape(batch, -1, kernel * kernel * coils)
    projector = _row_projector(matrix) / kernel**2
    projector = projector.reshape(batch, kernel, kernel, coils, kernel, kernel, coils).permute(0, 1, 2, 4, 5, 3, 6)
    gathered = projector.new_zeros(batch, 2 * kernel - 1, 2 * kernel - 1, coils, coils)
    for y in range(kernel):
        for x in range(kernel):
            entries = projector[:, y, x].flip(1, 2)  # offsets y - b and x - b for b = kernel-1 … 0
            gathered[:, y : y + kernel, x : x + kernel] += entries
    return gathered.flatten(-2)


def _row_projector(matrix: Tensor) -> Tensor:
    """Projectors complex (batch, n, n) onto the signal part of the rows of matrices (batch, m, n)."""
    wide = matrix.shape[1] < matrix.shape[2]
    eigenvalues, vectors = torch.linalg.eigh(matrix @ matrix.mH if wide else matrix.mT @ matrix.conj())
    signal = eigenvalues > SINGULAR_THRESHOLD**2 * eigenvalues[:, -1:]
    rank = max(1, int(signal.sum(dim=1).max()))  # the largest come last
    rows = (vectors.mH @ matrix if wide else vectors.mT)[:, -rank:]
    rows = rows * (matrix != 0).any(dim=1, keepdim=True)  # dead coils stay exactly zero
    rows = rows * (signal[:, -rank:] / rows.norm(dim=-1).clamp_min(torch.finfo(rows.real.dtype).tiny))[..., None]
    # Rounding leaves the weakest rows of a wide matrix not quite orthogonal: one Newton step to the inverse of R R^H.
    inverse = 2 * torch.eye(rank, dtype=rows.dtype, device=rows.device) - rows @ rows.mH
    return rows.mT @ inverse.mT @ rows.conj()


def _offset_phases(n: int, kernel: int, like: Tensor) -> Tensor:
    """exp(2πi d (j - n // 2) / n) for image index j and k-space offset d: complex (n, 2·kernel - 1)."""
    position = torch.arange(n, device=like.device) - n // 2
    offset = torch.arange(1 - kernel, kernel, device=like.device)
    angle = 2 * torch.pi / n * (position[:, None] * offset).double()
    return torch.polar(torch.ones_like(angle), angle).to(like.dtype)


def _principal_component(block: Tensor) -> Tensor:
    """Coil combination with the most signal in the calibration block: complex (batch, coils)."""
    samples = block.flatten(2)
    _, vectors = torch.linalg.eigh(samples @ samples.mH)
    return vectors[..., -1]


def _leading_eigenvectors(matrices: Tensor, reference: Tensor, count: int, soft: tuple[float, float] | None) -> Tensor:
    """Leading eigenvectors of Hermitian (pixels, coils, coils), weighted and phased: complex (count, pixels, coils).

    reference: complex (slices, coils), each for an equal share of the pixels.
    """
    low = EIGENVALUE_CROP if soft is None else soft[0]
    found = matrices.new_zeros(count, *matrices.shape[:2])
    index = torch.arange(len(matrices), device=matrices.device)
    slice_pixels = len(matrices) // len(reference)
    for number, weighted in enumerate(found):
        # No eigenvalue exceeds the Frobenius norm, so most of the background is left out at once.
        candidates = (_row_energies(matrices).sum(dim=-1) > low**2).nonzero().squeeze(-1)
        index, matrices = index[candidates], matrices.index_select(0, candidates)
        vectors = _dominant_eigenvectors(matrices, low)
        images = _apply(matrices, vectors)
        eigenvalues = (torch.view_as_real(vectors) * torch.view_as_real(images)).sum(dim=(-2, -1))
        weights = (eigenvalues > low).to(eigenvalues) if soft is None else _s_curve(eigenvalues, *soft)
        virtual_coil = (vectors * reference.conj()[index // slice_pixels]).sum(dim=-1)
        weighted[index] = vectors * torch.polar(weights, -virtual_coil.angle())[:, None]
        if number + 1 < count:  # (1 - v v^H) M (1 - v v^H)
            cross = vectors[:, :, None] * (images - vectors * eigenvalues[:, None] / 2).conj()[:, None]
            matrices = matrices - cross - cross.mH
    return found


def _dominant_eigenvectors(matrices: Tensor, floor: float) -> Tensor:
    """Unit eigenvectors (pixels, coils) of the largest eigenvalues of (pixels, coils, coils); 0 where below `floor`."""
    vectors = matrices.new_zeros(matrices.shape[:2])
    rest = torch.arange(len(matrices), device=matrices.device)
    power = matrices
    for squaring in range(1, SQUARINGS + 1):
        power = power @ power
        if squaring < UNCHECKED_SQUARINGS:
            continue
        # P = A^n is nearly μ v v^H: any column is the eigenvector; the one of the strongest coil is the best
        # conditioned. One product more squares the error. Pixels that have not converged are written again.
        energies = _row_energies(power)
        strongest = energies.argmax(dim=-1)[:, None, None]
        vectors[rest] = _apply(power, power.take_along_dim(strongest, dim=-1).squeeze(-1))
        # With eigenvalues μ of P, Σμ² / (Σμ)² is 1 less twice the share of the others.
        trace = power.diagonal(dim1=-2, dim2=-1).real.sum(dim=-1)
        unsettled = (energies.sum(dim=-1) <= (1 - CONVERGED) * trace**2) & (trace > floor ** (2**squaring))
        remaining = unsettled.nonzero().squeeze(-1)
        if not len(remaining):
            break
        rest, power = rest[remaining], power[remaining] / trace[remaining, None, None]
    length = torch.view_as_real(vectors).square().sum(dim=(-2, -1), keepdim=True).sqrt()[..., 0]
    return vectors / length.clamp_min(torch.finfo(length.dtype).tiny)


def _row_energies(matrices: Tensor) -> Tensor:
    """Σ_j |M_ij|²: real (pixels, coils)."""
    squares = torch.view_as_real(matrices).square().flatten(-2)
    return squares @ squares.new_ones(squares.shape[-1])  # a product is several times faster than a short sum


def _apply(matrices: Tensor, vectors: Tensor) -> Tensor:
    """M v for each pixel: a sum of products, since batched products with a single column are slow on a CPU."""
    return (matrices * vectors[:, None]).sum(dim=-1)


def _s_curve(values: Tensor, low: float, high: float) -> Tensor:
    x = (2 * (values - low) / (high - low) - 1).clamp(-1, 1)
    return 0.5 + x / (1 + x * x)
