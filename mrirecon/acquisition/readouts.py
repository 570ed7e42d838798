"""`Readouts`: what a scanner writes, one record per readout, before it is sorted into k-space.

The names and the meaning of flags and counters are those of the ISMRM raw data format (MRD, Inati et al., MRM 2017,
doi 10.1002/mrm.26089); readers of other raw data translate into them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import IntFlag
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mrirecon.errors import InputError


class Flag(IntFlag):
    """MRD's acquisition flags that change how a readout is used; flag number n is bit n − 1."""

    NOISE = 1 << 18
    CALIBRATION = 1 << 19
    CALIBRATION_AND_IMAGING = 1 << 20
    REVERSE = 1 << 21
    NAVIGATION = 1 << 22
    PHASE_CORRECTION = 1 << 23
    FEEDBACK = 1 << 25
    DUMMY = 1 << 26
    REAL_TIME_FEEDBACK = 1 << 27
    SURFACE_COIL_CORRECTION = 1 << 28
    PHASE_STABILIZATION_REFERENCE = 1 << 29
    PHASE_STABILIZATION = 1 << 30
    #: Samples are compressed (MRD's COMPRESSION1 to 4).
    COMPRESSED = 0b1111 << 52


#: Readouts with any of these flags are no part of an image.
_NOT_IMAGING = (
    Flag.NOISE
    | Flag.NAVIGATION
    | Flag.PHASE_CORRECTION
    | Flag.FEEDBACK
    | Flag.DUMMY
    | Flag.REAL_TIME_FEEDBACK
    | Flag.SURFACE_COIL_CORRECTION
    | Flag.PHASE_STABILIZATION_REFERENCE
    | Flag.PHASE_STABILIZATION
)


def is_imaging(flags: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Which readouts are part of an image, by their flags; calibration is not, unless it is marked as imaging too."""
    calibration_alone = (flags & np.uint64(Flag.CALIBRATION | Flag.CALIBRATION_AND_IMAGING)) == np.uint64(
        Flag.CALIBRATION
    )
    return ((flags & np.uint64(_NOT_IMAGING)) == 0) & ~calibration_alone


#: One record per readout. samples: complex samples per coil as stored. centre: sample at k = 0, counted before
#: discard_pre is taken off. step1, step2: phase-encode counters. position: of the centre of the excited slice or slab;
#: directions are unit vectors; all in the patient's LPS mm. sample_time_us: dwell time, 0 = unknown.
HEAD = np.dtype(
    [
        ("flags", np.uint64),
        ("encoding", np.int64),
        ("coils", np.int64),
        ("samples", np.int64),
        ("centre", np.int64),
        ("discard_pre", np.int64),
        ("discard_post", np.int64),
        ("step1", np.int64),
        ("step2", np.int64),
        ("average", np.int64),
        ("slice", np.int64),
        ("contrast", np.int64),
        ("phase", np.int64),
        ("repetition", np.int64),
        ("set", np.int64),
        ("segment", np.int64),
        ("sample_time_us", np.float64),
        ("position", np.float64, 3),
        ("read_dir", np.float64, 3),
        ("phase_dir", np.float64, 3),
        ("slice_dir", np.float64, 3),
    ]
)


@dataclass(frozen=True)
class Limits:
    """Range of a phase-encode counter, inclusive, and its value at k = 0."""

    minimum: int
    maximum: int
    centre: int


@dataclass(frozen=True)
class Encoding:
    """How one set of readouts fills k-space. Sizes are in MRD's order (x readout, y phase encode 1, z phase encode 2).

    encoded_*: of the k-space grid, with oversampling; recon_*: of the scanner's image. None = the header does not say.
    calibration: parallel imaging's mode ("embedded", "interleaved", "separate", "external", "other") or None.
    """

    trajectory: str
    encoded_matrix: tuple[int, int, int]
    encoded_fov_mm: tuple[float, float, float] | None
    recon_matrix: tuple[int, int, int] | None
    recon_fov_mm: tuple[float, float, float] | None
    step1: Limits | None = None
    step2: Limits | None = None
    acceleration: tuple[float, float] = (1.0, 1.0)
    calibration: str | None = None
    multiband: int = 1


@dataclass(frozen=True)
class System:
    """Facts of the scanner and the sequence. None = the file does not say. Nothing here names a patient.

    bandwidth: relative receiver noise bandwidth. te_ms: one per contrast. patient_position: DICOM's code, as "HFS".
    """

    vendor: str | None = None
    model: str | None = None
    field_strength_t: float | None = None
    bandwidth: float | None = None
    frequency_hz: float | None = None
    tr_ms: float | None = None
    te_ms: tuple[float, ...] = ()
    ti_ms: float | None = None
    flip_angle_deg: float | None = None
    patient_position: str | None = None


#: Row numbers, ascending → the samples of each, complex64 (coils, samples), as stored.
ReadRows = Callable[[Sequence[int]], list[NDArray[np.complex64]]]


@dataclass(frozen=True)
class Readouts:
    """All readouts of one measurement, with lazily read samples.

    path: file. format: as `mrirecon info` prints it. heads: array of HEAD. read: see ReadRows; opens the file at each
    call, so that it can cross process borders. encodings: `heads["encoding"]` points into them. group: which of the
    file's measurements this is, None if it has one. notes: sentences for `mrirecon info`.
    """

    path: Path
    format: str
    heads: NDArray[np.void]
    read: ReadRows
    encodings: tuple[Encoding, ...]
    system: System = field(default_factory=System)
    group: str | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.heads.dtype != HEAD:
            raise TypeError(f"heads are of {self.heads.dtype}, not of HEAD")
        if not len(self.heads):
            raise InputError(f"{self.path}: holds no readouts; the measurement was not finished or not exported.")

    def flagged(self, flags: Flag) -> NDArray[np.bool_]:
        """Which readouts carry any of `flags`."""
        return (self.heads["flags"] & np.uint64(flags)) != 0
