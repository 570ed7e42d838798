"""3D Cartesian scans as stacks of 2D problems: Fourier transformed along the readout, which is always fully sampled."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from mrirecon.acquisition.scan import Scan, Step
from mrirecon.conditioning.oversampling import central, to_image
from mrirecon.errors import InputError
from mrirecon.scratch import FileArray, Scratch

Read = Callable[[int], NDArray[np.complex64]]
#: complex64 (readout, partition, coils, phase encode 1).
Volume = NDArray[np.complex64] | FileArray


def to_hybrid(scan: Scan, scratch: Scratch = Scratch()) -> Scan:  # noqa: B008 (the default keeps nothing on a disk)
    """A scan of encoded partitions as a stack over the readout: k-space (coils, phase encode 1, partition) of each.

    Only positions along the readout that the delivered images show are kept. The transform is orthonormal: noise keeps
    its level. The geometry stays that of the delivered images, see `delivered`. scratch: where the transformed volume
    is kept. It is made in one pass over the partitions, since reading them again for every few positions would cost
    as many passes over the file, with all that reading does to it, as its volume is larger than the memory.
    """
    header = scan.header
    if header.readout_axis != "x":
        raise InputError(f"{scan.path}: the readout of a 3D scan must be its last axis; name the axes so (--axes).")
    partitions, coils, height, length = scan.shape
    rows, readouts = header.recon_size or (height, length)
    rows, readouts = min(rows, height), min(readouts, length)
    done = f"{partitions} partitions transformed along the readout to {readouts} positions of {height} × {partitions}"
    if header.acquired and header.acquired[1] != (0, length):
        done += "; the part of the readout that was not measured is zero"
    reader = HybridReader(uuid4().hex, scan.read_slice, scan.read_calibration, scan.shape, readouts, scratch)
    return replace(
        scan,
        shape=(readouts, coils, height, partitions),
        stack="readouts",
        read_slice=reader,
        read_calibration=replace(reader, calibration=True) if scan.read_calibration else None,
        header=replace(
            header,
            readout_axis=None,
            readout_kept=None,
            # The header does not limit the partitions: those that were not measured are found by their zeros.
            acquired=(header.acquired[0], (0, partitions)) if header.acquired else None,
            recon_size=(rows, header.recon_partitions or partitions),
            fov_mm=None,
        ),
        stored_mask=None,
        steps=(*scan.steps, Step("hybrid", done)),
    )


@dataclass(frozen=True)
class HybridReader:
    """Position along the readout → complex64 (coils, phase encode 1, partition) of the k-space, or the calibration.

    key: identifies the scan, so that its volume is transformed once and kept, in every process that it is sent to.
    shape: of the scan of partitions. readouts: how many positions are kept. scratch: where.
    """

    key: str
    read_partition: Read = field(compare=False)
    read_calibration: Read | None = field(compare=False)
    shape: tuple[int, int, int, int] = field(compare=False)
    readouts: int = field(compare=False)
    scratch: Scratch = field(compare=False)
    calibration: bool = field(default=False, compare=False)

    def __call__(self, index: int) -> NDArray[np.complex64]:
        kspace, calibration = _volume(self)
        volume = calibration if self.calibration else kspace
        assert volume is not None
        return np.ascontiguousarray(volume[index].transpose(1, 2, 0))


@lru_cache(maxsize=1)
def _volume(reader: HybridReader) -> tuple[Volume, Volume | None]:
    """The k-space, and the calibration if there is one."""
    _volume.cache_clear()  # the volume before this one is let go of before this one is made
    return _transformed(reader, reader.read_partition), (
        _transformed(reader, reader.read_calibration) if reader.read_calibration else None
    )


def _transformed(reader: HybridReader, read: Read) -> Volume:
    partitions, coils, height, _ = reader.shape
    volume = reader.scratch.zeros((reader.readouts, partitions, coils, height), np.complex64)
    for index in range(partitions):
        partition = read(index)
        if partition.any():  # zeros that are never written take neither memory nor disk
            volume[:, index] = central(to_image(partition, -1), -1, reader.readouts).transpose(2, 0, 1)
    return volume


def delivered(
    images: Iterable[tuple[int, NDArray]],
    scan: Scan,
    scratch: Scratch = Scratch(),  # noqa: B008 (as above)
) -> Iterator[tuple[int, NDArray]]:
    """The images (index, (y, x)) of the scan's stack as they are delivered: slices, or partitions of a 3D scan.

    Images (phase encode 1, partition) of positions along the readout are collected in `scratch`, and come out as
    partitions (phase encode 1, readout), cropped to `header.recon_partitions`. Slices pass through.
    Positions without an image stay 0.
    """
    if scan.stack != "readouts":
        yield from images
        return
    volume: NDArray | FileArray | None = None
    for index, image in images:
        kept = min(scan.header.recon_partitions or image.shape[1], image.shape[1])
        if volume is None:
            volume = scratch.zeros((scan.slices, kept, image.shape[0]), image.dtype)
        volume[index] = central(image, 1, kept).T
    if volume is not None:
        yield from ((partition, volume[:, partition].T) for partition in range(volume.shape[1]))
