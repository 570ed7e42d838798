"""Charts of robustness as SVG: quality against the level of each corruption, and lesions that were seen."""

from math import ceil

import numpy as np

from mrirecon.evaluation.grid.charts import ACROSS, COLOURS, INK, figure_of, looks, svg_of
from mrirecon.evaluation.grid.results import GridRun
from mrirecon.evaluation.grid.robust_tables import KINDS, by_level, kinds_of, lesion_kinds, only, rates
from mrirecon.evaluation.grid.tables import SSIM, intervals_of, median, setting_label, values_of
from mrirecon.evaluation.statistics import mean_interval

#: Beside the colour of a bar, so that they can be told apart without it.
HATCHES = ("", "////", "....", "xxxx", "----", "\\\\\\\\")


def against_level(run: GridRun) -> str:
    """A panel for each kind of corruption and setting: the median SSIM of each method over the level."""
    panels = kinds_of(run)
    methods = list(dict.fromkeys(cell.variant.name for cell in run.corrupted))
    every = {cell.variant.name: cell.variant.method for cell in run.cells}
    look = looks(list(every), every)  # the same as in the other charts
    rows, columns = ceil(len(panels) / ACROSS), min(ACROSS, len(panels))
    figure, axes = figure_of(3.4 * columns, 2.9 * rows + 0.17 * len(methods), rows, columns, share=True)
    for axis, (kind, setting) in zip(axes, panels, strict=False):
        values = {level: values_of(cells, SSIM) for level, cells in by_level(run, kind, setting).items()}
        levels = sorted(values)
        for number, method in enumerate(methods):
            there = [level for level in levels if method in values[level]]
            # A little aside, so that bars do not hide each other.
            places = np.array(there) + 0.006 * max(levels) * (number - len(methods) / 2)
            middle = [median(values[level][method].values()) for level in there]
            axis.plot(places, middle, label=method, linewidth=1.3, markersize=4.5, **look[method])
            for place, level in zip(places, there, strict=True):
                if interval := intervals_of(values[level])[method]:
                    axis.vlines(place, *interval, color=look[method]["color"], linewidth=0.8)
        name, unit = KINDS[kind]
        axis.set_title(f"{name}\n{setting_label(setting)}", fontsize=9)
        axis.set_xlabel(unit)
        axis.set_xticks(levels)
        axis.grid(alpha=0.3)
    for axis in axes[::columns]:
        axis.set_ylabel("SSIM, median")
    handles = axes[0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower center", ncols=columns, frameon=False, fontsize=8)
    return svg_of(figure)


def lesions_seen(run: GridRun) -> str:
    """Bars by size and contrast: the share of inserted lesions that are detected, and of those that falsely appear."""
    kinds = lesion_kinds(run.lesions)
    methods = list(dict.fromkeys(cell.variant.name for cell in run.lesions))[::-1]
    thickness = 0.8 / len(kinds)
    figure, axes = figure_of(9, 1.4 + len(methods) * (0.14 + 0.11 * len(kinds)), 1, 2, share=True)
    for axis, falsely in zip(axes, (False, True), strict=True):
        for number, kind in enumerate(kinds):
            values = rates(only(run.lesions, *kind), falsely)
            for row, method in enumerate(methods):
                numbers = list(values.get(method, {}).values())
                if not numbers:
                    continue
                place = row + 0.4 - (number + 0.5) * thickness
                axis.barh(
                    place,
                    np.mean(numbers),
                    0.9 * thickness,
                    color=COLOURS[number % len(COLOURS)],
                    hatch=HATCHES[number % len(HATCHES)],
                    edgecolor="white",
                    linewidth=0,
                    label=f"{kind[0]:g} pixels, {kind[1]:+.0%}" if row == 0 else None,
                )
                if interval := mean_interval(numbers):
                    axis.hlines(place, *interval, color=INK, linewidth=0.9)
        axis.set_xlim(0, 1.02)
        axis.set_xticks([0, 0.5, 1], ["0 %", "50 %", "100 %"])
        axis.grid(axis="x", alpha=0.3)
        axis.set_title("falsely appear where none was inserted" if falsely else "detected", fontsize=10)
    axes[0].set_yticks(range(len(methods)), methods)
    handles = axes[0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower center", ncols=min(len(kinds), 4), frameon=False, fontsize=8)
    return svg_of(figure)
