"""Which readouts are imaging, calibration and noise, by their flags; and which measurements are not supported."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mrirecon.acquisition.readouts import Encoding, Flag, Readouts, is_imaging
from mrirecon.acquisition.scan import Noise
from mrirecon.errors import InputError

Rows = NDArray[np.intp]

#: What is not imaging, by the name under which it is counted. Calibration that is also imaging has a flag of its own.
SET_ASIDE = {
    Flag.NOISE: "noise",
    Flag.CALIBRATION: "calibration",
    Flag.NAVIGATION: "navigator",
    Flag.PHASE_CORRECTION: "phase correction",
    Flag.FEEDBACK: "feedback",
    Flag.REAL_TIME_FEEDBACK: "real-time feedback",
    Flag.DUMMY: "dummy",
    Flag.SURFACE_COIL_CORRECTION: "surface coil correction",
    Flag.PHASE_STABILIZATION_REFERENCE: "phase stabilisation reference",
    Flag.PHASE_STABILIZATION: "phase stabilisation",
}
#: Samples of noise per coil that are read: the covariance of so many is exact to 0.2 %.
MOST_NOISE = 1 << 18


@dataclass(frozen=True)
class Selection:
    """Row numbers of the readouts of each kind, ascending; calibration may be imaging too.

    aside: counts of what is not imaging, in words.
    """

    imaging: Rows
    calibration: Rows
    aside: str


def select(readouts: Readouts, *, by_flags: bool) -> Selection:
    """Tell imaging readouts from others. Without `by_flags` all that share an encoding with imaging ones are imaging.

    Raises InputError if there are none, or if samples are compressed.
    """
    if readouts.flagged(Flag.COMPRESSED).any():
        raise InputError(
            f"{readouts.path}: its samples are compressed (flags ACQ_COMPRESSION1 to 4), which is not supported; "
            "convert the scanner's file again without compression."
        )
    both = readouts.flagged(Flag.CALIBRATION_AND_IMAGING)
    marked = {name: readouts.flagged(flag) for flag, name in SET_ASIDE.items()}
    marked["calibration"] &= ~both
    imaging = is_imaging(readouts.heads["flags"])
    counts = [f"{mask.sum()} {name}" for name, mask in marked.items() if mask.any()]
    if not by_flags:
        encodings = readouts.heads["encoding"]
        imaging = np.isin(encodings, encodings[imaging] if imaging.any() else encodings)
    if not imaging.any():
        raise InputError(
            f"{readouts.path}: holds no imaging readouts, only {', '.join(counts)}; "
            "choose another measurement of the file (--group) or another file."
        )
    others = np.logical_or.reduce([mask for name, mask in marked.items() if name != "calibration"])
    return Selection(
        imaging=np.flatnonzero(imaging),
        calibration=np.flatnonzero(((marked["calibration"] & ~imaging) | both) & ~others),
        aside=", ".join(counts) or "none",
    )


def refuse_unsupported(readouts: Readouts, imaging: Rows, encoding: Encoding) -> None:
    """InputError, naming the field or flag, if these readouts cannot be sorted into Cartesian k-space."""
    path, heads = readouts.path, readouts.heads[imaging]
    trajectory = encoding.trajectory.strip().lower()
    if trajectory not in ("cartesian", "epi"):
        raise InputError(f"{path}: its trajectory is '{encoding.trajectory}'; only Cartesian k-space is reconstructed.")
    reversed_lines = bool((heads["flags"] & np.uint64(Flag.REVERSE)).any())
    corrected = bool(readouts.flagged(Flag.PHASE_CORRECTION).any())
    if (reversed_lines and corrected) or (trajectory == "epi" and (reversed_lines or corrected)):
        found = ["lines measured backwards (flag ACQ_IS_REVERSE)"] if reversed_lines else []
        found += ["phase-correction readouts (flag ACQ_IS_PHASECORR_DATA)"] if corrected else []
        raise InputError(
            f"{path}: is echo-planar, with {' and '.join(found)}; the phase correction that it needs is not done here. "
            "Reconstruct it with a tool for echo-planar imaging."
        )
    if encoding.multiband > 1:
        raise InputError(
            f"{path}: {encoding.multiband} slices are excited at once (field multiband), "
            "which are not separated here; reconstruct it with a tool for simultaneous multi-slice."
        )
    coils = np.unique(heads["coils"])
    if len(coils) > 1 or coils[0] < 1:
        raise InputError(
            f"{path}: its imaging readouts have different numbers of coils ({', '.join(map(str, coils))}; field "
            "active_channels), so they are no one measurement; convert the scanner's file again."
        )


def noise_of(readouts: Readouts, *, coils: int | None = None, all_if_unflagged: bool = False) -> Noise | None:
    """The noise scan among the readouts (flag NOISE), or None if there is none.

    coils: only readouts of so many coils, default the number that most have. all_if_unflagged: where no readout is
    flagged, all are noise, as in a file of a noise scan only. Their first 2^18 samples per coil are read.
    """
    heads = readouts.heads
    rows = np.flatnonzero(readouts.flagged(Flag.NOISE))
    if not len(rows) and all_if_unflagged:
        rows = np.arange(len(heads))
    kept = heads["samples"] - heads["discard_pre"] - heads["discard_post"]
    rows = rows[(kept[rows] > 0) & (heads["coils"][rows] > 0)]
    if coils is None and len(rows):
        values, counts = np.unique(heads["coils"][rows], return_counts=True)
        coils = int(values[counts.argmax()])
    rows = rows[heads["coils"][rows] == coils]
    if not len(rows):
        return None
    dwell = heads["sample_time_us"][rows[0]]
    rows = rows[heads["sample_time_us"][rows] == dwell] if np.isfinite(dwell) else rows
    rows = rows[: 1 + np.searchsorted(np.cumsum(kept[rows]), MOST_NOISE)]
    samples = [
        line[:, head["discard_pre"] : head["discard_pre"] + n]
        for line, head, n in zip(readouts.read(rows.tolist()), heads[rows], kept[rows], strict=True)
    ]
    return Noise(
        samples=np.concatenate(samples, axis=1)[:, :MOST_NOISE],
        sample_time_us=float(dwell) if dwell > 0 and np.isfinite(dwell) else 0.0,
        source=f"{len(rows)} noise readouts of {readouts.path.name}",
    )
