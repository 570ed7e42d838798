"""The anatomy of one numerical head, in millimetres and without a pixel grid; slices are cut out of it.

Everything is a signed distance (positive inside), bent by smooth noise. The cortex is folded as the real one looks from
outside: sulci are the nodal lines of band-limited noise on the brain's surface, carried inwards along its normal to a
varying depth, and the cortical ribbon follows them at constant distance. Deep structures are tubes and ellipsoids at
their usual places; vessels are random trees and the crossings of sulci with a second noise.

Coordinates: x towards the image's right, y anterior, z superior, from the middle of the brain near the anterior
commissure. Left and right share one blueprint in |x| and differ by the bending, the folds and the vessels.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mrirecon.simulation.fields import SmoothNoise, Waves, nodal_distance
from mrirecon.simulation.lesions import Lesion
from mrirecon.simulation.shapes import cover, ellipsoid, polyline_distance, smooth_minimum, tube
from mrirecon.simulation.tissues import Tissue

Array = NDArray[np.floating]

# Brain: half-width at y = 0 and how much it narrows towards the front, half-length, centre and half-heights in z.
HALF_WIDTH_MM, NARROWING, HALF_LENGTH_MM = 66.0, 0.13, 85.0
CENTRE_Z_MM, UP_MM, DOWN_MM = 8.0, 68.0, 62.0
# Corpus callosum closes the fissure between these ends: an ellipse in the midsagittal plane.
CALLOSUM_FRONT_MM, CALLOSUM_BACK_MM, CALLOSUM_Z_MM, CALLOSUM_HEIGHT_MM = 38.0, -44.0, 2.0, 28.0

# Tubes: (|x|, y, z, radius) in mm.
VENTRICLE = ((9, 30, -4, 4), (7.5, 25, 8, 6), (7, 8, 18, 6), (9, -12, 22, 6), (18, -31, 17, 6.5), (24, -41, 8, 6))
OCCIPITAL_HORN = ((24, -41, 8, 5.5), (23, -60, 4, 1.5))
TEMPORAL_HORN = ((24, -41, 8, 5.5), (31, -24, -8, 2.5), (32, -8, -18, 2.5))
CAUDATE = ((13, 23, 3, 6), (15, 14, 12, 6), (17, -3, 21, 3.8), (24, -22, 20, 2.2))
PLEXUS = ((17, -27, 17, 1.5), (22.5, -38, 9, 2.2), (29, -29, 0, 1.5))
# Ellipsoids: centre, semi-axes, turn (see shapes.ellipsoid).
PUTAMEN = ((26.5, 3.0, 3.0), (5.5, 17.0, 13.0), 14.0)
PALLIDUM = ((19.5, -1.0, 0.0), (4.5, 10.0, 8.0), 24.0)
THALAMUS = ((11.0, -16.0, 8.0), (8.5, 15.0, 11.0), 24.0)
THIRD_VENTRICLE = ((0.0, -7.0, 0.0), (2.2, 11.0, 10.0), 0.0)
# Upright sheets (|x|, y): Sylvian fissure, insular cleft, claustrum; the first two reach over INSULA_Z_MM.
SYLVIAN = ((75.0, 14.0), (60.0, 7.0), (50.0, 9.0), (43.0, 1.0))
INSULA = ((38.0, 19.0), (42.0, 14.0), (41.5, 8.0), (43.0, 1.0), (41.5, -7.0), (42.0, -14.0))
CLAUSTRUM = ((31.0, 17.0), (35.3, 8.0), (36.0, 0.0), (34.0, -11.0))
INSULA_Z_MM = (-14.0, 19.0)
# Roots of vessel trees on either side: (|x|, y, z), direction, radius in mm.
VESSEL_ROOTS = (
    ((41.5, 6.0, -8.0), (0.0, 0.3, 1.0), 1.5),
    ((41.5, -2.0, -8.0), (0.0, -0.5, 1.0), 1.3),
    ((45.0, 6.0, -4.0), (1.0, 0.1, 0.3), 1.2),
    ((2.0, 41.0, -6.0), (0.0, 0.3, 1.0), 1.2),
    ((18.0, -44.0, -6.0), (0.1, -1.0, 0.5), 1.2),
    ((2.0, -22.0, 16.0), (0.1, -1.0, 0.2), 1.0),
    ((28.0, 4.0, -9.0), (0.0, 0.0, 1.0), 0.7),
    ((15.0, 12.0, 27.0), (1.0, 0.3, 0.6), 0.6),
    ((14.0, -20.0, 28.0), (1.0, -0.3, 0.7), 0.6),
)


class Head:
    """One person, described by a seed. `lesions` may be filled in afterwards."""

    def __init__(self, seed: int):
        rng = np.random.default_rng((seed, 0))
        self.lesions: Sequence[Lesion] = ()
        self._size = rng.uniform(0.97, 1.01)
        self._tilt = np.deg2rad(rng.uniform(-4, 4))
        self._ventricle_growth = rng.uniform(-0.6, 1.4)
        self._sulcus_width = rng.uniform(0.5, 0.9)
        self._scalp = rng.uniform(3.0, 5.0)
        self._bend = [SmoothNoise(rng, wavelength) for wavelength in (100, 100, 32, 32)]
        self._layers = [SmoothNoise(rng, 70) for _ in range(4)]
        self._ripple = SmoothNoise(rng, 8)
        self._crossing = SmoothNoise(rng, 22)
        self._filaments = [SmoothNoise(rng, 14), SmoothNoise(rng, 14)]
        self._curl = [SmoothNoise(rng, 34), SmoothNoise(rng, 34)]
        self._inhomogeneity = [SmoothNoise(rng, wavelength) for wavelength in (50, 12, 50, 12)]
        self._folds = Waves.draw(rng, 24, (12.5, 21), flatten=0.55)
        self._fold_depth = Waves.draw(rng, 8, (30, 60), flatten=0.6)
        self._vessels = [_vessel_tree(root, side, rng) for root in VESSEL_ROOTS for side in (-1, 1)]

    def parameter_scales(self, y: Array, x: Array, z: float) -> tuple[Array, Array]:
        """Factors (y, x) by which T1 and T2 vary smoothly inside tissues: a few percent."""
        coarse1, fine1, coarse2, fine2 = (noise(y, x, z) for noise in self._inhomogeneity)
        return 1 + 0.025 * coarse1 + 0.015 * fine1, 1 + 0.025 * coarse2 + 0.015 * fine2

    def ventricle_distance(self, y: Array, x: Array, z: float) -> Array:
        """Signed distance (y, x) in mm to the lateral ventricles, positive inside."""
        bent_x, bent_y = self._bent(y, x, z)
        return self._ventricles(np.abs(bent_x), bent_y, z)

    def fractions(self, y: Array, x: Array, z: float) -> Array:
        """Tissue fractions, float32 (tissues, y, x) summing to 1, at rows y (falling) and columns x in mm, level z."""
        pixel = float(x[1] - x[0])
        bent_x, bent_y = self._bent(y, x, z)
        side = np.abs(bent_x)
        layers = [noise(y, x, z) for noise in self._layers]
        ripple = self._ripple(y, x, z)
        mix = np.zeros((len(Tissue), *bent_x.shape), dtype=np.float32)
        mix[Tissue.AIR] = 1
        painted = {Tissue.AIR}

        def paint(tissue: Tissue, coverage: Array) -> None:
            box = bounding_box(coverage)
            for below in painted:
                mix[below][box] *= 1 - coverage[box]
            mix[tissue][box] += coverage[box]
            painted.add(tissue)

        brain = _brain_depth(bent_x, bent_y, z, pixel)
        depth = brain.depth

        # Scalp and skull, from outside in.
        gap = 1.9 + 0.4 * layers[0]
        temple = np.exp(-(((bent_y - 14) / 28) ** 2)) * np.clip(side / 60, 0, 1) ** 4 * np.clip((28 - z) / 28, 0, 1)
        skull = gap + 7.0 + 0.8 * layers[1] + 2.0 * np.clip(-bent_y / 85, 0, 1) - 2.5 * temple
        muscle = skull + 0.8 + 8 * temple
        fat = muscle + self._scalp + 0.7 * layers[2] - temple
        paint(Tissue.SKIN, cover(depth + fat + 1.8, pixel))
        paint(Tissue.FAT, cover(depth + fat, pixel))
        paint(Tissue.MUSCLE, cover(depth + muscle, pixel))
        paint(Tissue.BONE, cover(depth + skull, pixel))
        paint(Tissue.MARROW, cover(depth + skull - 1.4, pixel) * np.clip(0.8 + 0.15 * ripple, 0, 1))
        paint(Tissue.BONE, cover(depth + gap + 1.5, pixel))
        paint(Tissue.DURA, cover(depth + gap + 0.5, pixel))
        paint(Tissue.CSF, cover(depth + gap, pixel))

        # Folded cortex over white matter.
        to_fissure = _to_fissure(bent_y, z)
        fissure = np.hypot(side, to_fissure) - 0.3 - 0.6 * self._sulcus_width
        pial = smooth_minimum(depth, fissure, 6)
        curl = [np.float32(0.35) * noise(y, x, z) for noise in self._curl]
        sulcus, fold_depth = self._sulci(brain, fissure, bent_y + to_fissure, bent_x, bent_y, z, pixel, curl)
        opening = self._sulcus_width * (0.5 + 0.8 * np.exp(-np.clip(pial, 0, None) / 4)) + 0.12 * layers[3]
        # White matter keeps a core where the midline and the outside are equally far, and around the corpus callosum.
        core = np.clip(5 - np.abs(depth - fissure), 0, None) * np.clip((pial - 8) / 6, 0, 1)
        beyond = np.clip(pial - fold_depth, 0, None)
        callosum = to_fissure * np.clip(1 - side / 25, 0, 1)
        open_space = np.sqrt(sulcus**2 + beyond**2 + core**2 + callosum**2) - opening
        open_space = np.minimum(open_space, _insula(side, bent_y, z) - 0.2 - 0.5 * self._sulcus_width)
        cortex = smooth_minimum(pial, open_space, 2.5)
        paint(Tissue.GREY, cover(cortex, pixel))
        paint(Tissue.WHITE, cover(cortex - 3.0 - 0.3 * layers[0] - 0.25 * ripple, pixel))

        # Deep grey matter and ventricles.
        wobble = 0.4 * ripple
        claustrum = np.hypot(polyline_distance(CLAUSTRUM, side, bent_y), max(0.0, z - 12, -4 - z))
        paint(Tissue.GREY, cover(0.6 - claustrum, pixel) * mix[Tissue.WHITE])
        paint(Tissue.PUTAMEN, cover(ellipsoid(PUTAMEN, side, bent_y, z) + wobble, pixel))
        paint(Tissue.PALLIDUM, cover(ellipsoid(PALLIDUM, side, bent_y, z) + wobble, pixel))
        paint(Tissue.THALAMUS, cover(ellipsoid(THALAMUS, side, bent_y, z) + wobble, pixel))
        paint(Tissue.CSF, cover(self._ventricles(side, bent_y, z), pixel))
        paint(Tissue.CSF, cover(ellipsoid(THIRD_VENTRICLE, side, bent_y, z), pixel))
        paint(Tissue.CAUDATE, cover(tube(CAUDATE, side, bent_y, z) + wobble, pixel))
        paint(Tissue.PLEXUS, cover(tube(PLEXUS, side, bent_y, z) + 2 * wobble, pixel))

        # Perivascular spaces, then lesions, both only where there is white matter.
        first, second = (nodal_distance(noise(y, x, z), pixel, 0.1) for noise in self._filaments)
        space = cover(0.35 - np.hypot(first, second), pixel) * np.clip(ripple, 0, 1)
        paint(Tissue.CSF, space * mix[Tissue.WHITE])
        for lesion in self.lesions:
            inside = ellipsoid((lesion.centre, lesion.semi_axes, 0.0), x[None, :], y[:, None], z)
            # A penumbra of 1 mm.
            paint(Tissue.LESION, cover(inside + 2 * wobble, pixel + 1) * mix[Tissue.WHITE])

        # Falx, sinus and vessels.
        falx = np.hypot(side, _to_fissure(bent_y, z, margin_mm=12))
        paint(Tissue.DURA, cover(0.4 - falx, pixel) * cover(depth + gap, pixel))
        sinus = np.where(bent_y < 0, 3.6, 1.8) - np.hypot(1.3 * side, depth)
        paint(Tissue.BLOOD, cover(sinus, pixel))
        along_sulcus = np.hypot(sulcus, nodal_distance(self._crossing(y, x, z), pixel, 0.15))
        paint(Tissue.BLOOD, cover(0.55 - along_sulcus, pixel) * mix[Tissue.CSF])
        self._paint_trees(mix, depth, bent_x, bent_y, z, pixel)
        return mix

    def _bent(self, y: Array, x: Array, z: float) -> tuple[Array, Array]:
        """Blueprint coordinates of the grid: turned, scaled and bent; float32 (y, x) each."""
        coarse_x, coarse_y, fine_x, fine_y = (noise(y, x, z) for noise in self._bend)
        cosine, sine = np.float32(np.cos(self._tilt)), np.float32(np.sin(self._tilt))
        turned_x = (cosine * x[None, :] + sine * y[:, None]) / np.float32(self._size)
        turned_y = (cosine * y[:, None] - sine * x[None, :]) / np.float32(self._size)
        return turned_x + 1.8 * coarse_x + 0.3 * fine_x, turned_y + 1.8 * coarse_y + 0.3 * fine_y

    def _ventricles(self, side: Array, y: Array, z: float) -> Array:
        parts = [tube(part, side, y, z) for part in (VENTRICLE, OCCIPITAL_HORN, TEMPORAL_HORN)]
        grown = np.maximum.reduce(parts) + np.float32(self._ventricle_growth)
        # The septum pellucidum keeps the two apart.
        return np.minimum(grown, side - 0.6)

    def _sulci(
        self,
        brain: "_Depth",
        fissure: Array,
        medial_y: Array,
        x: Array,
        y: Array,
        z: float,
        pixel: float,
        curl: list[Array],
    ) -> tuple[Array, Array]:
        """Distance to the nearest sulcus' middle, and the depth to which sulci reach there, both (y, x) in mm.

        Folds are functions of the nearest point of the brain's surface, so they run along its normal, but for a
        curl that grows with depth (mm per mm, along x and y). Near a hemisphere's edge those of the outer and of the
        medial surface blend.
        """
        band = (np.minimum(brain.depth, fissure) < 32) & (brain.depth > -4)
        outer_share = np.clip(0.5 + (fissure - brain.depth)[band] / 20, 0, 1)
        depth = brain.depth[band]
        # The two hemispheres fold differently: their surfaces are far apart in the space of the noise.
        apart = np.where(x[band] > 0, np.float32(400), np.float32(0))
        outer_x = x[band] - depth * (brain.slope_x - curl[0])[band] + apart
        outer_y = y[band] - depth * (brain.slope_y - curl[1])[band]
        outer_z = z - depth * brain.slope_z[band]
        along_fissure, medial_z = (medial_y + fissure * curl[1])[band], np.full_like(depth, z)
        folds, reach = np.zeros_like(x), np.zeros_like(x)
        for target, waves in ((folds, self._folds), (reach, self._fold_depth)):
            from_outside = waves(outer_x, outer_y, outer_z)
            target[band] = outer_share * from_outside + (1 - outer_share) * waves(apart, along_fissure, medial_z)
        return nodal_distance(folds, pixel, 0.06), np.clip(19 + 6 * reach, 8, 30)

    def _paint_trees(self, mix: Array, depth: Array, x: Array, y: Array, z: float, pixel: float) -> None:
        inside = depth > 0
        # Rows and columns of the bent grid are nearly straight: whole ones are ruled out first.
        rows, columns = (y.min(axis=1), y.max(axis=1)), (x.min(axis=0), x.max(axis=0))
        for start, end in (piece for tree in self._vessels for piece in tree):
            if not min(start[2], end[2]) - start[3] < z < max(start[2], end[2]) + start[3]:
                continue
            reach = start[3] + pixel
            (x0, x1), (y0, y1) = ((min(start[i], end[i]) - reach, max(start[i], end[i]) + reach) for i in (0, 1))
            box = _span((rows[1] > y0) & (rows[0] < y1)), _span((columns[1] > x0) & (columns[0] < x1))
            near_x, near_y, part = x[box], y[box], mix[:, *box]
            near = inside[box] & (near_x > x0) & (near_x < x1) & (near_y > y0) & (near_y < y1)
            # Large vessels run on the surface, only thin ones through white matter.
            room = 1 - part[Tissue.WHITE, near] if start[3] > 0.6 else 1
            coverage = room * cover(tube((start, end), near_x[near], near_y[near], z), pixel)
            part[:, near] *= 1 - coverage
            part[Tissue.BLOOD, near] += coverage


@dataclass(frozen=True)
class _Depth:
    """Distance below the brain's smooth envelope (y, x) in mm, negative outside, and its unit gradient."""

    depth: Array
    slope_x: Array
    slope_y: Array
    slope_z: Array


def _brain_depth(x: Array, y: Array, z: float, pixel: float) -> _Depth:
    half_height = UP_MM if z > CENTRE_Z_MM else DOWN_MM
    height = (z - CENTRE_Z_MM) / half_height
    width = HALF_WIDTH_MM * (1 - NARROWING * np.clip(y / HALF_LENGTH_MM, -1.2, 1.2))
    radius = np.sqrt((x / width) ** 2 + np.abs(y / HALF_LENGTH_MM) ** np.float32(2.5) + height**2 + 1e-6)
    # Rows run from anterior to posterior, against y.
    slope_y, slope_x = np.gradient(radius, -pixel, pixel)
    slope_z = height / half_height / radius
    steepness = np.sqrt(slope_y**2 + slope_x**2 + slope_z**2 + 1e-8)
    return _Depth((1 - radius) / steepness, -slope_x / steepness, -slope_y / steepness, -slope_z / steepness)


def bounding_box(coverage: Array) -> tuple[slice, slice]:
    """The rows and columns (y, x) that hold all of what is not zero."""
    return _span(np.any(coverage, axis=1)), _span(np.any(coverage, axis=0))


def _span(wanted: NDArray[np.bool_]) -> slice:
    """From the first to the last that is wanted; empty if none is."""
    found = np.flatnonzero(wanted)
    return slice(found[0], found[-1] + 1) if len(found) else slice(0)


def _to_fissure(y: Array, z: float, margin_mm: float = 0.0) -> Array:
    """Way along y (y, x) in mm to the corpus callosum's nearest end, where the fissure begins; 0 beyond the ends."""
    level = (z - CALLOSUM_Z_MM) / (CALLOSUM_HEIGHT_MM + margin_mm)
    if abs(level) >= 1:
        return np.zeros_like(y)
    bulge = np.float32((1 - level**2) ** 0.5)
    forward = np.clip((CALLOSUM_FRONT_MM + margin_mm) * bulge - y, 0, None)
    backward = np.clip(y - (CALLOSUM_BACK_MM - margin_mm) * bulge, 0, None)
    return np.where(forward < backward, forward, -backward)


def _insula(side: Array, y: Array, z: float) -> Array:
    """Distance (y, x) in mm to the middle of the Sylvian fissure and the insular cleft."""
    in_plane = np.minimum(polyline_distance(SYLVIAN, side, y), polyline_distance(INSULA, side, y))
    return np.hypot(in_plane, np.float32(max(0.0, INSULA_Z_MM[0] - z, z - INSULA_Z_MM[1])))


def _vessel_tree(
    root: tuple[tuple[float, float, float], tuple[float, float, float], float], side: int, rng: np.random.Generator
) -> list[tuple[Array, Array]]:
    """Random branching walk: pairs of ends (x, y, z, radius) in mm of short straight pieces."""
    (x, y, z), direction, radius = root
    growing = [(np.array([side * x, y, z]), np.array([side, 1, 1]) * direction, radius)]
    pieces = []
    while growing:
        start, heading, radius = growing.pop()
        heading = heading / np.linalg.norm(heading) + 0.25 * rng.standard_normal(3)
        end = start + 4 * heading
        thinner = radius * rng.uniform(0.88, 0.99)
        pieces.append((np.array([*start, radius]), np.array([*end, thinner])))
        if thinner > 0.35:
            growing.append((end, heading, thinner))
            if rng.random() < 0.18:
                growing.append((end, heading + 0.8 * rng.standard_normal(3), 0.75 * thinner))
    return pieces
