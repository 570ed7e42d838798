"""Comparison pictures: reference, each method, a detail, and error maps; one window and one error scale for all."""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mrirecon.atomic import atomic_path
from mrirecon.evaluation.evaluate import Example, Volume
from mrirecon.evaluation.rows import Row
from mrirecon.export.hdf5 import DISCLAIMER

Picture = NDArray[np.uint8]

REFERENCE = "fully sampled"
LABELS = {"cs": "compressed sensing", "cs-sigpy": "compressed sensing (SigPy)", "cg-sense": "CG-SENSE"}
#: Tiles are interpolated to at least this many pixels, as a viewing station does, so that no pixel blocks show.
TILE_PIXELS = 512
#: The detail is this share of the picture's width and height.
DETAIL_SHARE = 0.25
DETAIL_COLOUR = (255, 200, 40)
ERROR_FACTORS = (1, 2, 3, 5, 10, 20, 50, 100)


@dataclass(frozen=True)
class Panels:
    """Tiles of one Example as uint8 pictures, grey (y, x) or RGB (y, x, 3).

    images, details: by column, the reference first. errors: by method; none without a reference.
    Errors are shown times `error_factor`: the brightest colour is the white of the images divided by it.
    """

    images: dict[str, Picture]
    details: dict[str, Picture]
    errors: dict[str, Picture]
    mask: Picture
    error_factor: int


def label(name: str) -> str:
    """A method's name as a heading: checkpoints by their file name, abbreviations in full."""
    return LABELS.get(name, Path(name).name)


def score_text(row: Row) -> str:
    """The scores under a picture's heading."""
    if row.ssim is None:
        return f"residual {row.residual:.4f} · unevenness {row.unevenness:.3f}"
    return f"SSIM {row.ssim:.3f} · PSNR {row.psnr:.1f} dB"


def mask_label(name: str) -> str:
    """A mask's name as text: gaussian2d → Gaussian 2D."""
    text = re.sub(r"([12])d$", r" \1D", name.replace("_", " "))
    return text[0].upper() + text[1:]


def panels(example: Example, pixels: int = TILE_PIXELS) -> Panels:
    """Crop to the object; choose one window, one detail and one error scale, all but the last from the reference.

    Without a reference the mean of all methods' images takes its place in this, and is not shown.

    pixels: that the longer side of a tile has at least. The detail is around the largest lesion, where there is one.

    White is the 99.8th percentile of the inner part, as one reads a brain, so that bright scalp saturates.
    """
    rows, columns = _object_box(example.support)
    inside = example.support[rows, columns]
    images = {name: image[rows, columns] for name, image in example.images.items()}
    if example.reference is None:
        reference = np.mean(list(images.values()), axis=0)
    else:
        reference = example.reference[rows, columns]
        images = {REFERENCE: reference, **images}
    inner = _inner_part(inside)
    white = float(np.percentile(reference[inner], 99.8)) if inner.any() else 1.0
    errors = {name: np.abs(images[name] - reference) for name in example.images if REFERENCE in images}
    # The scale suits the method in the middle: worse ones saturate, better ones stay dark.
    measurable = errors and inside.any()
    typical = np.median([np.percentile(error[inside], 99) for error in errors.values()]) if measurable else 0
    factor = max((f for f in ERROR_FACTORS if f * typical <= white), default=1)
    lesions = None if example.lesions is None else example.lesions[rows, columns]
    if lesions is not None and lesions.any():
        detail_rows, detail_columns = _around_largest(lesions)
    else:
        detail_rows, detail_columns = detail_box(reference, inner)
    zoom = -(-pixels // max(reference.shape))
    detail_zoom = round(zoom / DETAIL_SHARE)
    tiles = {name: grey(image / white, zoom) for name, image in images.items()}
    first = next(iter(tiles))
    tiles[first] = _outlined(tiles[first], detail_rows, detail_columns, zoom)
    return Panels(
        images=tiles,
        details={n: grey(image[detail_rows, detail_columns] / white, detail_zoom) for n, image in images.items()},
        errors={name: _heat(factor * error / white, zoom) for name, error in errors.items()},
        mask=grey(np.kron(example.mask, np.full((2, 2), 0.8)).astype(np.float32), 1),
        error_factor=factor,
    )


def _object_box(support: NDArray[np.bool_]) -> tuple[slice, slice]:
    """Rows and columns that hold the object, with a margin of 3 % of the picture; everything if it is empty."""
    if not support.any():
        return slice(None), slice(None)
    margin = round(0.03 * max(support.shape))
    used = (np.flatnonzero(support.any(axis=1)), np.flatnonzero(support.any(axis=0)))
    rows, columns = (slice(max(u[0] - margin, 0), u[-1] + 1 + margin) for u in used)
    return rows, columns


def _inner_part(inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The object without its rim, a quarter of its depth: scalp and fat are bright and sharp, but not what matters."""
    depth = ndimage.distance_transform_edt(np.pad(inside, 1))[1:-1, 1:-1]
    return depth > 0.25 * depth.max()


def detail_box(reference: Volume, inner: NDArray[np.bool_]) -> tuple[slice, slice]:
    """The window with the most fine structure of the reference in the inner part; no method's image has a say in it."""
    height, width = _detail_size(reference.shape)
    fine = np.abs(ndimage.gaussian_laplace(reference, 1.0)) * inner
    score = ndimage.uniform_filter(fine, (height, width), mode="constant")
    row, column = np.unravel_index(score.argmax(), score.shape)
    return _box_around(int(row), int(column), reference.shape)


def _around_largest(lesions: NDArray[np.bool_]) -> tuple[slice, slice]:
    """The window around the largest lesion of a mask (y, x)."""
    labels, _ = ndimage.label(lesions)
    largest = labels == np.bincount(labels.ravel())[1:].argmax() + 1
    row, column = np.argwhere(largest).mean(axis=0).round().astype(int)
    return _box_around(int(row), int(column), lesions.shape)


def _box_around(row: int, column: int, shape: tuple[int, ...]) -> tuple[slice, slice]:
    """The window of a detail as near to those coordinates as the picture's edges allow."""
    height, width = _detail_size(shape)
    top, left = (
        int(np.clip(at - n // 2, 0, have - n))
        for at, n, have in zip((row, column), (height, width), shape, strict=True)
    )
    return slice(top, top + height), slice(left, left + width)


def _detail_size(shape: tuple[int, ...]) -> tuple[int, int]:
    height, width = (max(round(DETAIL_SHARE * n), 1) for n in shape)
    return height, width


def grey(image: Volume, zoom: int) -> Picture:
    """Window 0 … 1 to grey levels, interpolated by `zoom`."""
    large = ndimage.zoom(image, zoom, order=3) if zoom > 1 else image
    return (255 * large.clip(0, 1)).astype(np.uint8)


def _heat(error: Volume, zoom: int) -> Picture:
    from matplotlib import colormaps

    return (255 * colormaps["inferno"](ndimage.zoom(error, zoom, order=1).clip(0, 1))[..., :3]).astype(np.uint8)


def _outlined(tile: Picture, rows: slice, columns: slice, zoom: int) -> Picture:
    """The grey tile in RGB, with a coloured box around those rows and columns of the image before zooming."""
    top, bottom, left, right = (zoom * edge for edge in (rows.start, rows.stop, columns.start, columns.stop))
    width = 2
    framed = np.repeat(tile[..., None], 3, axis=-1)
    framed[top : top + width, left:right] = framed[bottom - width : bottom, left:right] = DETAIL_COLOUR
    framed[top:bottom, left : left + width] = framed[top:bottom, right - width : right] = DETAIL_COLOUR
    return framed


def save_comparison(path: Path, example: Example) -> None:
    """Write the comparison of one Example as a picture file (PNG, PDF, … by suffix)."""
    from matplotlib.figure import Figure

    tiles = panels(example)
    names = list(tiles.images)
    height, width = tiles.images[names[0]].shape[:2]
    figure = Figure(figsize=(2.7 * len(names), 8.1 * height / width + 1.3), dpi=160, layout="constrained")
    axes = figure.subplots(3, len(names), squeeze=False)
    for column, name in zip(axes.T, names, strict=True):
        row = example.rows.get(name)
        scores = score_text(row) if row else f"slice {example.slice_index + 1}"
        column[0].set_title(f"{label(name)}\n{scores}", fontsize=10)
        bottom = tiles.errors.get(name, tiles.mask)
        for axis, tile in zip(column, (tiles.images[name], tiles.details[name], bottom), strict=True):
            axis.imshow(tile, cmap="gray", vmin=0, vmax=255)
            axis.set(xticks=[], yticks=[], frame_on=False)
    for axis, name in zip(axes[2], names, strict=True):
        axis.set_xlabel(f"|error| × {tiles.error_factor}" if name in tiles.errors else "sampled k-space", fontsize=10)
    achieved = next(iter(example.rows.values())).acceleration
    figure.suptitle(f"{example.volume} · {mask_label(example.setting.mask)}, {achieved:.2f}×", fontsize=11)
    scale = f"All error maps on one scale: brightest = {100 / tiles.error_factor:.0f} % of the images' white. "
    figure.supxlabel(f"{scale if tiles.errors else ''}{DISCLAIMER}", fontsize=8)
    with atomic_path(path) as temporary:
        figure.savefig(temporary)
