"""The head of an MRD version 1 readout as files store it, and its translation into `HEAD`."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrirecon.acquisition.readouts import HEAD, Encoding, Flag

#: AcquisitionHeader of the standard, 340 bytes without padding, little endian.
STORED = np.dtype(
    [
        ("version", "<u2"),
        ("flags", "<u8"),
        ("measurement_uid", "<u4"),
        ("scan_counter", "<u4"),
        ("acquisition_time_stamp", "<u4"),
        ("physiology_time_stamp", "<u4", 3),
        ("number_of_samples", "<u2"),
        ("available_channels", "<u2"),
        ("active_channels", "<u2"),
        ("channel_mask", "<u8", 16),
        ("discard_pre", "<u2"),
        ("discard_post", "<u2"),
        ("center_sample", "<u2"),
        ("encoding_space_ref", "<u2"),
        ("trajectory_dimensions", "<u2"),
        ("sample_time_us", "<f4"),
        ("position", "<f4", 3),
        ("read_dir", "<f4", 3),
        ("phase_dir", "<f4", 3),
        ("slice_dir", "<f4", 3),
        ("patient_table_position", "<f4", 3),
        (
            "idx",
            [
                ("kspace_encode_step_1", "<u2"),
                ("kspace_encode_step_2", "<u2"),
                ("average", "<u2"),
                ("slice", "<u2"),
                ("contrast", "<u2"),
                ("phase", "<u2"),
                ("repetition", "<u2"),
                ("set", "<u2"),
                ("segment", "<u2"),
                ("user", "<u2", 8),
            ],
        ),
        ("user_int", "<i4", 8),
        ("user_float", "<f4", 8),
    ]
)

_NAMES = {
    "encoding": "encoding_space_ref",
    "coils": "active_channels",
    "samples": "number_of_samples",
    "centre": "center_sample",
}
_COUNTERS = {"step1": "kspace_encode_step_1", "step2": "kspace_encode_step_2"} | {
    name: name for name in ("average", "slice", "contrast", "phase", "repetition", "set", "segment")
}
VECTORS = ("position", "read_dir", "phase_dir", "slice_dir")


def translate_heads(stored: NDArray[Any]) -> NDArray[np.void]:
    """Heads as stored, a structured array whose fields are found by name → array of HEAD.

    Raises ValueError or TypeError for fields that are missing or of another kind; call it in `reading`.
    """
    heads = np.zeros(len(stored), dtype=HEAD)
    for name in HEAD.names or ():
        values = stored["idx"][_COUNTERS[name]] if name in _COUNTERS else stored[_NAMES.get(name, name)]
        if values.dtype.kind not in ("uif" if HEAD[name].base.kind == "f" else "ui"):
            raise TypeError(f"the heads' field {name} is of type {values.dtype}")
        heads[name] = values
    return heads


def check_heads(heads: NDArray[np.void], encodings: Sequence[Encoding]) -> list[str]:
    """Checks heads of any MRD file against its header, and repairs in place what is no number; notes on repairs.

    Raises ValueError for negative counts and for readouts of an encoding that the header does not have.
    """
    for name in HEAD.names or ():
        if heads[name].dtype.kind == "i" and heads[name].min(initial=0) < 0:
            raise ValueError(f"a readout's {name} is {heads[name].min()}")
    imaging = heads[(heads["flags"] & np.uint64(Flag.NOISE)) == 0]
    if (last := imaging["encoding"].max(initial=0)) >= len(encodings):
        raise ValueError(f"a readout is of encoding {last}, and the header has {len(encodings)}, counted from 0")
    notes = []
    times = heads["sample_time_us"]
    if (wrong := ~(np.isfinite(times) & (times >= 0))).any():
        times[wrong] = 0
        notes.append(f"The dwell time of {wrong.sum()} readouts is no time and is taken as unknown.")
    for name in VECTORS:
        if (wrong := ~np.isfinite(heads[name]).all(axis=1)).any():
            # Zero would be a place, while it is no direction; NaN is neither.
            heads[name][wrong] = np.nan
            notes.append(f"The {name} of {wrong.sum()} readouts holds NaN or infinity and is taken as unknown.")
    return notes
