"""Corruptions of a measurement, each with a level: 0 changes nothing, and more is worse.

The same seed gives the same corruption for every method. `worst_case` alone is made for each method by itself.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from zlib import crc32

import numpy as np
import torch
from torch import Tensor

from mrirecon.errors import UsageError
from mrirecon.evaluation.robustness.worst_case import measured_noise, worst_case
from mrirecon.physics.calibration import calibration_width
from mrirecon.physics.coils import espirit
from mrirecon.physics.measurement import Measurement, Reconstructor
from mrirecon.reconstruction.pipeline import SliceData, reconstruct_slice

#: Share of the phase encodes that are measured after the head has moved.
MOVED_SHARE = 0.3

Corrupt = Callable[[Measurement, float, np.random.Generator], Measurement]


def noise(measurement: Measurement, level: float, rng: np.random.Generator) -> Measurement:
    """More complex Gaussian noise, `level` times as strong as what is in the samples."""
    return replace(measurement, kspace=measurement.kspace + _noise_like(measurement, level, rng))


def motion(measurement: Measurement, level: float, rng: np.random.Generator) -> Measurement:
    """A random 30 % of the phase encodes after a rigid shift of `level` pixels in a random direction.

    The shift is a phase ramp over the samples of these encodes, so the coils' sensitivities move along. Phase encodes
    are columns of samples, or rows where the mask varies along y alone.
    """
    kspace, sampled = measurement.kspace, _sampled(measurement)
    rows = bool((sampled == sampled[:, :1]).all())
    measured = np.flatnonzero(sampled.any(dim=1 if rows else 0).numpy())
    moved = rng.choice(measured, round(MOVED_SHARE * len(measured)), replace=False)
    angle = rng.uniform(0, 2 * np.pi)
    y, x = (torch.arange(n) - n // 2 for n in sampled.shape)
    turns = level * (np.sin(angle) * y[:, None] / len(y) + np.cos(angle) * x / len(x))
    ramp = torch.ones(sampled.shape, dtype=kspace.dtype)
    which = (torch.from_numpy(moved), slice(None)) if rows else (slice(None), torch.from_numpy(moved))
    ramp[which] = torch.exp(-2j * np.pi * turns).to(kspace.dtype)[which]
    return replace(measurement, kspace=kspace * ramp.to(kspace.device))


def spike(measurement: Measurement, level: float, rng: np.random.Generator) -> Measurement:
    """A discharge during one sample, in every coil, `level` times as large as the coil's largest sample."""
    kspace = measurement.kspace.clone()
    y, x = rng.choice(np.argwhere(_sampled(measurement).numpy()))
    phases = torch.from_numpy(np.exp(2j * np.pi * rng.random(kspace.shape[1])).astype(np.complex64)).to(kspace.device)
    kspace[:, :, y, x] += level * kspace.abs().amax(dim=(-2, -1)) * phases
    return replace(measurement, kspace=kspace)


def shifted_maps(measurement: Measurement, level: float, rng: np.random.Generator) -> Measurement:
    """Coil maps of a head that lay `level` whole pixels aside, along y or x."""
    shift = int(level) * int(rng.choice([-1, 1]))
    return measurement.with_sensitivities(_maps(measurement).roll(shift, int(rng.choice([-2, -1]))))


def wrong_gains(measurement: Measurement, level: float, rng: np.random.Generator) -> Measurement:
    """Coil maps in which each coil has a wrong complex gain, 1 + `level` times a complex Gaussian number."""
    maps = _maps(measurement)
    gains = 1 + level * _complex(rng, (1, maps.shape[1], 1, 1)).to(maps.device)
    wrong = maps * gains
    norm = wrong.abs().square().sum(dim=1, keepdim=True).sqrt()
    return measurement.with_sensitivities(torch.where(norm > 0, wrong / norm, 0))


def noisy_maps(measurement: Measurement, level: float, rng: np.random.Generator) -> Measurement:
    """Coil maps estimated from samples with more noise, `level` times as strong as what is in them."""
    noisy = measurement.kspace + _noise_like(measurement, level, rng)
    return measurement.with_sensitivities(espirit(noisy, measurement.mask) if level else _maps(measurement))


def fewer_lines(measurement: Measurement, level: float, rng: np.random.Generator) -> Measurement:
    """Coil maps estimated from fewer central lines: a share `level` of them is not used.

    Of a block that is fully sampled along one axis only the other loses lines. InputError if too few are left.
    """
    if level == 0:
        return measurement
    sampled = _sampled(measurement)
    kept = torch.ones_like(sampled)
    for axis, width in enumerate(calibration_width(sampled)):
        n = sampled.shape[axis]
        if width < n:
            left = round((1 - level) * width)
            inside = torch.zeros(n, dtype=torch.bool)
            inside[n // 2 - left // 2 : n // 2 - left // 2 + left] = True
            kept &= inside[:, None] if axis == 0 else inside
    calibration = (sampled & kept)[None, None].to(measurement.mask.device)
    return measurement.with_sensitivities(espirit(measurement.kspace, measurement.mask, calibration))


CORRUPTIONS: dict[str, Corrupt] = {
    function.__name__: function
    for function in (noise, motion, spike, shifted_maps, wrong_gains, noisy_maps, fewer_lines)
}
WORST_CASE = "worst_case"


@dataclass(frozen=True)
class Corruption:
    """One corruption at one level. steps: of gradient ascent, for `worst_case`. UsageError if there is no such kind."""

    kind: str
    level: float
    steps: int = 0

    def __post_init__(self) -> None:
        if self.kind not in (*CORRUPTIONS, WORST_CASE):
            known = ", ".join((*CORRUPTIONS, WORST_CASE))
            raise UsageError(f"corruptions: there is no '{self.kind}'; there are {known}.")
        if not self.level >= 0:
            raise UsageError(f"corruptions: {self.kind}: the level {self.level} must be 0 or more.")

    def reconstruct(self, method: Reconstructor, data: SliceData, scan: str) -> Tensor:
        """As `reconstruct_slice`, from the corrupted measurement. scan: a name that, with the slice, is the seed."""
        if self.kind == WORST_CASE:
            measurement = worst_case(method, data, self.level, self.steps)
        else:
            rng = np.random.default_rng(crc32(f"{scan} {data.index} {self.kind}".encode()))
            measurement = CORRUPTIONS[self.kind](data.measurement, self.level, rng)
        return reconstruct_slice(method, replace(data, measurement=measurement))


def _noise_like(measurement: Measurement, level: float, rng: np.random.Generator) -> Tensor:
    kspace = measurement.kspace
    std = (level * measured_noise(measurement))[:, None, None, None]
    return _complex(rng, kspace.shape).to(kspace.device) * std * measurement.mask


def _complex(rng: np.random.Generator, shape: tuple[int, ...]) -> Tensor:
    """Complex Gaussian numbers, complex64, E|n|² = 1."""
    parts = rng.standard_normal((*shape, 2), dtype=np.float32) / np.float32(np.sqrt(2))
    return torch.view_as_complex(torch.from_numpy(parts))


def _maps(measurement: Measurement) -> Tensor:
    assert measurement.sensitivities is not None
    return measurement.sensitivities


def _sampled(measurement: Measurement) -> Tensor:
    """The mask of the first slice, bool (y, x) on the CPU."""
    return measurement.mask[0, 0].expand(measurement.kspace.shape[-2:]).cpu()
