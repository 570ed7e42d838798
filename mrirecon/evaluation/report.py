"""An evaluation as files: CSV, Markdown, figures, and one self-contained HTML page (pictures first, no scripts)."""

import base64
import io
import platform
from collections.abc import Sequence
from html import escape
from importlib.metadata import version
from pathlib import Path

from mrirecon import __version__
from mrirecon.atomic import atomic_path
from mrirecon.evaluation.evaluate import AS_ACQUIRED, Evaluation, Example, Table
from mrirecon.evaluation.figures import (
    REFERENCE,
    TILE_PIXELS,
    Panels,
    Picture,
    label,
    mask_label,
    panels,
    save_comparison,
    score_text,
)
from mrirecon.evaluation.rows import write_csv
from mrirecon.evaluation.summary import summary
from mrirecon.export.hdf5 import DISCLAIMER
from mrirecon.reconstruction.methods import Method

#: Columns of words, which stand at the left.
TEXT_COLUMNS = ("data set", "mask", "method", "contrast", "setting", "chosen", "tried", "on")
#: More pictures beside each other are too small to see anything.
COLUMNS_ON_PAPER = 7
#: What each kind of method does, by class name, for a reader who is not of the field.
HOW_IT_WORKS = {
    "ZeroFilled": "Samples that were not measured are taken as zero. No prior knowledge: shows the aliasing itself.",
    "CGSense": "Finds the image whose coil signals fit the measured samples best, by conjugate gradients.",
    "CompressedSensing": "Among images that fit the samples, prefers those that are sparse in a wavelet basis.",
    "SigpyCompressedSensing": "The same prior solved by another program, SigPy, to check one against the other.",
    "CIRIM": "A cascade of recurrent networks, each alternating between the scanner's physics and what it learned "
    "about images: it sees how the current image misfits the samples and proposes the next.",
    "RIM": "A recurrent network that sees how the current image misfits the samples and proposes the next one.",
    "IRIM": "A recurrent network with independently recurrent units, which sees how the current image misfits the "
    "samples and proposes the next one.",
    "UNet": "A convolutional network that turns the aliased image into a clean one in a single pass.",
}


def write_results(
    folder: Path, evaluation: Evaluation, methods: Sequence[Method], *, title: str, lead: str, command: str
) -> list[Path]:
    """Write results.csv, summary.md, figures/*.png and report.html into `folder`; returns their paths.

    title, lead (one paragraph on what was done) and command (re-makes it) go onto the page. Each file appears whole or
    not at all.
    """
    table, markdown, page = (folder / name for name in ("results.csv", "summary.md", "report.html"))
    write_csv(table, evaluation.rows)
    with atomic_path(markdown) as temporary:
        temporary.write_text(
            f"# {title}\n\n{lead}\n\n{summary(evaluation.rows).markdown()}\n{DISCLAIMER}\n", encoding="utf-8"
        )
    figures = []
    for example in evaluation.examples:
        setting = example.setting
        figures.append(folder / "figures" / f"{setting.mask.replace(' ', '_')}_{setting.acceleration:g}x.png")
        save_comparison(figures[-1], example)
    with atomic_path(page) as temporary:
        temporary.write_text(_page(evaluation, methods, title, lead, command), encoding="utf-8")
    return [table, markdown, *figures, page]


def describe(evaluation: Evaluation) -> str:
    """What was compared on what, as one paragraph."""
    methods = list(dict.fromkeys(label(row.method) for row in evaluation.rows))
    scored = [row for row in evaluation.rows if row.mask != AS_ACQUIRED]
    masks = list(dict.fromkeys(f"{row.mask} {row.acceleration_asked:g}×" for row in scored))
    unreferenced = len({row.volume for row in evaluation.rows if row.mask == AS_ACQUIRED})
    slices = sum({row.volume: row.slices for row in evaluation.rows}.values())
    origin = {"yes": "simulated", "no": "measured", "unknown": "of unstated origin"}
    origins = " and ".join(sorted({origin[row.simulated] for row in evaluation.rows}))
    text = (
        f"{_count(len(methods), 'method')} ({', '.join(methods)}) reconstructed {_count(evaluation.volumes, 'scan')} "
        f"({_count(slices, 'slice')}, {origins}) from part of the k-space. Within a setting all methods saw the same "
        "samples and the same coil sensitivity maps, estimated from these samples alone"
    )
    text += ", and were compared with the image of the full k-space. " if scored else ". "
    if scored:
        text += f"Asked for were {', '.join(masks)}; the achieved accelerations are in the table. "
    if unreferenced:
        text += (
            f"{_count(unreferenced, 'scan')} had been undersampled when acquired, so there is no reference: residual "
            "says how well an image fits the samples, unevenness how noisy it is, and neither whether it is right."
        )
    return text.strip()


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


def _page(evaluation: Evaluation, methods: Sequence[Method], title: str, lead: str, command: str) -> str:
    simulated = {row.simulated for row in evaluation.rows}
    kicker = "Simulated data" if simulated == {"yes"} else "Partly simulated data" if "yes" in simulated else "Report"
    body = f"""{"".join(comparison(example) for example in evaluation.examples)}
<section>
<h2>Image quality</h2>
<div class="table">{table_html(summary(evaluation.rows))}</div>
<p class="note">{_about_metrics(evaluation)}</p>
</section>
<section>
<h2>How each method works</h2>
<dl>{"".join(_method(method) for method in methods)}</dl>
</section>
<section>
<h2>Make this page again</h2>
<pre>{escape(command)}</pre>
<p class="note">{escape(versions())}</p>
</section>"""
    return page(title, kicker, lead, _failures(evaluation), body)


def page(title: str, kicker: str, lead: str, notice: str, body: str) -> str:
    """A whole page: head, title and lead as text, notice and sections as HTML; nothing comes from outside."""
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>{Path(__file__).with_name("report.css").read_text()}</style>
</head>
<body>
<main>
<header>
<p class="kicker">{kicker}</p>
<h1>{escape(title)}</h1>
<p class="lead">{escape(lead)}</p>
{notice}
</header>
{body}
<footer>{DISCLAIMER} Made by mrirecon {__version__}.</footer>
</main>
</body>
</html>
"""


def _failures(evaluation: Evaluation) -> str:
    if not evaluation.failures:
        return ""
    lines = "".join(f"<li>{escape(reason)}</li>" for reason in evaluation.failures.values())
    return f'<div class="notice"><strong>These scans could not be evaluated:</strong><ul>{lines}</ul></div>'


def comparison(example: Example, pixels: int = TILE_PIXELS, where: str = "") -> str:
    """A section with the pictures of all methods; pixels: see `panels`; where: what stands before the heading."""
    tiles = panels(example, pixels)
    acceleration = next(iter(example.rows.values())).acceleration
    mask = escape(mask_label(example.setting.mask))
    lesion = example.lesions is not None and example.lesions.any()
    chosen = "around the largest lesion" if lesion else "where the fully sampled image has most fine structure"
    errors = (
        f"""All images share one grey scale, and all
error maps one colour scale: none <span class="scale" style="background: {_gradient()}"></span>
{100 / tiles.error_factor:.0f} % of the images’ white or more (difference of the magnitudes × {tiles.error_factor})."""
        if tiles.errors
        else "All images share one grey scale. The scan was undersampled when it was acquired: there is no fully "
        "sampled image, so nothing here says which image is right."
    )
    chosen = chosen if tiles.errors or lesion else "where the mean of all images has most fine structure"
    return f"""<section>
<h2>{escape(where)}{mask} sampling, {acceleration:.2f} times fewer measurements</h2>
<div class="cards" style="--columns: {min(len(tiles.images), COLUMNS_ON_PAPER)}">
{"".join(_card(example, name, tiles) for name in tiles.images)}
</div>
<p class="note">{escape(example.volume)}, slice {example.slice_index + 1}. {errors}
The detail (box) is {chosen}.</p>
</section>
"""


def _card(example: Example, name: str, tiles: Panels) -> str:
    score = "reference" if name == REFERENCE else score_text(example.rows[name])
    if name in tiles.errors:
        last, last_text = tiles.errors[name], f"error × {tiles.error_factor}"
    else:
        last, last_text = tiles.mask, "sampled k-space (bright = measured)"
    height, width = tiles.images[name].shape[:2]
    title = label(name)
    return f"""<figure class="card">
<h3>{escape(title)}</h3>
<p class="score">{score}</p>
{image_html(tiles.images[name], f"{title}, whole slice")}
<p class="small">magnitude</p>
{image_html(tiles.details[name], f"{title}, detail")}
<p class="small">detail</p>
{image_html(last, f"{title}, {last_text}", f"aspect-ratio: {width} / {height}")}
<p class="small">{last_text}</p>
</figure>
"""


def image_html(tile: Picture, text: str, style: str = "") -> str:
    """A picture inside the page, with that text for those who do not see it."""
    from PIL import Image  # comes with matplotlib

    buffer = io.BytesIO()
    Image.fromarray(tile).save(buffer, "webp", lossless=True)  # a quarter smaller than PNG
    data = base64.b64encode(buffer.getvalue()).decode()
    return f'<img src="data:image/webp;base64,{data}" alt="{escape(text)}" style="{style}">'


def _gradient() -> str:
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    return f"linear-gradient(to right, {', '.join(to_hex(colormaps['inferno'](step / 8)) for step in range(9))})"


def table_html(table: Table) -> str:
    """The table as HTML."""
    kinds = [' class="text"' if column in TEXT_COLUMNS else "" for column in table.columns]

    def line(tag: str, cells: Sequence[str]) -> str:
        return "".join(f"<{tag}{kind}>{escape(cell)}</{tag}>" for kind, cell in zip(kinds, cells, strict=True))

    body = "".join(f"<tr>{line('td', row)}</tr>" for row in table.rows)
    return f"<table><thead><tr>{line('th', table.columns)}</tr></thead><tbody>{body}</tbody></table>"


def _about_metrics(evaluation: Evaluation) -> str:
    slices = sum({row.volume: row.slices for row in evaluation.rows}.values())
    against = (
        "Against the fully sampled image, inside the object. SSIM and PSNR: higher is better; NMSE and HFEN (error of "
        "edges): lower is better. "
        if any(row.ssim is not None for row in evaluation.rows)
        else ""
    )
    devices = "; ".join(sorted({row.device for row in evaluation.rows}))
    return escape(
        f"n = number of volumes ({evaluation.volumes}; {_count(slices, 'slice')} in all); with more than one, the "
        f"median and the range are given. {against}Time of the method alone, without reading and coil maps, on: "
        f"{devices}."
    )


def _method(method: Method) -> str:
    kind = type(method.reconstructor)
    text = HOW_IT_WORKS.get(kind.__name__) or (kind.__doc__ or kind.__name__).splitlines()[0]
    if parameters := sum(parameter.numel() for parameter in method.reconstructor.parameters()):
        text += f" {parameters:,} learned parameters"
        text += f", weights {method.sha256[:12]}…" if method.sha256 else "."
    title = label(method.name)
    full_title = title if title == method.name else f"{title} ({method.name})"
    return f"<dt>{escape(full_title)}</dt><dd>{escape(text)}</dd>"


def versions() -> str:
    """Of this program, its packages and the machine."""
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "numpy", "scipy", "sigpy"))
    machine = f"{platform.system()} {platform.machine()}"
    return f"mrirecon {__version__}, Python {platform.python_version()}, {packages}; {machine}."
