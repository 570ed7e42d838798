"""Sources of images to simulate scans from: the head phantom, magnitude volumes, label maps."""

import zipfile
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mrirecon.errors import InputError
from mrirecon.simulation.contrast import PROTOCOLS
from mrirecon.simulation.images import load_labels, load_magnitude, magnitude_slices, random_contrast
from mrirecon.simulation.phantom import head_phantoms

#: A random generator → magnitude image float32 (y, x), 0 in air and about 1 in bright tissue.
ImageSource = Callable[[np.random.Generator], NDArray[np.float32]]

HEADS, PHANTOM_SLICES, PHANTOM_MATRIX = 16, 4, (192, 192)
#: An image must have this share of its pixels in tissue, so that few examples are empty.
MIN_TISSUE = 0.1


def phantom_heads(seed: int) -> ImageSource:
    """Random slices of a pool of head phantoms in random contrasts; `seed` picks the heads."""
    contrasts = tuple(PROTOCOLS)

    @cache
    def stacks(head: int) -> dict[str, NDArray[np.float32]]:
        phantoms = head_phantoms(PHANTOM_MATRIX, PHANTOM_SLICES, contrasts, seed * HEADS + head, lesions=6)
        return {contrast: phantom.images for contrast, phantom in phantoms.items()}

    def draw(rng: np.random.Generator) -> NDArray[np.float32]:
        images = stacks(int(rng.integers(HEADS)))[contrasts[rng.integers(len(contrasts))]]
        return np.clip(images[rng.integers(PHANTOM_SLICES)], 0, None)

    return draw


def magnitude_volume(path: Path) -> ImageSource:
    """Random slices of a magnitude volume, at the resolution that was measured.

    Of a NIfTI file along the last axis; of an .npz file, which has one array of three axes (slices, y, x), the first.
    """
    volume = magnitude_slices(_only_array(path), path) if path.suffix == ".npz" else load_magnitude(path)[0]
    volume = volume[[bool((image > 0.1).mean() > MIN_TISSUE) for image in volume]]
    if not len(volume):
        raise InputError(f"{path}: has no slice with enough signal to simulate from.")
    return lambda rng: np.clip(volume[rng.integers(len(volume))], 0, None)


def label_map(path: Path) -> ImageSource:
    """Random slices, along any axis, of a label map in contrasts that no scanner has."""
    labels = load_labels(path)[0].astype(np.int16)

    def draw(rng: np.random.Generator) -> NDArray[np.float32]:
        while True:
            axis = int(rng.integers(3))
            plane = np.take(labels, [int(rng.integers(labels.shape[axis]))], axis=axis).squeeze(axis)
            if (plane > 0).mean() > MIN_TISSUE:
                return random_contrast(plane, rng)

    return draw


def image_sources(images: Sequence[Path], labels: Sequence[Path], seed: int) -> list[ImageSource]:
    """One source for each file; folders stand for the NIfTI files in them. Without any file, the head phantom."""
    sources = [magnitude_volume(path) for path in _files(images)] + [label_map(path) for path in _files(labels)]
    return sources or [phantom_heads(seed)]


def _only_array(path: Path) -> NDArray[np.generic]:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            (array,) = (arrays[name] for name in arrays if arrays[name].ndim == 3)
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: must hold one array of three axes (slices, y, x) ({error}).") from error
    if array.dtype.kind not in "uif" or not np.isfinite(array).all():
        raise InputError(f"{path}: the images (slices, y, x) must be finite real numbers.")
    return array


def _files(paths: Sequence[Path]) -> list[Path]:
    files = []
    for path in paths:
        inside = sorted(path.glob("*.nii*")) if path.is_dir() else [path]
        if not inside:
            raise InputError(f"{path}: there are no NIfTI files in this folder.")
        files += inside
    return files
