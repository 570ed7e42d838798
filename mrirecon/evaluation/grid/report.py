"""A run as files: results.csv, speed.csv, grid.yaml, and one self-contained page."""

from collections.abc import Sequence
from html import escape
from pathlib import Path

import yaml

from mrirecon.atomic import atomic_path
from mrirecon.evaluation.grid import charts
from mrirecon.evaluation.grid.config import as_content
from mrirecon.evaluation.grid.results import OWN, Cell, GridRun, Machine, example_of
from mrirecon.evaluation.grid.robust_report import robustness
from mrirecon.evaluation.grid.robust_tables import write_robustness
from mrirecon.evaluation.grid.sections import chart, section
from mrirecon.evaluation.grid.tables import (
    PSNR,
    SSIM,
    consistency_pairs,
    difference_text,
    groups,
    is_unseen,
    ranked_table,
    setting_table,
    speed_table,
    trained_for,
    tuning_table,
    write_results,
)
from mrirecon.evaluation.report import comparison, page, table_html, versions
from mrirecon.evaluation.statistics import LEAST_UNITS

#: Pictures in this page are many, so they are smaller than elsewhere.
TILE_PIXELS = 128
ORIGINS = {"yes": "simulated", "no": "measured", "unknown": "of unstated origin"}


def write_report(folder: Path, run: GridRun, machine: Machine, command: str) -> list[Path]:
    """Write everything into the folder of the run; returns the paths. The run must have cells."""
    config, html = folder / "grid.yaml", folder / "report.html"
    written = write_results(folder, run)
    with atomic_path(config) as temporary:
        temporary.write_text(yaml.safe_dump(as_content(run.grid), sort_keys=False), encoding="utf-8")
    with atomic_path(html) as temporary:
        temporary.write_text(_page(run, machine, command), encoding="utf-8")
    return [*written, *write_robustness(folder, run), config, html]


def _page(run: GridRun, machine: Machine, command: str) -> str:
    own = trained_for(run)
    simulated = {cell.row.simulated for cell in run.cells}
    kicker = "Simulated data" if simulated == {"yes"} else "Partly simulated data" if "yes" in simulated else "Report"
    sections = [
        _overall(run, own),
        _settings(run),
        section("Quality against acceleration", _against_acceleration(own), AGAINST),
        _time(run, own),
        _consistency(own),
        robustness(run),
        _pictures(run),
        _tuning(run),
        section("Make this page again", f"<pre>{escape(command)}</pre>", versions()),
        section("The grid", f"<pre>{escape(yaml.safe_dump(as_content(run.grid), sort_keys=False))}</pre>", ""),
    ]
    notices = [run.grid.note] if run.grid.note else []
    if run.missing:
        notices.append(f"{run.missing} of the grid's results are missing; the same command tries them again.")
    failures = "".join(f"<li>{escape(reason)}</li>" for reason in run.failures)
    notice = "".join(f'<div class="notice">{escape(text)}</div>' for text in notices)
    notice += f'<div class="notice"><strong>What failed:</strong><ul>{failures}</ul></div>' if failures else ""
    return page(run.grid.title, kicker, describe(run, machine), notice, "".join(sections))


AGAINST = (
    "Lines join medians over subjects; bars are 95 % intervals of the median. Open marks: a network's second form."
)
PARETO = (
    "The line joins the methods that no other beats in both. Time and memory: one slice of the first test volume, "
    "measured after all else, without oracles; memory of the tensors beside the data and the weights."
)


def describe(run: GridRun, machine: Machine) -> str:
    """What was compared on what, as one paragraph."""
    data_sets = {OWN: run.grid.data, **run.grid.shifts}
    # Simulated heads of the same name are others in every data set; persons are the same.
    subjects = {
        (cell.volume.data if data_sets[cell.volume.data].path is None else None, cell.volume.subject)
        for cell in run.cells
    }
    volumes = {cell.volume.path for cell in run.cells}
    origins = " and ".join(sorted({ORIGINS[cell.row.simulated] for cell in run.cells}))
    methods = {cell.variant.name for cell in run.cells}
    contrasts = ", ".join(dict.fromkeys(cell.volume.contrast for cell in run.cells))
    seeds = len(run.grid.seeds)
    trained = f"Networks were trained on other subjects of the same data set, from {seeds} seed{'s' * (seeds != 1)}."
    if run.grid.checkpoints:
        trained = f"Networks come from the folder {run.grid.checkpoints.name}, those that are not in it were trained."
    return (
        f"{len(methods)} methods on {len(volumes)} volumes ({contrasts}; {origins}) of {len(subjects)} subjects in "
        f"{len(run.grid.settings())} settings. {trained} Within a setting all methods saw the same samples and "
        "the same coil maps, estimated from these samples. The unit of all statistics is the subject. "
        f"Computed on a {'GPU' if machine.device == 'cuda' else 'CPU'}."
    )


def _pictures(run: GridRun) -> str:
    """The kept pictures, of each data set and setting those of the first contrast."""
    shown = groups(run.cells, lambda cell: (cell.volume.data, cell.setting))
    pictures = []
    for (data, _), cells in shown.items():
        first = groups(cells, lambda cell: cell.volume.path)
        example = next((found for some in first.values() if (found := example_of(some))), None)
        if example:
            where = "" if data == OWN else f"{data}: "
            pictures.append(comparison(example, TILE_PIXELS, where))
    return "".join(pictures)


def _overall(run: GridRun, own: Sequence[Cell]) -> str:
    table = ranked_table(own, run.grid.reference)
    text = (
        "Over all contrasts and all settings that were trained for; each subject's values are averaged first. Medians "
        f"over subjects with 95 % bootstrap intervals, or the values of fewer than {LEAST_UNITS} subjects: "
        "then no rank and no p. Rank: one more than the number of methods whose interval of SSIM lies wholly above; "
        "methods with overlapping intervals are not ranked against each other. p: Wilcoxon signed rank against "
        f"{run.grid.reference}, corrected by Holm for the number of methods."
    )
    return section("All settings together", f'<div class="table">{table_html(table)}</div>', text)


def _settings(run: GridRun) -> str:
    parts = []
    for (data, contrast), cells in groups(run.cells, lambda cell: (cell.volume.data, cell.volume.contrast)).items():
        name = contrast.upper() if data == OWN else f"{data}, {contrast.upper()}"
        unseen = [str(s) for s in dict.fromkeys(cell.setting for cell in cells) if is_unseen(run, s)]
        note = f"Never trained for: {', '.join(unseen)}. " if unseen else ""
        note += "" if data == OWN else "Nothing was trained or tuned on this data set. "
        body = chart(charts.boxes(cells, SSIM), f"SSIM of each method, {name}")
        for measure in (SSIM, PSNR):
            body += f'<h3>{measure.heading}</h3><div class="table">{table_html(setting_table(cells, measure))}</div>'
        note += "Boxes: quartiles and median, dots: subjects. Tables: median with 95 % interval, or the values."
        parts.append(section(f"By setting: {name}", body, note))
    return "".join(parts)


def _time(run: GridRun, own: Sequence[Cell]) -> str:
    picture = chart(charts.pareto(run, own, SSIM), "SSIM against time, and against parameters")
    return section(
        "Quality against time and size", f'{picture}<div class="table">{table_html(speed_table(run))}</div>', PARETO
    )


def _consistency(own: Sequence[Cell]) -> str:
    pairs = consistency_pairs(own, SSIM)
    if not pairs:
        return ""
    sentences = []
    for name, difference in pairs.items():
        if difference.interval is None:
            claim = f"n = {difference.n}, too few for a claim"
        elif difference.interval[0] > 0 or difference.interval[1] < 0:
            claim = f"n = {difference.n}, the interval excludes zero"
        else:
            claim = f"n = {difference.n}, no difference can be claimed"
        sentences.append(f"<li>{escape(name)}: {difference_text(difference, '.4f')} ({claim})</li>")
    body = (
        chart(charts.consistency(own), "Explicit against implicit data consistency") + f"<ul>{''.join(sentences)}</ul>"
    )
    return section(
        "Explicit against implicit data consistency", body, "Differences of SSIM, paired by subject, over all settings."
    )


def _tuning(run: GridRun) -> str:
    if not run.tuned:
        return ""
    return section(
        "What was tuned",
        f'<div class="table">{table_html(tuning_table(run))}</div>',
        "Chosen once on the validation split by the lowest mean NMSE. Nothing was tuned on test volumes.",
    )


def _against_acceleration(cells: Sequence[Cell]) -> str:
    by_contrast = groups(cells, lambda cell: cell.volume.contrast)
    found = {contrast: charts.against_acceleration(some, SSIM) for contrast, some in by_contrast.items()}
    return "".join(f"<h3>{escape(c.upper())}</h3>{chart(svg, c)}" for c, svg in found.items() if svg)
