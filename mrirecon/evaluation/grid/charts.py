"""Charts of a run as SVG, in the colours of Okabe and Ito, which the colour-blind tell apart, each with a mark."""

import io
from collections.abc import Mapping, Sequence
from math import ceil
from typing import Any

from mrirecon.evaluation.evaluate import Setting
from mrirecon.evaluation.figures import mask_label
from mrirecon.evaluation.grid.results import Cell, GridRun
from mrirecon.evaluation.grid.tables import (
    SSIM,
    Measure,
    consistency_pairs,
    groups,
    intervals_of,
    median,
    setting_label,
    values_of,
)
from mrirecon.evaluation.statistics import Difference

#: Okabe and Ito (2008), without yellow, which is too light on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = "os^Dv<>PX*hp"
#: Of a network's first form and of its others; further pairs for networks that must share a colour.
LINES = (("-", "--"), (":", "-."))
INK = "#1b2430"
STYLE: Any = {"font.size": 9, "svg.fonttype": "path", "axes.spines.top": False, "axes.spines.right": False}
ACROSS = 3


def boxes(cells: Sequence[Cell], measure: Measure) -> str:
    """A panel for each setting, a box for each method, a dot for each subject."""
    by_setting = groups(cells, lambda cell: cell.setting)
    methods = list(dict.fromkeys(cell.variant.name for cell in cells))[::-1]
    rows = ceil(len(by_setting) / ACROSS)
    columns = min(ACROSS, len(by_setting))
    figure, axes = figure_of(2.2 + 2.6 * columns, rows * (0.6 + 0.24 * len(methods)), rows, columns, share=True)
    for axis, (setting, some) in zip(axes, by_setting.items(), strict=False):
        values = values_of(some, measure)
        data = [list(values.get(method, {}).values()) for method in methods]
        axis.boxplot(
            data,
            orientation="horizontal",
            widths=0.6,
            showfliers=False,
            medianprops={"color": COLOURS[1], "linewidth": 2},
            boxprops={"color": INK},
            whiskerprops={"color": INK},
            capprops={"color": INK},
        )
        for position, numbers in enumerate(data, start=1):
            axis.plot(numbers, [position] * len(numbers), "o", color=COLOURS[0], alpha=0.7, markersize=3.5)
        axis.set_title(setting_label(setting), fontsize=10)
        axis.set_xlabel(measure.heading)
        axis.grid(axis="x", alpha=0.3)
        axis.set_yticks(range(1, len(methods) + 1), methods)
    return svg_of(figure)


def against_acceleration(cells: Sequence[Cell], measure: Measure) -> str:
    """A panel for each mask, a line for each method over the acceleration asked for; bars are intervals."""
    by_mask = groups(cells, lambda cell: cell.setting.mask)
    several = {mask: some for mask, some in by_mask.items() if len({cell.setting for cell in some}) > 1}
    if not several:
        return ""
    methods = list(dict.fromkeys(cell.variant.name for cell in cells))
    look = looks(methods, {cell.variant.name: cell.variant.method for cell in cells})
    figure, axes = figure_of(max(7.5, 1.6 + 3.2 * len(several)), 4.6 + 0.17 * len(methods), 1, len(several), share=True)
    for axis, (mask, some) in zip(axes, several.items(), strict=True):
        settings: list[Setting] = sorted({cell.setting for cell in some}, key=lambda setting: setting.acceleration)
        by_setting = groups(some, lambda cell: cell.setting)
        values = {setting: values_of(by_setting[setting], measure) for setting in settings}
        intervals = {setting: intervals_of(values[setting]) for setting in settings}
        for number, method in enumerate(methods):
            there = [setting for setting in settings if method in values[setting]]
            middle = [median(values[setting][method].values()) for setting in there]
            # A little aside, so that bars do not hide each other.
            places = [setting.acceleration * (1 + 0.004 * (number - len(methods) / 2)) for setting in there]
            axis.plot(places, middle, label=method, linewidth=1.3, markersize=5, **look[method])
            for place, setting in zip(places, there, strict=True):
                if interval := intervals[setting][method]:
                    axis.vlines(place, *interval, color=look[method]["color"], linewidth=0.8)
        axis.set_title(mask_label(mask), fontsize=10)
        axis.set_xlabel("acceleration")
        axis.set_xticks([setting.acceleration for setting in settings])
        axis.grid(alpha=0.3)
    axes[0].set_ylabel(f"{measure.heading}, median over subjects")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False, fontsize=8)
    return svg_of(figure)


def pareto(run: GridRun, cells: Sequence[Cell], measure: Measure) -> str:
    """Quality against time and against parameters; the line joins methods that none beats in both."""
    from matplotlib.ticker import LogLocator, NullFormatter

    quality = {method: median(subjects.values()) for method, subjects in values_of(cells, measure).items()}
    known = [method for method in quality if method in run.speeds]
    if not known:
        return ""
    look = looks(list(quality), {cell.variant.name: cell.variant.method for cell in cells})
    figure, axes = figure_of(9, 4.4 + 0.17 * len(known), 1, 2, share=True)
    for axis, fact, label in zip(
        axes, ("seconds_per_slice", "parameters"), ("seconds per slice", "learned parameters"), strict=True
    ):
        places = {method: run.speeds[method][fact] for method in known if run.speeds[method][fact] > 0}
        for method, place in places.items():
            axis.plot(place, quality[method], label=method, markersize=8, **{**look[method], "linestyle": "none"})
        front = pareto_front({method: (place, quality[method]) for method, place in places.items()})
        axis.plot(*zip(*[(places[m], quality[m]) for m in front], strict=True), color=INK, linewidth=0.8, zorder=0)
        axis.set_xscale("log")
        axis.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
        axis.xaxis.set_major_formatter("{x:,.6g}")
        axis.xaxis.set_minor_formatter(NullFormatter())
        axis.set_xlabel(label)
        axis.grid(alpha=0.3)
    axes[0].set_ylabel(f"{measure.heading}, median over subjects")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False, fontsize=8)
    return svg_of(figure)


def pareto_front(points: Mapping[str, tuple[float, float]]) -> list[str]:
    """Those with (cost, quality) that no other has at no more cost with more quality; by rising cost."""
    front: list[str] = []
    for name in sorted(points, key=lambda name: (points[name][0], -points[name][1])):
        if not front or points[name][1] > points[front[-1]][1]:
            front.append(name)
    return front


def consistency(cells: Sequence[Cell]) -> str:
    """For each network the difference between its forms of data consistency: dots are subjects, bars intervals."""
    pairs: dict[str, Difference] = consistency_pairs(cells, SSIM)
    if not pairs:
        return ""
    names = list(pairs)[::-1]
    figure, (axis,) = figure_of(7, 1.1 + 0.4 * len(names), 1, 1)
    axis.axvline(0, color=INK, linewidth=0.8)
    for position, name in enumerate(names):
        difference = pairs[name]
        axis.plot(difference.values, [position] * difference.n, "o", color=COLOURS[0], alpha=0.6, markersize=4)
        if difference.interval:
            axis.hlines(position, *difference.interval, color=COLOURS[1], linewidth=3)
        axis.plot(difference.median, position, "|", color=COLOURS[1], markersize=14, markeredgewidth=2)
    axis.set_yticks(range(len(names)), names)
    axis.set_xlabel("difference of SSIM (right: the form named first is better)")
    axis.grid(axis="x", alpha=0.3)
    return svg_of(figure)


def looks(methods: Sequence[str], networks: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Colour, mark and line of each method; forms of one network share colour and mark, later ones are open, dashed."""
    numbers = {network: number for number, network in enumerate(dict.fromkeys(networks[m] for m in methods))}
    found: dict[str, dict[str, Any]] = {}
    seen: set[str] = set()
    for method in methods:
        number = numbers[networks[method]]
        first = networks[method] not in seen
        seen.add(networks[method])
        colour = COLOURS[number % len(COLOURS)]
        found[method] = {
            "color": colour,
            "marker": MARKERS[number % len(MARKERS)],
            "linestyle": LINES[number // len(COLOURS) % len(LINES)][0 if first else 1],
            "markerfacecolor": colour if first else "white",
        }
    return found


def figure_of(width: float, height: float, rows: int, columns: int, *, share: bool = False) -> tuple[Any, list[Any]]:
    """A figure of that size in inches, and its panels row by row; share: they have one vertical axis."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False, sharey=share)
    panels = list(axes.ravel())
    return figure, panels


def svg_of(figure: Any) -> str:
    """The figure as SVG without panels that hold nothing."""
    import matplotlib as mpl

    for axis in figure.axes:
        if not axis.has_data():
            axis.set_visible(False)
    with mpl.rc_context({**STYLE, "svg.hashsalt": "mrirecon"}):
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()
