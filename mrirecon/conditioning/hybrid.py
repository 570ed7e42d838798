"""3D Cartesian scans as stacks of 2D problems: Fourier transformed along the readout, which is always fully sampled."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from mrirecon.acquisition.scan import Scan, Step
from mrirecon.conditioning.oversampling import central, to_image
from mrirecon.errors import InputError

Read = Callable[[int], NDArray[np.complex64]]
#: Of one partition: its first phase encode that holds samples, and complex64 (readout, coils, phase encodes from it).
Block = tuple[int, NDArray[np.complex64]]


def to_hybrid(scan: Scan) -> Scan:
    """A scan of encoded partitions as a stack over the readout: k-space (coils, phase encode 1, partition) of each.

    Only positions along the readout that the delivered images show are kept. The transform is orthonormal: noise keeps
    its level. The geometry stays that of the delivered images, see `delivered`.
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
    reader = HybridReader(uuid4().hex, scan.read_slice, scan.read_calibration, scan.shape, readouts)
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
    shape: of the scan of partitions. readouts: how many positions are kept.
    """

    key: str
    read_partition: Read = field(compare=False)
    read_calibration: Read | None = field(compare=False)
    shape: tuple[int, int, int, int] = field(compare=False)
    readouts: int = field(compare=False)
    calibration: bool = field(default=False, compare=False)

    def __call__(self, index: int) -> NDArray[np.complex64]:
        kspace, calibration = _volume(self)
        blocks = calibration if self.calibration else kspace
        partitions, coils, height, _ = self.shape
        result = np.zeros((coils, height, partitions), dtype=np.complex64)
        for partition, (first, block) in enumerate(blocks):
            result[:, first : first + block.shape[2], partition] = block[index]
        return result


@lru_cache(maxsize=1)
def _volume(reader: HybridReader) -> tuple[list[Block], list[Block]]:
    """Blocks of all partitions of the k-space and of the calibration."""
    _volume.cache_clear()  # the volume before this one is let go of before this one is made
    partitions = range(reader.shape[0])
    kspace = [_block(reader.read_partition(index), reader.readouts) for index in partitions]
    read = reader.read_calibration
    return kspace, [_block(read(index), reader.readouts) for index in partitions] if read else []


def _block(partition: NDArray[np.complex64], readouts: int) -> Block:
    """A partition (coils, phase encode 1, readout) without the empty lines at its ends, transformed and cropped."""
    lines = np.flatnonzero(partition.any(axis=(0, 2)))
    first, stop = (int(lines[0]), int(lines[-1]) + 1) if len(lines) else (0, 0)
    image = central(to_image(partition[:, first:stop], -1), -1, readouts)
    return first, np.ascontiguousarray(image.transpose(2, 0, 1))


def delivered(images: Iterator[tuple[int, NDArray]], scan: Scan) -> Iterator[tuple[int, NDArray]]:
    """The images (index, (y, x)) of the scan's stack as they are delivered: slices, or partitions of a 3D scan.

    Images (phase encode 1, partition) of positions along the readout are collected, in memory for one volume of them,
    and come out as partitions (phase encode 1, readout), cropped to `header.recon_partitions`. Slices pass through.
    Positions without an image stay 0.
    """
    if scan.stack != "readouts":
        yield from images
        return
    volume: NDArray | None = None
    for index, image in images:
        kept = min(scan.header.recon_partitions or image.shape[1], image.shape[1])
        if volume is None:
            volume = np.zeros((kept, image.shape[0], scan.slices), dtype=image.dtype)
        volume[:, :, index] = central(image, 1, kept).T
    if volume is not None:
        yield from enumerate(volume)
