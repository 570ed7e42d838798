"""The `Header` of a volume sorted from readouts."""

import numpy as np
from numpy.typing import NDArray

from mrirecon.acquisition.readouts import Limits, System
from mrirecon.acquisition.scan import Box, Header
from mrirecon.conditioning.grid import Grid


def volume_header(system: System, grid: Grid, acquired: Box, contrast: int) -> Header:
    """Facts of a volume with this contrast counter; one echo time serves all contrasts where the header has one."""
    x_mm, y_mm, z_mm = grid.voxel_mm
    kept_x, kept_y, kept_z = grid.kept
    echoes = system.te_ms
    return Header(
        readout_axis="x",
        acquired=acquired,
        recon_size=(kept_y, kept_x),
        recon_partitions=kept_z if grid.partitions else None,
        readout_kept=kept_x,
        fov_mm=(kept_y * y_mm, kept_x * x_mm) if x_mm and y_mm else None,
        slice_thickness_mm=z_mm,
        field_strength_t=system.field_strength_t,
        tr_ms=system.tr_ms,
        te_ms=echoes[contrast] if 0 <= contrast < len(echoes) else echoes[0] if len(echoes) == 1 else None,
        ti_ms=system.ti_ms,
        flip_angle_deg=system.flip_angle_deg,
        vendor=system.vendor,
        model=system.model,
        frequency_hz=system.frequency_hz,
    )


def acquired_box(table: NDArray[np.void], limits: Limits | None, grid: Grid, *, centring: bool) -> Box:
    """What was measured: columns as the readouts of a volume fill them, rows by the encoding limits.

    All rows where there are no limits or where the lines (table, of PLACED) contradict them.
    """
    height = grid.matrix[1]
    rows = (0, height)
    if limits is not None:
        shift = height // 2 - limits.centre if centring else 0
        low, high = max(limits.minimum + shift, 0), min(limits.maximum + shift + 1, height)
        if low <= table["y"].min() and table["y"].max() < high:
            rows = (low, high)
    return rows, (int(table["x"].min()), int((table["x"] + table["kept"]).max()))
