"""A numerical head phantom: axial slices of a made-up but anatomical head, in any contrast and matrix."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mrirecon.simulation.anatomy import Head, bounding_box
from mrirecon.simulation.contrast import protocol_of, signal
from mrirecon.simulation.images import on_coarser_matrix
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
    return head_phantoms(shape, slices, (contrast,), seed, lesions)[contrast]


def head_phantoms(
    shape: tuple[int, int], slices: int, contrasts: Sequence[str], seed: int, lesions: int = 0
) -> dict[str, Phantom]:
    """The `head_phantom` of each contrast; the anatomy, which takes most of the time, is made once for all."""
    protocols = {contrast: protocol_of(contrast) for contrast in contrasts}
    spacing = (LEVELS_MM[1] - LEVELS_MM[0]) / slices
    levels = (LEVELS_MM[0] + spacing * (np.arange(slices) + 0.5)).astype(np.float32)
    head = Head(seed)
    head.lesions = place_lesions(head, levels, lesions, np.random.default_rng((seed, 1)))
    pixel = max(extent / n for extent, n in zip(FIELD_OF_VIEW_MM, shape, strict=True))
    finer = max(2, int(np.ceil(pixel / RENDER_PIXEL_MM)))
    y, x = (((np.arange(finer * n) - finer * n // 2) * pixel / finer).astype(np.float32) for n in shape)
    images: dict[str, list[Array]] = {contrast: [] for contrast in contrasts}
    masks = []
    for z in levels.tolist():
        fractions = head.fractions(-y, x, z)
        t1_scale, t2_scale = head.parameter_scales(-y, x, z)
        boxes = [(tissue, bounding_box(fractions[tissue])) for tissue in Tissue if tissue != Tissue.AIR]
        for contrast, protocol in protocols.items():
            image = np.zeros_like(t1_scale)
            for tissue, box in boxes:
                image[box] += fractions[tissue][box] * signal(tissue, protocol, t1_scale[box], t2_scale[box])
            images[contrast].append(on_coarser_matrix(image, shape).real)
        masks.append(on_coarser_matrix(fractions[Tissue.LESION], shape).real > 0.5)
    stacks = {contrast: np.stack(images[contrast]) for contrast in contrasts}
    return {
        contrast: Phantom(stack / np.percentile(stack, 99.9), np.stack(masks), pixel, spacing)
        for contrast, stack in stacks.items()
    }
