"""Undersampling masks: which samples of k-space an accelerated scan would have measured.

A mask is bool (y, x), True where sampled. Line masks are constant along the readout axis. All random draws come from
one local generator with a frozen stream (`numpy.random.RandomState`), so that a seed means the same mask everywhere.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from mrirecon.errors import UsageError
from mrirecon.physics.poisson import centre_distance, poisson_disc

if TYPE_CHECKING:
    from torch import Tensor

Axis = Literal["y", "x"]
Range2D = tuple[tuple[int, int], tuple[int, int]]
Mask = NDArray[np.bool_]

#: Share of the lines that fastMRI's protocol samples fully in the centre, times the acceleration: 8 % at 4×, 4 % at 8×.
CENTRE_FRACTION_TIMES_ACCELERATION = 0.32
#: Half-axes of the centre that the Gaussian masks sample fully, as a share of k-space's width.
GAUSSIAN_CENTRE = 0.02
#: Side of the Poisson disc's fully sampled block, as a share of k-space's width.
POISSON_CENTRE = 0.08


class SamplingMask:
    """A kind of undersampling.

    acceleration: samples of k-space per measured sample, at least 1 (1 = everything is measured).
    acs: fully sampled lines in the centre, or for 2D masks the side of the fully sampled block; None = the kind's
        default, for line masks 0.32 / acceleration of the lines.
    """

    name: ClassVar[str]

    def __init__(self, acceleration: float, acs: int | None = None):
        if not 1 <= acceleration < math.inf:
            raise UsageError(f"An acceleration of {acceleration:g} makes no sense; it must be at least 1, and finite.")
        if acs is not None and acs < 0:
            raise UsageError(f"{acs} ACS lines make no sense; give 0 or more, or none for the default.")
        self.acceleration = acceleration
        self.acs = acs

    def mask(self, shape: tuple[int, int], seed: int | Sequence[int], readout_axis: Axis = "y") -> "Tensor":
        """A bool mask of `shape` (y, x) on the CPU, the same for the same seed.

        seed: an integer in 0 … 2³² − 1, or a sequence of them such as `seed_of(file name)`.
        readout_axis: the axis along which line masks are constant ("y": they vary along x, as fastMRI's).
        Raises UsageError if shape, acceleration and ACS do not go together.
        """
        import torch  # here, because the names of the masks are wanted before the seconds that this takes

        if min(shape) < 1:
            raise UsageError(f"A mask of {shape[0]} × {shape[1]} samples cannot be made.")
        if self.acceleration == 1:
            return torch.ones(shape, dtype=torch.bool)
        return torch.from_numpy(self._draw(shape, _random_state(seed), readout_axis))

    def acquired(self, shape: tuple[int, int], readout_axis: Axis = "y") -> Range2D:
        """The rows and columns that would be measured at acceleration 1, half-open: all, but for partial Fourier."""
        return (0, shape[0]), (0, shape[1])

    def _draw(self, shape: tuple[int, int], rng: np.random.RandomState, readout_axis: Axis) -> Mask:
        raise NotImplementedError


class LineMask(SamplingMask):
    """A mask of whole readout lines; subclasses say which of the phase-encode positions are measured."""

    def lines(self, count: int, rng: np.random.RandomState) -> Mask:
        """Which of `count` phase-encode positions are measured: the kind's own pattern and the centre."""
        acs = self._acs_lines(count)
        sampled = self._pattern(count, acs, rng)
        sampled[_centre(count, acs)] = True
        return sampled

    def _draw(self, shape: tuple[int, int], rng: np.random.RandomState, readout_axis: Axis) -> Mask:
        if readout_axis == "y":
            return np.tile(self.lines(shape[1], rng), (shape[0], 1))
        return np.tile(self.lines(shape[0], rng)[:, None], (1, shape[1]))

    def _acs_lines(self, count: int) -> int:
        acs = self.acs
        if acs is None:
            acs = round(count * (CENTRE_FRACTION_TIMES_ACCELERATION / self.acceleration))
        if acs > count:
            raise UsageError(f"{acs} ACS lines do not fit into {count} phase-encode lines.")
        return acs

    def _pattern(self, count: int, acs: int, rng: np.random.RandomState) -> Mask:
        raise NotImplementedError


class Random1D(LineMask):
    """fastMRI's `random`: every line outside the centre with the probability that gives the acceleration on average."""

    name = "random"

    def _pattern(self, count: int, acs: int, rng: np.random.RandomState) -> Mask:
        wanted = count / self.acceleration
        _refuse_large_centre(acs, wanted, count, self.acceleration)
        return rng.uniform(size=count) < (wanted - acs) / max(count - acs, 1)


class Equispaced1D(LineMask):
    """fastMRI's `equispaced`: every R-th line, and the centre on top (so the achieved acceleration is lower).

    offset: the first line; None = drawn from the seed.
    """

    name = "equispaced"

    def __init__(self, acceleration: float, acs: int | None = None, offset: int | None = None):
        super().__init__(acceleration, acs)
        if offset is not None and offset < 0:
            raise UsageError(f"An offset of {offset} lines makes no sense; give 0 or more, or none to draw it.")
        self.offset = offset

    def _pattern(self, count: int, acs: int, rng: np.random.RandomState) -> Mask:
        step = self._step(count, acs)
        sampled = np.zeros(count, dtype=bool)
        sampled[self._first(step, rng) :: step] = True
        return sampled

    def _step(self, count: int, acs: int) -> int:
        if self.acceleration != round(self.acceleration):
            raise UsageError(
                f"'{self.name}' takes every R-th line and needs a whole acceleration, not {self.acceleration:g}; "
                f"'{self.name}_fraction' takes any."
            )
        return round(self.acceleration)

    def _first(self, step: int, rng: np.random.RandomState) -> int:
        return int(rng.randint(0, step)) if self.offset is None else self.offset


class EquispacedFraction1D(Equispaced1D):
    """fastMRI's `equispaced_fraction`: lines spaced, to the nearest, so that with the centre they give R."""

    name = "equispaced_fraction"

    def _pattern(self, count: int, acs: int, rng: np.random.RandomState) -> Mask:
        _refuse_large_centre(acs, count / self.acceleration, count, self.acceleration)
        sampled = np.zeros(count, dtype=bool)
        if acs * self.acceleration < count:
            step = self.acceleration * (acs - count) / (acs * self.acceleration - count)
            positions = np.arange(self._first(round(step), rng), count - 1, step)
            sampled[np.around(positions).astype(int)] = True
        return sampled


class Magic1D(Equispaced1D):
    """fastMRI's `magic`: every R-th line, at odd distances on either side that make up for each other.

    K-space of a nearly real image is conjugate-symmetric, so the two sides are offset to complement one another.
    """

    name = "magic"

    def _pattern(self, count: int, acs: int, rng: np.random.RandomState) -> Mask:
        step = self._step(count, acs)
        if not step:
            return np.zeros(count, dtype=bool)
        offset = self._first(step, rng)
        right, left = (offset + 1, offset + 3) if offset % 2 == 0 else (offset + 2, offset)
        frequency = np.arange(count) - count // 2
        beyond = np.where(frequency >= 0, frequency - right, -frequency - left)
        return (beyond >= 0) & (beyond % step == 0)


class MagicFraction1D(Magic1D):
    """fastMRI's `magic_fraction`: as `magic`, with the whole step that comes nearest to R including the centre."""

    name = "magic_fraction"

    def _acs_lines(self, count: int) -> int:
        acs = max(super()._acs_lines(count), 1)
        _refuse_large_centre(acs, max(round(count / self.acceleration), 1), count, self.acceleration)
        return acs

    def _step(self, count: int, acs: int) -> int:
        outside = round(count / self.acceleration) - acs
        return round(count / outside) if outside > 0 else 0


class Gaussian1D(LineMask):
    """Lines drawn without replacement from a Gaussian density; N/R of them, the centre included.

    fwhm: full width at half maximum of the density, as a share of k-space's width.
    acs: default 2 % of the lines.
    """

    name = "gaussian1d"

    def __init__(self, acceleration: float, acs: int | None = None, fwhm: float = 0.35):
        super().__init__(acceleration, acs)
        self.fwhm = _checked_fwhm(fwhm)

    def _acs_lines(self, count: int) -> int:
        return round(GAUSSIAN_CENTRE * count) if self.acs is None else super()._acs_lines(count)

    def _pattern(self, count: int, acs: int, rng: np.random.RandomState) -> Mask:
        wanted = round(count / self.acceleration)
        _refuse_large_centre(acs, wanted, count, self.acceleration)
        outside = np.ones(count, dtype=bool)
        outside[_centre(count, acs)] = False
        return _draw_weighted(_log_gaussian(count, self.fwhm), outside, wanted - acs, rng)


class Gaussian2D(SamplingMask):
    """Samples drawn without replacement from a Gaussian density in both directions; N/R of them, the centre included.

    fwhm: full width at half maximum of the density along each axis, as a share of k-space's width.
    acs: side of the fully sampled block; default an ellipse with half-axes of 2 % of k-space's width.
    """

    name = "gaussian2d"

    def __init__(self, acceleration: float, acs: int | None = None, fwhm: float = 0.495):
        super().__init__(acceleration, acs)
        self.fwhm = _checked_fwhm(fwhm)

    def _draw(self, shape: tuple[int, int], rng: np.random.RandomState, readout_axis: Axis) -> Mask:
        # centre_distance is 1 at half the width, hence the factor.
        centre = centre_distance(shape) < 2 * GAUSSIAN_CENTRE if self.acs is None else _block(shape, self.acs)
        wanted = round(centre.size / self.acceleration)
        _refuse_large_centre(int(centre.sum()), wanted, centre.size, self.acceleration)
        log_density = np.add.outer(*(_log_gaussian(n, self.fwhm) for n in shape))
        return centre | _draw_weighted(log_density, ~centre, wanted - int(centre.sum()), rng)


class PoissonDisc2D(SamplingMask):
    """Variable-density Poisson disc: no two samples outside the centre close together, fewer further out.

    acs: side of the fully sampled block; default 8 % of k-space's width.
    crop_corner: nothing outside the ellipse that touches the edges. The acceleration counts the corners as not sampled.
    """

    name = "poisson2d"

    def __init__(self, acceleration: float, acs: int | None = None, crop_corner: bool = True):
        super().__init__(acceleration, acs)
        self.crop_corner = crop_corner

    def _draw(self, shape: tuple[int, int], rng: np.random.RandomState, readout_axis: Axis) -> Mask:
        acs = tuple(round(POISSON_CENTRE * n) for n in shape) if self.acs is None else self.acs
        centre = _block(shape, acs)
        wanted = round(centre.size / self.acceleration)
        _refuse_large_centre(int(centre.sum()), wanted, centre.size, self.acceleration)
        candidates = ~centre
        if self.crop_corner:
            candidates &= centre_distance(shape) <= 1
        count = wanted - int(centre.sum())
        if count > candidates.sum():
            raise UsageError(
                f"Without its corners, k-space of {shape[0]} × {shape[1]} has fewer samples than an acceleration of "
                f"{self.acceleration:g} needs ({wanted}); ask for more acceleration or keep the corners (crop_corner)."
            )
        return centre | poisson_disc(candidates, count, rng)[0]


class PartialFourier(SamplingMask):
    """Another mask, of which one side of k-space is not measured at all.

    The kept side is that of the higher indices along the phase-encode axis: the first (1 - fraction) of the lines is
    missing. Those lines are outside the acquired range, so they never count as undersampling.

    mask: the mask inside the acquired range. fraction: share of the lines that is acquired, over 0.5 and at most 1.
    """

    name = "partial_fourier"

    def __init__(self, mask: SamplingMask, fraction: float):
        if not 0.5 < fraction <= 1:
            raise UsageError(f"The partial-Fourier fraction must be over 0.5 and at most 1, not {fraction:g}.")
        super().__init__(mask.acceleration, mask.acs)
        self.inner = mask
        self.fraction = fraction

    def mask(self, shape: tuple[int, int], seed: int | Sequence[int], readout_axis: Axis = "y") -> "Tensor":
        inside = tuple(slice(*acquired) for acquired in self.acquired(shape, readout_axis))
        sampled = self.inner.mask(shape, seed, readout_axis)
        measured = sampled.new_zeros(shape)
        measured[inside] = sampled[inside]
        return measured

    def acquired(self, shape: tuple[int, int], readout_axis: Axis = "y") -> Range2D:
        rows, columns = self.inner.acquired(shape, readout_axis)
        if readout_axis == "y":
            return rows, (shape[1] - math.ceil(self.fraction * shape[1]), columns[1])
        return (shape[0] - math.ceil(self.fraction * shape[0]), rows[1]), columns


MASKS: dict[str, type[SamplingMask]] = {
    kind.name: kind
    for kind in (
        Equispaced1D,
        EquispacedFraction1D,
        Random1D,
        Magic1D,
        MagicFraction1D,
        Gaussian1D,
        Gaussian2D,
        PoissonDisc2D,
    )
}


def mask_by_name(name: str, acceleration: float, acs: int | None = None) -> SamplingMask:
    """The mask of that short name with its defaults; UsageError names the choices."""
    if name not in MASKS:
        raise UsageError(f"There is no mask '{name}'; choose one of {', '.join(MASKS)}.")
    return MASKS[name](acceleration, acs)


def seed_of(identity: str) -> tuple[int, ...]:
    """The seed of a volume: the character codes of its file name, as fastMRI's loaders use."""
    return tuple(map(ord, identity))


def achieved_acceleration(mask: "Tensor | Mask", acquired: Range2D | None = None) -> float:
    """Samples in the acquired range per sample measured in it. mask: bool (..., y, x); inf if nothing was measured."""
    (y0, y1), (x0, x1) = acquired or ((0, mask.shape[-2]), (0, mask.shape[-1]))
    inside = mask[..., y0:y1, x0:x1]
    sampled = int(inside.sum())
    return math.prod(inside.shape) / sampled if sampled else math.inf


def _random_state(seed: int | Sequence[int]) -> np.random.RandomState:
    try:
        return np.random.RandomState(seed)  # fastMRI's generator; its stream is frozen
    except ValueError as error:
        raise UsageError(f"The seed {seed} cannot be used; take an integer from 0 to 2^32 - 1.") from error


def _centre(count: int, acs: int) -> slice:
    start = (count - acs + 1) // 2
    return slice(start, start + acs)


def _block(shape: tuple[int, int], acs: int | tuple[int, ...]) -> Mask:
    """The central block of `acs` samples along each axis."""
    height, width = (acs, acs) if isinstance(acs, int) else acs
    if height > shape[0] or width > shape[1]:
        raise UsageError(f"An ACS block of {height} × {width} does not fit into k-space of {shape[0]} × {shape[1]}.")
    block = np.zeros(shape, dtype=bool)
    block[_centre(shape[0], height), _centre(shape[1], width)] = True
    return block


def _refuse_large_centre(acs: int, wanted: float, count: int, acceleration: float) -> None:
    if acs > wanted:
        raise UsageError(
            f"The fully sampled centre alone has {acs} of {count} samples or lines, more than the {wanted:g} of an "
            f"acceleration of {acceleration:g}; ask for fewer ACS lines or less acceleration."
        )


def _checked_fwhm(fwhm: float) -> float:
    if not 0 < fwhm < math.inf:
        raise UsageError(f"A full width at half maximum of {fwhm:g} makes no sense; it must be over 0.")
    return fwhm


def _log_gaussian(count: int, fwhm: float) -> NDArray[np.float64]:
    """Logarithm of a Gaussian of that FWHM, relative to the width, at each of `count` positions."""
    position = (np.arange(count) - count // 2) / count
    return -4 * math.log(2) * (position / fwhm) ** 2


def _draw_weighted(log_density: NDArray[np.float64], allowed: Mask, count: int, rng: np.random.RandomState) -> Mask:
    """`count` of the allowed positions without replacement, each with a chance in proportion to its density.

    The largest `count` of log-density + Gumbel noise are such a draw.
    """
    key = np.where(allowed, log_density + rng.gumbel(size=log_density.shape), -np.inf)
    drawn = np.zeros(key.size, dtype=bool)
    drawn[np.argsort(-key, axis=None, kind="stable")[:count]] = True
    return drawn.reshape(key.shape)
