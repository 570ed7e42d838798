"""Lesions inserted into a scan: which of them does a reconstruction show, and where does it show some that are not?

Every lesion has one number in every image, its share: 0 is the contrast that its place has in the fully sampled image
without it, 1 the contrast in the fully sampled image with it. Contrast is (mean inside − mean of the ring) / mean of
the ring (`metrics.lesion_contrast`). In an image of the scan with lesions, a share of at least one half means that the
lesion is detected; in an image of the scan without, that one appears where there is none.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from mrirecon.acquisition.sampling import undersample
from mrirecon.acquisition.scan import Scan
from mrirecon.evaluation.figures import REFERENCE
from mrirecon.metrics import RING, LesionRegion, lesion_contrast
from mrirecon.physics.coils import espirit
from mrirecon.physics.fourier import fftc, ifftc
from mrirecon.physics.sampling import SamplingMask
from mrirecon.reconstruction.methods import Method
from mrirecon.reconstruction.pipeline import measure, reconstruct_slice

#: From this share on a lesion counts as seen.
SEEN = 0.5
#: Pixels between a lesion's edge and the edge of the object, real lesions, or half the way to another inserted one.
MARGIN = 1
#: Rows and columns of the pictures of lesions.
ZOOM = 24
#: Lesions are put into the most even fifth of the places that are free: in noise-like detail nobody could tell.
EVEN_SHARE = 0.2

Image = NDArray[np.float32]
Region = NDArray[np.bool_]


@dataclass(frozen=True)
class LesionStudy:
    """Which lesions. diameters: pixels; contrasts: relative to the tissue; repeats: of all, in other places."""

    diameters: tuple[float, ...] = (3, 6)
    contrasts: tuple[float, ...] = (0.2, 0.4)
    repeats: int = 1


@dataclass(frozen=True)
class Inserted:
    """One lesion. profile: float (y, x), the tissue's relative change; region: its pixels and its ring."""

    diameter: float
    contrast: float
    profile: Image
    region: LesionRegion


@dataclass(frozen=True)
class Finding:
    """One lesion in one method's images: its share where it was inserted, and where it was not."""

    slice: int
    row: int
    column: int
    diameter: float
    contrast: float
    inserted: float
    clean: float

    @property
    def detected(self) -> bool:
        """Whether the image of the scan with the lesion shows it."""
        return self.inserted >= SEEN

    @property
    def falsely_appears(self) -> bool:
        """Whether the image of the scan without it shows one."""
        return self.clean >= SEEN


@dataclass(frozen=True)
class Study:
    """What a study found, by method, a line for each lesion.

    zooms: magnitudes (2, ZOOM, ZOOM) around its place, without and with it; also of the fully sampled image, REFERENCE.
    """

    findings: dict[str, list[Finding]]
    zooms: dict[str, list[Image]]


def study(
    scan: Scan,
    mask: SamplingMask,
    methods: Sequence[Method],
    lesions: LesionStudy,
    known: Region | None,
    device: torch.device,
) -> Study:
    """What each method shows of a fully sampled scan, undersampled by `mask`, with and without lesions.

    known: bool (slices, y, x), lesions that the scan has, which inserted ones keep away from. Places are random, seeded
    by the scan's name. A lesion for which there is no room in a slice is left out.
    """
    rng = np.random.default_rng(list(scan.name.encode()))
    support, plain = _images(scan, mask, methods, device)
    findings: dict[str, list[Finding]] = {method.name: [] for method in methods}
    zooms: dict[str, list[Image]] = {name: [] for name in (REFERENCE, *findings)}
    for _ in range(lesions.repeats):
        placed = [
            place(image, inside, None if known is None else known[index], index, lesions, rng)
            for index, (image, inside) in enumerate(zip(plain[REFERENCE], support, strict=True))
        ]
        if not any(placed):
            continue
        _, changed = _images(with_lesions(scan, placed), mask, methods, device)
        for lesion in [lesion for some in placed for lesion in some]:
            absent, present = (lesion_contrast(images[REFERENCE], lesion.region) for images in (plain, changed))
            row, column = np.argwhere(lesion.region.inside).mean(axis=0).round().astype(int).tolist()
            index = lesion.region.index
            for name in zooms:
                zooms[name].append(np.stack([_zoom(images[name][index], row, column) for images in (plain, changed)]))
            for name in findings:
                shares = [
                    (lesion_contrast(images[name], lesion.region) - absent) / (present - absent)
                    for images in (changed, plain)
                ]
                where = index, row, column, lesion.diameter, lesion.contrast
                findings[name].append(Finding(*where, *shares))
    return Study(findings, zooms)


def _zoom(image: Image, row: int, column: int) -> Image:
    """The ZOOM × ZOOM pixels around a place, with zeros beyond the image's edges."""
    padded = np.pad(image, ZOOM // 2)
    return padded[row : row + ZOOM, column : column + ZOOM]


def place(
    image: Image, support: Region, known: Region | None, index: int, lesions: LesionStudy, rng: np.random.Generator
) -> list[Inserted]:
    """One lesion of every diameter and contrast in a magnitude slice (y, x), largest first; in even tissue, apart."""
    free = ndimage.binary_erosion(support) & (image > 0.3 * image[support].mean() if support.any() else False)
    if known is not None:
        free &= ~ndimage.binary_dilation(known, iterations=MARGIN)
    room = ndimage.distance_transform_edt(free)
    mean = ndimage.uniform_filter(image, 7)
    uneven = np.sqrt(np.maximum(ndimage.uniform_filter(image**2, 7) - mean**2, 0)) / (mean + 1e-6 * image.max())
    y, x = np.indices(image.shape)
    circles = []
    for diameter, contrast in sorted(product(lesions.diameters, lesions.contrasts), reverse=True):
        allowed = room > diameter / 2 + MARGIN
        if not allowed.any():
            continue
        candidates = np.argwhere(allowed & (uneven <= np.quantile(uneven[allowed], EVEN_SHARE)))
        row, column = candidates[rng.integers(len(candidates))]
        distance = np.hypot(y - row, x - column)
        profile = (contrast * np.clip(diameter / 2 + 0.5 - distance, 0, 1)).astype(np.float32)
        circles.append((diameter, contrast, profile, distance <= diameter / 2))
        room = np.minimum(room, distance - diameter / 2 - RING[1])
    taken = np.logical_or.reduce([inside for *_, inside in circles]) if circles else np.zeros(image.shape, bool)
    taken = taken if known is None else taken | known
    found = []
    for diameter, contrast, profile, inside in circles:
        away = ndimage.distance_transform_edt(~inside)
        ring = (away >= RING[0]) & (away <= RING[1]) & ~taken & support
        if ring.any():
            found.append(Inserted(diameter, contrast, profile, LesionRegion(index, inside, ring)))
    return found


def with_lesions(scan: Scan, placed: Sequence[Sequence[Inserted]]) -> Scan:
    """The scan as if its tissue x were x (1 + profile): k + F S (profile · x), x and S of the full k-space.

    placed: the lesions of each slice.
    """

    def read(index: int) -> NDArray[np.complex64]:
        kspace = torch.from_numpy(scan.kspace(index))[None]
        if not placed[index]:
            return kspace[0].numpy()
        maps = espirit(kspace, torch.ones(1, 1, *kspace.shape[-2:], dtype=torch.bool))
        image = (maps.conj() * ifftc(kspace)).sum(dim=1, keepdim=True)
        profile = torch.from_numpy(np.sum([lesion.profile for lesion in placed[index]], axis=0))
        return (kspace + fftc(maps * (profile * image)))[0].numpy()

    return replace(scan, read_slice=read, read_target=None)


def _images(
    scan: Scan, mask: SamplingMask, methods: Sequence[Method], device: torch.device
) -> tuple[Region, dict[str, Image]]:
    """The support, and magnitude volumes (slices, y, x) of the fully sampled image and of each method."""
    supports = []
    images: dict[str, list[NDArray]] = {name: [] for name in (REFERENCE, *(method.name for method in methods))}
    for data in measure(scan, undersample(scan, mask, None), device=device):
        assert data.reference is not None
        images[REFERENCE].append(data.reference.abs().cpu().numpy())
        supports.append(data.support.cpu().numpy())
        for method in methods:
            images[method.name].append(reconstruct_slice(method.reconstructor, data).abs().cpu().numpy())
    return np.stack(supports), {name: np.stack(some) for name, some in images.items()}
