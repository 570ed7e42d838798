"""Preview pictures of a reconstruction."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mrirecon.acquisition.geometry import Geometry, Vector, patient_side
from mrirecon.atomic import atomic_path
from mrirecon.export.hdf5 import DISCLAIMER, explained

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont, ImageFont

#: More slices do not fit on one picture.
MOST_PANELS = 9
WINDOW_PERCENTILE = 99.5
#: Pixels of a panel's longer side; what its shorter side needs for letters; how far an elongated image grows for that.
PANEL, LEAST_SIDE, LONGEST_SIDE = 400, 80, 800
MARGIN, TEXT_ROW, INSET = 8, 26, 4
#: Sizes of the text in pixels.
TITLE, LETTER, FOOTER = 17, 17, 14


def central_slices(count: int) -> range:
    """Indices of the (at most nine) central slices of `count`."""
    shown = min(count, MOST_PANELS)
    first = (count - shown) // 2
    return range(first, first + shown)


def edge_letters(geometry: Geometry) -> dict[str, str]:
    """Edge of a panel (left, right, top, bottom) → the side of the patient there, with ? where that is unproven."""

    def opposite(direction: Vector) -> Vector:
        return -direction[0], -direction[1], -direction[2]

    # Columns grow to the right, rows downwards.
    right, down = geometry.x_direction, geometry.y_direction
    directions = {"left": opposite(right), "right": right, "top": opposite(down), "bottom": down}
    doubt = "" if geometry.proven else "?"
    return {edge: patient_side(direction) + doubt for edge, direction in directions.items()}


def preview(
    path: Path,
    panels: Sequence[tuple[str, NDArray[np.floating]]],
    geometry: Geometry | None = None,
    label: str = "",
) -> None:
    """Write a PNG of up to nine titled magnitude images (y, x), all in one grey window: 0 to the 99.5th percentile.

    With a geometry, pixels have their true proportions, and letters at the edges say which side of the patient lies
    there (of an oblique slice, the nearest). label: a word for the footer. The same images give the same file, byte
    for byte.
    Raises ResourceError if `path` cannot be written.
    """
    from PIL import Image, ImageDraw, ImageFont

    footer = f"{label}. {DISCLAIMER}" if label else DISCLAIMER
    title_font, letter_font, footer_font = (ImageFont.load_default(size) for size in (TITLE, LETTER, FOOTER))
    white = np.percentile(np.concatenate([image.ravel() for _, image in panels]), WINDOW_PERCENTILE) or 1
    tiles = [_tile(image / white, geometry) for _, image in panels]
    columns = min(math.ceil(math.sqrt(len(panels))), 3)
    panel_width = max(LEAST_SIDE, *(tile.width for tile in tiles))
    panel_height = max(LEAST_SIDE, *(tile.height for tile in tiles))
    cell_width = max(panel_width, *(math.ceil(title_font.getlength(title)) for title, _ in panels)) + MARGIN
    cell_height = TEXT_ROW + panel_height + MARGIN
    width = max(columns * cell_width, math.ceil(footer_font.getlength(footer))) + MARGIN
    height = math.ceil(len(panels) / columns) * cell_height + TEXT_ROW
    picture = Image.new("RGB", (width, height))
    draw = ImageDraw.Draw(picture)
    for index, ((title, _), tile) in enumerate(zip(panels, tiles, strict=True)):
        x = (width - (columns - 1) * cell_width) // 2 + index % columns * cell_width
        top = index // columns * cell_height + TEXT_ROW
        y = top + panel_height // 2
        draw.text((x, top - TEXT_ROW // 2), title, "white", title_font, anchor="mm")
        picture.paste(tile, (x - tile.width // 2, y - tile.height // 2))
        if geometry:
            _letter(draw, (x, y), (panel_width // 2 - INSET, panel_height // 2 - INSET), geometry, letter_font)
    draw.text((width // 2, height - TEXT_ROW // 2), footer, "#b3b3b3", footer_font, anchor="mm")
    with atomic_path(path) as temporary, explained(path):
        # Grey pictures hardly get smaller at higher levels, which take three times as long.
        picture.save(temporary, "PNG", compress_level=3)


def _letter(
    draw: "ImageDraw",
    centre: tuple[int, int],
    half: tuple[int, int],
    geometry: Geometry,
    font: "FreeTypeFont | ImageFont",
) -> None:
    """Name the sides of the patient at the edges of a panel: `half` of its width and height from its centre."""
    (x, y), (beside, above) = centre, half
    places = {
        "left": ((x - beside, y), "lm"),
        "right": ((x + beside, y), "rm"),
        "top": ((x, y - above), "mt"),
        "bottom": ((x, y + above), "mb"),
    }
    for edge, letter in edge_letters(geometry).items():
        place, anchor = places[edge]
        draw.text(place, letter, "yellow", font, anchor=anchor, stroke_width=2, stroke_fill="black")


def _tile(image: NDArray[np.floating], geometry: Geometry | None) -> "Image":
    """The image, windowed to 0 … 1, as grey levels at the size of a panel."""
    from PIL import Image

    pixel_height, pixel_width = geometry.pixel_mm if geometry else (1.0, 1.0)
    height, width = image.shape[0] * pixel_height, image.shape[1] * pixel_width
    shorter, longer = sorted((height, width))
    zoom = max(PANEL / longer, min(LEAST_SIDE / shorter, LONGEST_SIDE / longer))
    size = max(round(zoom * width), 1), max(round(zoom * height), 1)
    # Interpolated, as a viewing station does, so that no pixel blocks show.
    large = Image.fromarray(image.clip(0, 1).astype(np.float32)).resize(size, Image.Resampling.BICUBIC)
    return Image.fromarray(np.rint(255 * np.asarray(large).clip(0, 1)).astype(np.uint8))
