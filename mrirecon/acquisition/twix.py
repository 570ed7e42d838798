"""Siemens raw data ("twix", .dat): measurements of a scanner as `Readouts`."""

from collections.abc import Callable
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from mrirecon.acquisition.containers import reading
from mrirecon.acquisition.readouts import HEAD, Encoding, Flag, Readouts, is_imaging
from mrirecon.acquisition.twix_file import (
    Layout,
    Lines,
    Measurement,
    RowReader,
    channel_ids,
    header_of,
    layout_of,
    lines_of,
    measurements_of,
)
from mrirecon.acquisition.twix_header import Protocol, encoding_of, protocol_of, system_of
from mrirecon.errors import InputError, UsageError

#: Flags in EvalInfoMask by the names of twixtools, where noname60 marks navigators of the free induction decay.
_FLAGS = {
    "NOISEADJSCAN": Flag.NOISE,
    "PATREFANDIMASCAN": Flag.CALIBRATION_AND_IMAGING,
    "REFLECT": Flag.REVERSE,
    "PHASCOR": Flag.PHASE_CORRECTION,
    "SLICE_ACCEL_PHASCOR": Flag.PHASE_CORRECTION,
    "RTFEEDBACK": Flag.REAL_TIME_FEEDBACK,
    "HPFEEDBACK": Flag.FEEDBACK,
    "REFPHASESTABSCAN": Flag.PHASE_STABILIZATION_REFERENCE,
    "PHASESTABSCAN": Flag.PHASE_STABILIZATION,
    "RETRO_DUMMYSCAN": Flag.DUMMY,
    "B1_CONTROLLOOP": Flag.DUMMY,
    "CT_NORMALIZE": Flag.SURFACE_COIL_CORRECTION,
    "noname60": Flag.NAVIGATION,
}
#: Flags of imaging readouts that ask for a correction which is not made.
_UNCORRECTED = {
    "RAWDATACORRECTION": "a factor per channel",
    "SIGNREV": "a change of sign",
    "SWAPPED": "an exchange of readout and phase encode",
}
#: The header does not tell the dwell time (µs) of noise readouts. It is fixed in the adjustment measurements; elsewhere
#: the whole readout takes 7680 µs (VD and later, cut to a tenth) or 1/130 s (VB). So it is in siemens_to_ismrmrd.
_ADJUSTMENT_DWELL_US = {"AdjCoilSens": 5.0, "AdjQuietCoilSens": 4.0}
#: The patient coordinates sagittal, coronal and transversal grow to the left, to the back and to the head.
_AXES = ("Sag", "Cor", "Tra")
_COUNTERS = {
    "average": "Ave",
    "slice": "Sli",
    "contrast": "Eco",
    "phase": "Phs",
    "repetition": "Rep",
    "set": "Set",
    "segment": "Seg",
}


def open_twix(path: Path, group: str | None = None) -> Readouts:
    """The readouts of one measurement.

    group: number of the measurement, counted from 0; default the last one with imaging readouts. If it has no noise
    readouts, those of an earlier measurement in the file with the same channels are added.
    Raises InputError for damaged files, UsageError for a measurement that is not there and if twixtools is missing.
    """
    path = Path(path)
    with reading(path), path.open("rb", buffering=0) as file:
        layout = layout_of(file)
        measurements = measurements_of(file, layout, path)

        def lines_in(measurement: Measurement) -> Lines:
            return lines_of(file, measurement, layout, len(header_of(file, measurement, path)))

        chosen, lines = _choose(measurements, lines_in, layout, group, path)
        flags = _flags(lines.mdhs, layout)
        imaging = lines.mdhs[is_imaging(flags)]
        protocol = protocol_of(header_of(file, chosen, path), path)
        notes = _doubts(lines, imaging, layout, protocol, chosen, path)
        encoding = encoding_of(protocol, _reached(imaging), _centres(imaging), path)
        heads = _heads(lines.mdhs, flags, layout, protocol, encoding, chosen.name)
        starts = lines.starts
        noise = _noise_before(file, measurements[: chosen.number], lines_in, layout, lines, flags)
        if noise is not None:
            measurement, found = noise
            flags = _flags(found.mdhs, layout)
            heads = np.concatenate([_heads(found.mdhs, flags, layout, protocol, encoding, measurement.name), heads])
            starts = np.concatenate([found.starts, starts])
            notes.append(f"Noise readouts are those of measurement {measurement.number} of the same file.")
    return Readouts(
        path=path,
        format=layout.name,
        heads=heads,
        read=RowReader(
            path, starts + layout.before_channels, heads["coils"], heads["samples"], layout.channel.itemsize
        ),
        encodings=(encoding,),
        system=system_of(protocol),
        group=str(chosen.number) if len(measurements) > 1 else None,
        notes=tuple(notes),
    )


def _choose(
    measurements: list[Measurement],
    lines_in: Callable[[Measurement], Lines],
    layout: Layout,
    group: str | None,
    path: Path,
) -> tuple[Measurement, Lines]:
    """The measurement called `group`, else the last with imaging readouts or without an end, else the last."""
    if group is not None:
        named = [measurement for measurement in measurements if str(measurement.number) == group]
        if not named:
            numbers = ", ".join(str(measurement.number) for measurement in measurements)
            raise UsageError(f"{path}: holds no measurement {group} (--group); there are {numbers}.")
        return named[0], lines_in(named[0])
    last = None
    for measurement in reversed(measurements):
        lines = lines_in(measurement)
        if not lines.ended or is_imaging(_flags(lines.mdhs, layout)).any():
            return measurement, lines
        last = last or (measurement, lines)
    assert last is not None, "a file has at least one measurement"
    return last


def _noise_before(
    file: BinaryIO,
    measurements: list[Measurement],
    lines_in: Callable[[Measurement], Lines],
    layout: Layout,
    lines: Lines,
    flags: NDArray[np.uint64],
) -> tuple[Measurement, Lines] | None:
    """Noise readouts of the nearest earlier measurement with the channels of these lines, if these have none."""
    imaging = np.flatnonzero(is_imaging(flags))
    if not len(imaging) or (flags & np.uint64(Flag.NOISE)).any():
        return None
    channels = channel_ids(file, lines, layout, int(imaging[0]))
    for measurement in reversed(measurements):
        try:
            earlier = lines_in(measurement)
        except InputError:
            continue
        rows = np.flatnonzero(_flags(earlier.mdhs, layout) & np.uint64(Flag.NOISE))
        if len(rows) and all(channel_ids(file, earlier, layout, int(row)) == channels for row in rows):
            return measurement, replace(earlier, mdhs=earlier.mdhs[rows], starts=earlier.starts[rows])
    return None


def _flags(mdhs: NDArray[np.void], layout: Layout) -> NDArray[np.uint64]:
    """MRD's flags of each readout. Siemens marks a reference line that is also imaging with both of its flags."""
    flags = np.zeros(len(mdhs), dtype=np.uint64)
    for name, flag in _FLAGS.items():
        flags[layout.flagged(mdhs, name)] |= np.uint64(flag)
    reference = layout.flagged(mdhs, "PATREFSCAN") & ~layout.flagged(mdhs, "PATREFANDIMASCAN")
    flags[reference] |= np.uint64(Flag.CALIBRATION)
    return flags


def _reached(imaging: NDArray[np.void]) -> tuple[int, int, int]:
    """Samples, lines and partitions, up to the highest counter; zeros without readouts."""
    if not len(imaging):
        return 0, 0, 0
    counter = imaging["Counter"]
    return int(imaging["SamplesInScan"].max()), int(counter["Lin"].max()) + 1, int(counter["Par"].max()) + 1


def _centres(imaging: NDArray[np.void]) -> tuple[int, int]:
    """Line and partition at k = 0 that most readouts name; 0 if they name none."""
    line, partition = (
        np.bincount(imaging[name]).argmax() if len(imaging) else 0 for name in ("CenterLin", "CenterPar")
    )
    return int(line), int(partition)


def _heads(
    mdhs: NDArray[np.void],
    flags: NDArray[np.uint64],
    layout: Layout,
    protocol: Protocol,
    encoding: Encoding,
    name: str,
) -> NDArray[np.void]:
    """HEAD of each readout. name: of the measurement's protocol."""
    heads = np.zeros(len(mdhs), dtype=HEAD)
    counter, place = mdhs["Counter"], mdhs["SliceData"]
    heads["flags"] = flags
    heads["coils"], heads["samples"], heads["centre"] = mdhs["UsedChannels"], mdhs["SamplesInScan"], mdhs["CenterCol"]
    heads["discard_pre"], heads["discard_post"] = mdhs["CutOff"]["Pre"], mdhs["CutOff"]["Post"]
    for field, short in _COUNTERS.items():
        heads[field] = counter[short]
    heads["step1"], heads["step2"] = counter["Lin"], counter["Par"]
    # Separate reference lines may be counted from their own first line; k = 0 is what they have in common.
    reference = (flags & np.uint64(Flag.CALIBRATION)) != 0
    for field, own, limits in (("step1", "CenterLin", encoding.step1), ("step2", "CenterPar", encoding.step2)):
        told = reference & (mdhs[own] > 0)
        heads[field][told] += (limits.centre if limits else 0) - mdhs[own][told].astype(np.int64)
    dwell = [protocol.positive(f"sRXSPEC.alDwellTime[{contrast}]", 1e-3) or 0.0 for contrast in range(128)]
    heads["sample_time_us"] = np.asarray(dwell)[np.minimum(counter["Eco"], 127)]
    noise = (flags & np.uint64(Flag.NOISE)) != 0
    heads["sample_time_us"][noise] = _noise_dwell_us(mdhs["SamplesInScan"][noise], layout, name)
    heads["position"] = np.stack([place["SlicePos"][axis] for axis in _AXES], axis=-1)
    heads["phase_dir"], heads["read_dir"], heads["slice_dir"] = _directions(place["Quaternion"])
    return heads


def _noise_dwell_us(samples: NDArray[np.uint16], layout: Layout, name: str) -> NDArray[np.float64]:
    if name in _ADJUSTMENT_DWELL_US:
        return np.full(len(samples), _ADJUSTMENT_DWELL_US[name])
    return 1e6 / 130 / samples if layout.vb else np.floor(76800 / samples) / 10


def _directions(quaternions: NDArray[np.float32]) -> NDArray[np.float64]:
    """(readouts, 4) quaternions, real part first → (3, readouts, 3) directions of phase encode, readout and slice.

    The columns of the rotation matrix, as siemens_to_ismrmrd writes them into MRD. Zeros where there is no rotation.
    """
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        q = quaternions.astype(np.float64)
        norm = np.linalg.norm(q, axis=-1, keepdims=True)
        a, b, c, d = (q / norm).T
        columns = np.array(
            [
                [1 - 2 * (c * c + d * d), 2 * (b * c + a * d), 2 * (b * d - a * c)],
                [2 * (b * c - a * d), 1 - 2 * (b * b + d * d), 2 * (c * d + a * b)],
                [2 * (b * d + a * c), 2 * (c * d - a * b), 1 - 2 * (b * b + c * c)],
            ]
        )
        return np.where(np.abs(norm - 1) < 1e-3, columns.transpose(0, 2, 1), 0.0)


def _doubts(
    lines: Lines,
    imaging: NDArray[np.void],
    layout: Layout,
    protocol: Protocol,
    measurement: Measurement,
    path: Path,
) -> list[str]:
    """Notes on what is unknown or assumed. Raises InputError if readouts are missing or do not fit each other."""
    if len(np.unique(imaging["UsedChannels"])) > 1:
        counts = ", ".join(map(str, np.unique(imaging["UsedChannels"])))
        raise InputError(f"{path}: its imaging readouts have different numbers of channels ({counts}); it is damaged.")
    place = imaging["SliceData"]
    if not all(np.isfinite(part).all() for part in (place["Quaternion"], *map(place["SlicePos"].__getitem__, _AXES))):
        raise InputError(f"{path}: positions or orientations of its readouts are not finite; the file is damaged.")
    notes = [
        "Siemens VB files are read by documentation; no real one has been tested."
        if layout.vb
        else "The reader of Siemens VD and later was tested on a real file of VE11; XA is read by documentation."
    ]
    if not lines.ended:
        if not _complete(imaging, layout, protocol):
            raise InputError(
                f"{path}: measurement {measurement.number} is cut short or damaged after {len(lines.mdhs)} whole "
                "readouts, and lines are missing; copy or export the file again."
            )
        notes.append("The measurement has no end mark (ACQEND), but all of its lines are there.")
    if lines.unread:
        notes.append(f"{lines.unread} bytes behind the measurement's end mark (ACQEND) are not read.")
    if layout.flagged(lines.mdhs, "NOISEADJSCAN").any():
        notes.append(
            "The noise readouts' dwell time is not in the file; it is taken from the scanner's usual adjustment."
        )
    for name, correction in _UNCORRECTED.items():
        if marked := int(layout.flagged(imaging, name).sum()):
            notes.append(f"{marked} imaging readouts ask for {correction} (flag {name}), which is not made.")
    if any(len(set(protocol.slices(name))) > 1 for name in ("dReadoutFOV", "dPhaseFOV", "dThickness")):
        notes.append("The slices differ in field of view or thickness; those of the first are taken for all.")
    return notes


def _complete(imaging: NDArray[np.void], layout: Layout, protocol: Protocol) -> bool:
    """Whether a measurement without an end mark holds all its lines: it says so, or the counts are the protocol's."""
    if layout.flagged(imaging, "LASTSCANINMEAS").any():
        return True
    counter = imaging["Counter"]
    repetitions = 1 + int(protocol.number("lRepetitions") or 0)
    loops = ("sSliceArray.lSize", "lContrasts", "lAverages")
    images = prod(protocol.count(name) or 1 for name in loops) * repetitions
    lines = protocol.count("iNoOfFourierLines") or protocol.count("sKSpace.lPhaseEncodingLines") or 0
    partitions = (protocol.count("iNoOfFourierPartitions") or 1) if protocol.three_d else 1
    skipped = prod(protocol.count(f"sPat.lAccelFact{axis}") or 1 for axis in ("PE", "3D"))
    per_image = np.unique(counter[["Sli", "Eco", "Ave", "Rep", "Phs", "Set"]], return_counts=True)[1]
    return bool(len(per_image) >= images and len(set(per_image)) == 1 and per_image[0] * skipped >= lines * partitions)
