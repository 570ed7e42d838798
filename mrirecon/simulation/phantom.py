"""A numerical head phantom: axial slices of a made-up but anatomical head, in any contrast and matrix."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from mrirecon.physics.fourier import fftc, ifftc
from mrirecon.simulation.anatomy import Head
from mrirecon.simulation.contrast import protocol_of, signal
from mrirecon.simulation.lesions import place_lesions
from mrirecon.simulation.tissues import Tissue

Array = NDArray[np.float32]

#: Field of view (y, x) in mm that every head fits in. Pixels are square: the tighter axis decides their size.
FIELD_OF_VIEW_MM = (226.0, 184.0)
#: Stack of slices in mm: from the basal ganglia to under the vertex.
LEVELS_MM = (-4.0, 58.0)
#: The head is rendered on pixels no larger than this before its k-space is cropped to the matrix.
RENDER_PIXEL_MM = 0.5


@dataclass(frozen=True)
class Phantom:
    """A stack of axial slices.

    images: float32 (slices, y, x), real and band-limited to the matrix: k-space of a finer rendering was cropped, so
        edges ring as measured ones do, slightly below zero in places. The 99.9th percentile of the stack is 1.
    lesion_mask: bool, same shape, pixels that are lesion for the larger part.
    pixel_mm: side of the square pixels. spacing_mm: distance between slices.
    """

    images: Array
    lesion_mask: NDArray[np.bool_]
    pixel_mm: float
    spacing_mm: float


def head_phantom(shape: tuple[int, int], slices: int, contrast: str, seed: int, lesions: int = 0) -> Phantom:
    """Axial slices (slices, y, x) of the head that `seed` describes, in contrast "t1", "t2", "flair" or "pd".

    The head is the same for all contrasts and matrices. lesions: how many MS-like lesions (3 to 12 mm) it has. Raises
    UsageError for an unknown contrast.
    """
    protocol = protocol_of(contrast)
    spacing = (LEVELS_MM[1] - LEVELS_MM[0]) / slices
    levels = (LEVELS_MM[0] + spacing * (np.arange(slices) + 0.5)).astype(np.float32)
    head = Head(seed)
    head.lesions = place_lesions(head, levels, lesions, np.random.default_rng((seed, 1)))
    pixel = max(extent / n for extent, n in zip(FIELD_OF_VIEW_MM, shape, strict=True))
    finer = max(2, int(np.ceil(pixel / RENDER_PIXEL_MM)))
    y, x = (((np.arange(finer * n) - finer * n // 2) * pixel / finer).astype(np.float32) for n in shape)
    images, masks = [], []
    for z in levels.tolist():
        fractions = head.fractions(-y, x, z)
        t1_scale, t2_scale = head.parameter_scales(-y, x, z)
        image = sum(
            fractions[tissue] * signal(tissue, protocol, t1_scale, t2_scale)
            for tissue in Tissue
            if tissue != Tissue.AIR and fractions[tissue].any()
        )
        images.append(_crop_kspace(image, shape))
        masks.append(_crop_kspace(fractions[Tissue.LESION], shape) > 0.5)
    stack = np.stack(images)
    return Phantom(stack / np.percentile(stack, 99.9), np.stack(masks), pixel, spacing)


def _crop_kspace(image: NDArray[np.floating], shape: tuple[int, int]) -> Array:
    """The image on the coarser grid of `shape`, as a scanner that measures that much of k-space sees it."""
    kspace = fftc(torch.from_numpy(image))
    top, left = (n // 2 - m // 2 for n, m in zip(image.shape, shape, strict=True))
    block = kspace[top : top + shape[0], left : left + shape[1]]
    return (ifftc(block).real * (block.numel() / image.size) ** 0.5).numpy()
