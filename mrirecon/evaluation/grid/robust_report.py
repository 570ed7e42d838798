"""The page's sections on robustness."""

from html import escape

import numpy as np
from numpy.typing import NDArray

from mrirecon.evaluation.figures import REFERENCE, grey
from mrirecon.evaluation.grid import robust_charts
from mrirecon.evaluation.grid.results import GridRun, LesionCell
from mrirecon.evaluation.grid.robust_tables import (
    KINDS,
    corruption_table,
    gap_table,
    kinds_of,
    lesion_kinds,
    lesion_table,
)
from mrirecon.evaluation.grid.sections import chart, folded, section
from mrirecon.evaluation.grid.tables import groups, setting_label
from mrirecon.evaluation.report import image_html, table_html

CORRUPTIONS = (
    "Applied to the measurement between undersampling and reconstruction, the same for all methods; scored against the "
    "fully sampled image. Level 0: nothing. Lines join medians over subjects; bars are 95 % intervals."
)
WORST = (
    " The worst-case perturbation is found for each method by gradient ascent on its error, within the norm that noise "
    "of that level has; beside it stands noise of the same norm that nobody chose. Levels are in units of the scan's "
    "own noise."
)
LESIONS = (
    "Round lesions were inserted into the fully sampled k-space, in even tissue. A lesion is detected where the image "
    "shows at least half of the contrast that the fully sampled image shows, against the ring around it. It falsely "
    "appears where the image of the scan without lesions shows as much at the same place. Rates are means over "
    "subjects of the share of their lesions, with 95 % bootstrap intervals from 6 subjects on. Methods named oracle "
    "are left out."
)
GAP = (
    "SSIM of the method trained (or tuned) on the test data's kind minus SSIM of the one that was not, paired by "
    "subject, in the settings of the robustness tests. Above zero: so much is lost on data unlike the training data."
)
#: Pictures of lesions are interpolated by this.
ZOOM_FACTOR = 4


def robustness(run: GridRun) -> str:
    """All that a run has of it, as HTML."""
    parts = []
    if run.corrupted:
        tables = "".join(
            folded(f"{KINDS[kind][0]}, {setting_label(setting)}", table_html(corruption_table(run, kind, setting)))
            for kind, setting in kinds_of(run)
        )
        body = chart(robust_charts.against_level(run), "SSIM against the level of each corruption") + tables
        parts.append(section("Robustness: corrupted measurements", body, CORRUPTIONS + WORST))
    if any(cell.findings for cell in run.lesions):
        body = chart(robust_charts.lesions_seen(run), "Detection and false appearance of inserted lesions")
        body += f'<div class="table">{table_html(lesion_table(run))}</div>' + _lesion_zooms(run)
        parts.append(section("Robustness: inserted lesions", body, LESIONS))
    if run.gap:
        body = f'<div class="table">{table_html(gap_table(run))}</div>'
        parts.append(section("Robustness: the gap to training on the test data's kind", body, GAP))
    return "".join(parts)


def _lesion_zooms(run: GridRun) -> str:
    """Pictures of one lesion of each size and contrast without and with it, by method, where they were kept."""
    kept = [cell for cell in run.lesions if cell.images.exists()]
    return "".join(
        _zooms_of(setting_label(setting), cells) for setting, cells in groups(kept, lambda cell: cell.setting).items()
    )


def _zooms_of(setting: str, cells: list[LesionCell]) -> str:
    kinds = [(finding.diameter, finding.contrast) for finding in cells[0].findings]
    first = [kinds.index(kind) for kind in lesion_kinds(cells)]
    volume = cells[0].volume
    pictures: dict[str, NDArray[np.float32]] = {}
    for cell in cells:
        with np.load(cell.images, allow_pickle=False) as arrays:
            pictures.setdefault(REFERENCE, arrays["reference"][first])
            pictures.setdefault(cell.variant.name, arrays["image"][first])
    white = float(np.percentile(pictures[REFERENCE], 99.8))
    head = "".join(f"<th>{d:g} px, {c:+.0%}</th>" for d, c in lesion_kinds(cells))
    rows = ""
    for name, lesions in pictures.items():
        tiles = [np.hstack([grey(image / white, ZOOM_FACTOR) for image in pair]) for pair in lesions]
        rows += f'<tr><td class="text">{escape(name)}</td>'
        rows += (
            "".join(f"<td>{image_html(tile, f'{name}: without and with the lesion')}</td>" for tile in tiles) + "</tr>"
        )
    note = f"{volume.subject}, {volume.contrast}: each place without (left) and with the lesion; all on one grey scale."
    table = f'<table><thead><tr><th class="text">{escape(setting)}</th>{head}</tr></thead><tbody>{rows}</tbody></table>'
    return f'<div class="table zooms">{table}</div><p class="note">{escape(note)}</p>'
