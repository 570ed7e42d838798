"""ATOMMIC's networks beside ours."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import torch

from mrirecon.benchmark.measure import Row, Settings
from mrirecon.benchmark.side_by_side import Case, side_by_side
from mrirecon.benchmark.subjects import centre, head, masks
from mrirecon.physics.measurement import Measurement

#: Our configurations of the same networks → what they are.
NETWORKS = {
    "cirim": "CIRIM 5 × 8 × 64",
    "rim_gru": "RIM with GRU 8 × 64",
    "e2evn": "E2EVN 8 × 18",
    "unet": "U-Net 64 × 2",
}


def measure_atommic(settings: Settings) -> Iterator[Row]:
    """Inference, training and memory of those of `settings.networks` that are there too; nothing without peers."""
    cases = [
        Case("atommic", "ATOMMIC", kind, name, partial(_data, settings), training=not settings.quick)
        for kind, name in NETWORKS.items()
        if kind in settings.networks
    ]
    yield from side_by_side(cases, settings)


def _data(settings: Settings) -> Measurement:
    """One undersampled slice with maps, and the lines from which networks make their own: an even number, as there."""
    measurement = head(settings).measured(masks(settings)["lines along y"]).to("cpu")
    half, width = centre(settings) // 2, settings.matrix[1]
    start = (width - 2 * half + 1) // 2
    calibration = torch.zeros_like(measurement.mask)
    calibration[..., start : start + 2 * half] = True
    return replace(measurement, calibration=calibration)
