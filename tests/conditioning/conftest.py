"""A scanner in memory: `Readouts` made from known k-space, with every counter, flag and direction as asked."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mrirecon.acquisition.readouts import HEAD, Encoding, Flag, Limits, Readouts, System

Kspace = NDArray[np.complex64]


@dataclass(frozen=True)
class FromMemory:
    """`Readouts.read` of samples that are kept in memory."""

    samples: tuple[Kspace, ...] = field(repr=False)

    def __call__(self, rows: Sequence[int]) -> list[Kspace]:
        return [self.samples[row].copy() for row in rows]


@pytest.fixture(scope="session")
def random_kspace() -> Callable[..., Kspace]:
    """Random complex64 of a shape, no sample zero."""

    def draw(*shape: int, seed: int = 0) -> Kspace:
        rng = np.random.default_rng(seed)
        return (rng.normal(size=shape) + 1j * rng.normal(size=shape) + 4).astype(np.complex64)

    return draw


@pytest.fixture(scope="session")
def make_readouts() -> Callable[..., Readouts]:
    """Measures centred k-space, (slices, coils, y, x), or (partitions, coils, y, x) with `partitions=True`.

    rows: the rows of y that are measured, default all. planes: the slices or partitions that are.
    step1_centre, step2_centre: counter of row or partition n // 2, default n // 2.
    echo: samples missing at the start of each readout (asymmetric echo). discard: (pre, post) samples of rubbish around
    each readout. reverse: rows that are measured backwards. oversampling: of the readout.
    position: of the first slice, or of the slab; slices are `spacing_mm` apart along slice_dir. slice_counters: one per
    slice. fov_mm: (x, y, z) delivered; z is of one slice, or of the slab. flags: of all readouts. noise: samples of a
    readout of noise that comes first, 0 = none. encoding: fields of Encoding that shall differ. counters: average, …
    """

    def make(
        kspace: Kspace,
        *,
        partitions: bool = False,
        rows: Collection[int] | None = None,
        planes: Collection[int] | None = None,
        step1_centre: int | None = None,
        step2_centre: int | None = None,
        echo: int = 0,
        discard: tuple[int, int] = (0, 0),
        reverse: Collection[int] = (),
        oversampling: int = 1,
        position: Sequence[float] = (0, 0, 0),
        spacing_mm: float = 5,
        slice_counters: Sequence[int] | None = None,
        read_dir: Sequence[float] = (1, 0, 0),
        phase_dir: Sequence[float] = (0, 1, 0),
        slice_dir: Sequence[float] = (0, 0, 1),
        fov_mm: tuple[float, float, float] = (200, 160, 5),
        flags: Flag = Flag(0),  # noqa: B008 (immutable)
        noise: int = 0,
        sample_time_us: float = 5,
        system: System = System(),  # noqa: B008 (frozen)
        encoding: dict[str, Any] | None = None,
        **counters: int,
    ) -> Readouts:
        depth, coils, height, width = kspace.shape
        centre1 = height // 2 if step1_centre is None else step1_centre
        centre2 = depth // 2 if step2_centre is None else step2_centre
        rng = np.random.default_rng(7)
        heads, samples = [], []

        def measure(line: Kspace, flag: Flag, **fields: Any) -> None:
            head = np.zeros((), HEAD)
            head["coils"], head["samples"] = line.shape
            head["flags"], head["sample_time_us"] = flag, sample_time_us
            head["read_dir"], head["phase_dir"], head["slice_dir"] = read_dir, phase_dir, slice_dir
            for name, value in (counters | fields).items():
                head[name] = value
            heads.append(head)
            samples.append(line)

        def rubbish(n: int) -> Kspace:
            return (1e3 * (rng.normal(size=(coils, n)) + 1j * rng.normal(size=(coils, n)))).astype(np.complex64)

        if noise:
            measure((rubbish(noise) / 1e6).astype(np.complex64), Flag.NOISE)
        for plane in range(depth) if planes is None else planes:
            shift = 0 if partitions else plane * spacing_mm
            slice_counter = plane if slice_counters is None else slice_counters[plane]
            for row in range(height) if rows is None else rows:
                line, centre = kspace[plane, :, row, echo:], width // 2 - echo
                if row in reverse:
                    line, centre = line[:, ::-1], line.shape[1] - 1 - centre
                measure(
                    np.concatenate([rubbish(discard[0]), line, rubbish(discard[1])], axis=1),
                    flags | (Flag.REVERSE if row in reverse else Flag(0)),
                    centre=centre + discard[0],
                    discard_pre=discard[0],
                    discard_post=discard[1],
                    step1=row - height // 2 + centre1,
                    position=np.asarray(position) + shift * np.asarray(slice_dir),
                    **({"step2": plane - depth // 2 + centre2} if partitions else {"slice": slice_counter}),
                )
        geometry = Encoding(
            trajectory="cartesian",
            encoded_matrix=(width, height, depth if partitions else 1),
            encoded_fov_mm=(fov_mm[0] * oversampling, fov_mm[1], fov_mm[2]),
            recon_matrix=(width // oversampling, height, depth if partitions else 1),
            recon_fov_mm=fov_mm,
            step1=Limits(centre1 - height // 2, centre1 - height // 2 + height - 1, centre1),
            step2=Limits(centre2 - depth // 2, centre2 - depth // 2 + depth - 1, centre2) if partitions else None,
        )
        return Readouts(
            path=Path("scan.h5"),
            format="MRD in memory",
            heads=np.array(heads, HEAD),
            read=FromMemory(tuple(samples)),
            encodings=(replace(geometry, **(encoding or {})),),
            system=system,
        )

    return make


@pytest.fixture(scope="session")
def join() -> Callable[..., Readouts]:
    """One measurement out of several; facts are those of the first. order: permutation of all their readouts."""

    def joined(*parts: Readouts, order: Sequence[int] | None = None) -> Readouts:
        heads = np.concatenate([part.heads for part in parts])
        samples = [line for part in parts for line in part.read(range(len(part.heads)))]
        order = range(len(heads)) if order is None else order
        return replace(parts[0], heads=heads[list(order)], read=FromMemory(tuple(samples[i] for i in order)))

    return joined
