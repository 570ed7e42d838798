"""Opens a file of any readable format as Scans, conditioned and ready for a method."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from mrirecon.acquisition.detection import open_file
from mrirecon.acquisition.readouts import Readouts
from mrirecon.acquisition.scan import Noise, Scan, Step
from mrirecon.conditioning.compression import compress_coils
from mrirecon.conditioning.hybrid import to_hybrid
from mrirecon.conditioning.options import SKIPPED, Conditioning, SkippableStep
from mrirecon.conditioning.oversampling import remove_readout_oversampling
from mrirecon.conditioning.prewhitening import background_noise, noise_from_file, prewhiten
from mrirecon.conditioning.sorting import sort_readouts
from mrirecon.errors import InputError
from mrirecon.scratch import Scratch


def open_scans(
    path: Path,
    conditioning: Conditioning = Conditioning(),  # noqa: B008 (frozen)
    *,
    key: str | None = None,
    axes: str | Sequence[str] | None = None,
    group: str | None = None,
    scratch: Scratch = Scratch(),  # noqa: B008 (the default keeps nothing on a disk)
) -> list[Scan]:
    """The volumes in a file, one Scan each. Reads facts only; samples are read and conditioned slice by slice later.

    key, axes: of files of arrays, see `open_file`. group: which measurement of a raw data file, default the last one.
    scratch: where volumes of 3D scans are kept, which no single pass over their file gives slice by slice.
    Raises InputError for what cannot be read or is not supported, UsageError for options that do not fit the file.
    """
    opened = open_file(path, key, axes, group)
    raw = isinstance(opened, Readouts)
    scans = sort_readouts(opened, conditioning) if isinstance(opened, Readouts) else opened
    noise = noise_from_file(conditioning.noise) if conditioning.noise else None
    return [_condition(scan, noise, conditioning, raw, scratch) for scan in scans]


def open_scan(
    path: Path,
    conditioning: Conditioning = Conditioning(),  # noqa: B008 (frozen)
    *,
    key: str | None = None,
    axes: str | Sequence[str] | None = None,
    group: str | None = None,
) -> Scan:
    """The scan of a file that holds one volume; InputError if there are several."""
    scans = open_scans(path, conditioning, key=key, axes=axes, group=group)
    if len(scans) > 1:
        volumes = ", ".join(str(scan.volume) for scan in scans)
        raise InputError(f"{path}: holds several volumes ({volumes}), and one is wanted here.")
    return scans[0]


def _condition(scan: Scan, noise: Noise | None, conditioning: Conditioning, raw: bool, scratch: Scratch) -> Scan:
    """The steps on sorted k-space. Arrays may have been whitened already, so only raw data is without being asked."""
    if not conditioning.does("prewhitening"):
        scan = _skipped(scan, "prewhitening")
    elif found := noise or scan.noise or (background_noise(scan) if raw or conditioning.background_noise else None):
        scan = prewhiten(scan, found)
    crop = conditioning.does("oversampling")
    scan = remove_readout_oversampling(scan) if crop else _skipped(scan, "oversampling")
    if scan.stack == "partitions":
        scan = to_hybrid(scan, scratch)
    if conditioning.coils is not None:
        scan = compress_coils(scan, conditioning.coils, conditioning.compression)
    return scan if conditioning.does("scale") else replace(_skipped(scan, "scale"), scaled=False)


def _skipped(scan: Scan, name: SkippableStep) -> Scan:
    return replace(scan, steps=(*scan.steps, Step(name, SKIPPED)))
