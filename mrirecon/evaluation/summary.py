"""The summary table of an evaluation."""

from collections.abc import Sequence

import numpy as np

from mrirecon.evaluation.evaluate import AS_ACQUIRED, Table
from mrirecon.evaluation.rows import Row

#: Metric → (heading, format). Shown in this order.
SHOWN = {
    "ssim": ("SSIM ↑", ".3f"),
    "psnr": ("PSNR (dB) ↑", ".1f"),
    "nmse": ("NMSE ↓", ".4f"),
    "hfen": ("HFEN ↓", ".3f"),
    "seconds_per_slice_median": ("s / slice", ".2f"),
}
#: The same for scans without a reference.
SHOWN_AS_ACQUIRED = {"residual": ("residual", ".4f"), "unevenness": ("unevenness", ".3f")}


def summary(rows: Sequence[Row]) -> Table:
    """Median over volumes with the range in brackets, and n, for each method in each setting."""
    groups: dict[tuple[str, float, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.mask, row.acceleration_asked, row.method), []).append(row)
    shown = SHOWN | SHOWN_AS_ACQUIRED if any(row.mask == AS_ACQUIRED for row in rows) else SHOWN
    shown = {name: how for name, how in shown.items() if any(getattr(row, name) is not None for row in rows)}
    columns = ["mask", "acceleration", "method", *(heading for heading, _ in shown.values()), "n"]
    lines = []
    for (mask, _, method), group in groups.items():
        values = [_median_and_range([getattr(row, name) for row in group], form) for name, (_, form) in shown.items()]
        achieved = _median_and_range([row.acceleration for row in group], ".2f")
        lines.append([mask, f"{achieved}×", method, *values, str(len(group))])
    return Table(columns, lines)


def _median_and_range(numbers: Sequence[float | None], form: str) -> str:
    values = [number for number in numbers if number is not None]
    if not values:
        return "–"
    low, middle, high = (format(value, form) for value in (min(values), np.median(values), max(values)))
    return middle if low == high else f"{middle} ({low}–{high})"
