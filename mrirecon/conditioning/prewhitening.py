"""Prewhitening: channels combined so that their noise is uncorrelated and equally strong.

Roemer et al., MRM 16:192, 1990; Kellman and McVeigh, MRM 54:1439, 2005.
"""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mrirecon.acquisition.array_files import container_of
from mrirecon.acquisition.axes import MOST_COILS, times
from mrirecon.acquisition.containers import as_complex64, choose_kspace, reading
from mrirecon.acquisition.detection import open_readouts
from mrirecon.acquisition.scan import Axis, Noise, Scan, Step
from mrirecon.conditioning.oversampling import central, to_image
from mrirecon.conditioning.selection import noise_of
from mrirecon.errors import InputError

log = logging.getLogger("mrirecon")

Read = Callable[[int], NDArray[np.complex64]]

#: Share of a receiver's bandwidth that its filter passes, where the file does not say (Gadgetron's default).
NOISE_BANDWIDTH = 0.793
#: Fewer samples per coil than this give no covariance.
LEAST_SAMPLES_PER_COIL = 2
#: A coil whose noise is, to this share of its variance, that of other coils carries nothing of its own.
LEAST_OWN_VARIANCE = 1e-6
#: A coil whose noise variance is below this share of the strongest has no receiver behind it.
LEAST_VARIANCE = 1e-12

#: Background noise: slices that are looked at, their share of outer lines, and the emptiest share of positions there.
SLICES, OUTER_LINES, EMPTIEST = 8, 0.25, 0.2
#: Share of the readout's positions, at either end, where receiver filters make the noise weaker.
FILTER_EDGE = 0.05
#: Share of k-space samples, those furthest from the centre, where there is no readout to transform along.
OUTERMOST = 0.05
#: Of pure noise over 94 % is left when outliers are dropped; signal has many more of them.
LEAST_GAUSSIAN = 0.9
#: Outliers: so many standard deviations above the mean energy, found in so many passes.
OUTLIER, OUTLIER_PASSES = 3, 5
#: Weaker than this, relative to the mean k-space sample, is rounding and no noise.
ROUNDING = 1e-5


def prewhiten(scan: Scan, noise: Noise) -> Scan:
    """The scan with k-space and calibration whose noise is white: variance 1 in real and in imaginary part.

    That is the noise of one readout; averaging divides it, and `noise_std` = sqrt(2 / averages) says what is left.
    Channels without noise, or whose noise is wholly that of others, become zero and are warned about. Without any noise
    the scan stays as it is, with a warning. Raises InputError if the noise does not fit or is too short.
    """
    coils, samples = noise.samples.shape
    if coils != scan.coils:
        raise InputError(
            f"{scan.path}: has {scan.coils} coils and {noise.source} has {coils}; they were not measured with the same "
            "receivers. Give the noise scan of this measurement (--noise), or leave prewhitening out."
        )
    if samples < LEAST_SAMPLES_PER_COIL * coils or not np.isfinite(noise.samples).all():
        raise InputError(
            f"{scan.path}: {noise.source} has {samples} samples for {coils} coils, too few or not finite; at least "
            f"{LEAST_SAMPLES_PER_COIL * coils} are needed. Give another noise scan, or leave prewhitening out."
        )
    covariance = _covariance(noise.samples)
    live = _live_coils(covariance)
    if not live:
        log.warning("%s: is not prewhitened: %s shows no noise.", scan.path.name, noise.source)
        return replace(scan, steps=(*scan.steps, Step("prewhitening", f"left out: {noise.source} shows no noise")))
    # The variance of a noise sample grows with the receiver's bandwidth, 1 / dwell time: noise of the imaging readouts
    # has covariance C · dwell_noise / dwell_imaging. And the filter has taken the edges of the noise scan's band away,
    # so that its covariance is only `bandwidth` of that of the noise within the imaging band. W C_imaging W^H = 2 gives
    # W = sqrt(2 · dwell_imaging / dwell_noise · bandwidth) · L^-1 with C = L L^H, Gadgetron's convention.
    ratio = bandwidth = 1.0
    if noise.sample_time_us and scan.sample_time_us:
        ratio, bandwidth = scan.sample_time_us / noise.sample_time_us, scan.noise_bandwidth or NOISE_BANDWIDTH
    block = np.ix_(live, live)
    shrunk = _shrunk(covariance[block], samples)
    whitening = np.sqrt(2 * ratio * bandwidth) * np.linalg.inv(np.linalg.cholesky(shrunk))
    if not np.abs(whitening).max() < np.finfo(np.float32).max:
        raise InputError(
            f"{scan.path}: {noise.source} cannot be related to the scan (dwell time ratio {ratio:.3g}, noise bandwidth "
            f"{bandwidth:.3g}); give another noise scan (--noise), or leave prewhitening out."
        )
    matrix = np.zeros((coils, coils), dtype=np.complex64)
    matrix[block] = whitening
    done = (
        f"{noise.source}: {samples} samples of {coils} coils, "
        f"condition number {np.linalg.cond(shrunk):.3g}, "
        f"dwell time ratio {ratio:.3g}, noise bandwidth {bandwidth:.3g}"
    )
    if dead := sorted(set(range(coils)) - set(live)):
        numbers = ", ".join(map(str, dead))
        log.warning("%s: coils without noise of their own (%s of %d) are set to 0.", scan.path.name, numbers, coils)
        done += f"; coils {numbers} without noise of their own set to 0"
    return replace(
        scan,
        read_slice=WhitenedReader(scan.read_slice, matrix),
        read_calibration=scan.read_calibration and WhitenedReader(scan.read_calibration, matrix),
        noise_covariance=covariance,
        noise_std=float(np.sqrt(2 / scan.averages)),
        steps=(*scan.steps, Step("prewhitening", done)),
    )


@dataclass(frozen=True, eq=False)
class WhitenedReader:
    """Slice index → complex64 (coils, y, x), the coils multiplied by `matrix`, complex64 (coils, coils)."""

    read: Read
    matrix: NDArray[np.complex64]

    def __call__(self, index: int) -> NDArray[np.complex64]:
        # NaN and infinity in the file pass through; Scan.kspace refuses them.
        with np.errstate(invalid="ignore", over="ignore"):
            return np.tensordot(self.matrix, self.read(index), axes=1)


def noise_from_file(path: Path) -> Noise:
    """The noise scan in a file: raw data (its noise readouts, or all if none is marked so), or an array.

    The array is complex, (coils, samples) in either order: the samples are more. Of one with more axes the coils must
    be the one axis that is far shorter than the others. Raises InputError for all else.
    """
    source = f"noise file {path.name}"
    readouts = open_readouts(path, None)
    if readouts is None:
        return Noise(_noise_array(path), 0.0, source)
    noise = noise_of(readouts, all_if_unflagged=True)
    if noise is None:
        raise InputError(f"{path}: its readouts hold no samples; give a noise scan that was measured to its end.")
    return replace(noise, source=source)


@np.errstate(over="ignore", invalid="ignore")  # what is too large for single precision is no background
def background_noise(scan: Scan) -> Noise:
    """Samples of the scan's own k-space that hold next to no signal, for scans without a noise scan; warns of it.

    Where lines along one axis are complete, they are the outer lines, transformed along it, at the positions in the
    image where least is seen; otherwise the samples furthest from the centre. Outliers are dropped. They are scaled to
    the noise of one readout that was not averaged. All are zero if they are no noise: rounding, or signal.
    """
    log.warning(
        "%s: no noise scan: noise is taken from the background of the image; a noise scan is better (--noise FILE).",
        scan.path.name,
    )
    found, energy = [np.zeros((scan.coils, 0), dtype=np.complex64)], []
    for kspace in _nonempty_slices(scan):
        found.append(_quiet_samples(kspace, scan))
        energy.append(np.square(np.abs(kspace[:, (kspace != 0).any(axis=0)]), dtype=np.float64).mean())
    samples = np.concatenate(found, axis=1)
    kept = _without_outliers(samples)
    enough = kept.shape[1] >= max(LEAST_SAMPLES_PER_COIL * scan.coils, LEAST_GAUSSIAN * samples.shape[1], 1)
    noisy = enough and np.square(np.abs(kept), dtype=np.float64).mean() > ROUNDING**2 * np.mean(energy)
    if not noisy:
        kept = np.zeros((scan.coils, LEAST_SAMPLES_PER_COIL * scan.coils), dtype=np.complex64)
    return Noise(kept * np.float32(np.sqrt(scan.averages)), 0.0, "the scan's background")


def _nonempty_slices(scan: Scan) -> Iterator[NDArray[np.complex64]]:
    """K-space of up to SLICES slices that hold data: spread over the stack, in 3D the outermost, with least signal."""
    order = np.argsort(-np.abs(np.arange(scan.slices) - scan.slices // 2), kind="stable")
    if scan.stack == "slices":
        order = np.linspace(0, scan.slices - 1, min(scan.slices, SLICES)).round().astype(int)
    found = 0
    for index in order.tolist():
        kspace = scan.kspace(index)
        if found < SLICES and kspace.any():
            found += 1
            yield kspace


def _quiet_samples(kspace: NDArray[np.complex64], scan: Scan) -> NDArray[np.complex64]:
    """Samples (coils, samples) of k-space (coils, y, x) with little signal, at the noise level of k-space."""
    sampled = (kspace != 0).any(axis=0)
    axis = scan.header.readout_axis or _complete_axis(sampled)
    if axis is None:
        y, x = np.ogrid[-1 : 1 : sampled.shape[0] * 1j, -1 : 1 : sampled.shape[1] * 1j]
        radius = np.hypot(y, x)[sampled]
        return kspace[:, sampled][:, radius >= np.quantile(radius, 1 - OUTERMOST)]
    lines = np.moveaxis(kspace, "yx".index(axis) - 2, -1)
    measured = np.flatnonzero(sampled.any(axis="yx".index(axis)))
    outwards = np.argsort(-np.abs(measured - lines.shape[1] // 2), kind="stable")
    outer = lines[:, measured[outwards[: max(int(OUTER_LINES * len(measured)), 2)]]]
    # The part of a readout that was not measured is zero, which makes the noise in its image weaker.
    share = (outer != 0).any(axis=0).mean()
    length = outer.shape[-1]
    kept = scan.header.readout_kept
    image = central(to_image(outer, -1), -1, kept if kept and kept < length else round(length * (1 - 2 * FILTER_EDGE)))
    quiet = []
    for chosen_by, used in ((image[:, ::2], image[:, 1::2]), (image[:, 1::2], image[:, ::2])):
        # Of the one half of the lines the quietest positions are chosen, and the other half's samples are taken there:
        # chosen by their own energy, the samples would understate the noise.
        order = np.argsort(np.square(np.abs(chosen_by)).sum(axis=(0, 1)))
        quiet.append(used[:, :, order[: max(int(EMPTIEST * len(order)), 1)]].reshape(len(kspace), -1))
    return np.concatenate(quiet, axis=1) / np.float32(np.sqrt(share))


def _complete_axis(sampled: NDArray[np.bool_]) -> Axis | None:
    """The axis along which measured lines are complete, of a pattern (y, x): x if both are, None if neither is."""
    rows, columns = sampled.any(axis=1), sampled.any(axis=0)
    if sampled[rows][:, columns].all():
        return "x" if columns.all() or not rows.all() else "y"
    return None


def _without_outliers(samples: NDArray[np.complex64]) -> NDArray[np.complex64]:
    """Samples (coils, samples) without those of far more energy, relative to the others' covariance."""
    kept = samples
    for _ in range(OUTLIER_PASSES):
        live = _live_coils(_covariance(kept)) if kept.size else []
        if not live:
            return kept
        covariance = _covariance(kept)[np.ix_(live, live)]
        white = np.linalg.solve(np.linalg.cholesky(covariance), samples[live].astype(np.complex128))
        energy = np.square(np.abs(white)).sum(axis=0)
        # Of noise the energy has a Gamma distribution: mean and variance are the number of coils n, and the median,
        # which signal does not move, is close to n − 1/3.
        count = len(live)
        energy *= (count - 1 / 3) / np.median(energy)
        kept = samples[:, energy < count + OUTLIER * np.sqrt(count)]
    return kept


def _covariance(samples: NDArray[np.complex64]) -> NDArray[np.complex128]:
    """C = N N^H / (n − 1) of samples (coils, n), in double precision."""
    wide = samples.astype(np.complex128)
    return wide @ wide.conj().T / max(wide.shape[1] - 1, 1)


def _shrunk(covariance: NDArray[np.complex128], samples: int) -> NDArray[np.complex128]:
    """The covariance from so many samples, its correlations made weaker by the share of them that chance explains.

    With few samples, chance correlations would be whitened too, and coils mixed that have nothing in common. It is the
    share of the least expected error (Schäfer and Strimmer, Stat Appl Genet Mol Biol 4:32, 2005); of a noise scan's
    many samples it is next to nothing. covariance: complex (coils, coils), of coils that all have noise.
    """
    variances = covariance.diagonal().real
    apart = ~np.eye(len(covariance), dtype=bool)
    correlations = (np.square(np.abs(covariance)) / np.outer(variances, variances))[apart]
    found, chance = correlations.sum(), np.square(1 - correlations).sum() / samples
    share = min(chance / found, 1.0) if found else 0.0
    return np.where(apart, (1 - share) * covariance, covariance)


def _live_coils(covariance: NDArray[np.complex128]) -> list[int]:
    """Coils whose noise has variance, and some that the coils before it do not explain."""
    live: list[int] = []
    variances = covariance.diagonal().real
    for coil, variance in enumerate(variances):
        others = covariance[live, coil]
        own = variance - (others.conj() @ np.linalg.solve(covariance[np.ix_(live, live)], others)).real
        if variance > LEAST_VARIANCE * variances.max() and own > LEAST_OWN_VARIANCE * variance:
            live.append(coil)
    return live


def _noise_array(path: Path) -> NDArray[np.complex64]:
    """The complex array of a file as (coils, samples)."""
    container = container_of(path)
    with reading(path):
        arrays = container.arrays(path)
    key = choose_kspace(path, arrays, None)
    with reading(path):
        array = as_complex64(container.read(path, key, (slice(None),) * len(arrays[key].shape))).squeeze()
    if array.ndim < 2:
        return array.reshape(1, -1)
    coil_axis = int(np.argmin(array.shape))
    coils, *others = sorted(array.shape)
    if coils == others[0] or (array.ndim > 2 and (coils > MOST_COILS or 2 * coils > others[0])):
        raise InputError(
            f"{path}: it is unclear which axis of the noise array {times(array.shape)} counts the coils; save it as "
            "(coils, samples)."
        )
    return np.moveaxis(array, coil_axis, 0).reshape(coils, -1)
