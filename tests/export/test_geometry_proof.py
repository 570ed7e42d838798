"""Pixels and coordinates belong together: what is in the patient's left is in the left of every file we write.

The judge is dcm2niix, which reads our DICOM and writes NIfTI of its own. The truth is a phantom whose markers are known
in the patient's LPS millimetres, put into images by a formula of this file, not of the package.
"""

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import permutations, product
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest

from mrirecon.acquisition.readouts import HEAD, Encoding, Limits, Readouts, System
from mrirecon.acquisition.scan import Scan
from mrirecon.conditioning.hybrid import delivered, to_hybrid
from mrirecon.conditioning.options import Conditioning
from mrirecon.conditioning.oversampling import remove_readout_oversampling
from mrirecon.conditioning.sorting import sort_readouts
from mrirecon.export.dicom import write_dicom
from mrirecon.export.images import Origin
from mrirecon.export.nifti import write_nifti

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0])
TOLERANCE_VOXEL = 1e-3
PIXEL_MM, SPACING_MM = (2.5, 1.5), 3.5
CENTRE_MM = np.array([11.0, -23.0, 37.0])
#: Markers to the left, the back and the head of the phantom's centre: offsets in LPS mm, and brightness.
MARKERS = {"left": ((4.0, 0, 0), 1.0), "back": ((0, 4.5, 0), 0.8), "head": ((0, 0, 4.2), 0.6)}
MARKER_WIDTH_MM = 2.5


def frames() -> Iterator[tuple[str, np.ndarray]]:
    """Directions (rows) of growing x, y and slice index: all along the patient's axes, and oblique ones."""
    for order, signs in product(permutations(range(3)), product((1, -1), repeat=3)):
        frame = np.eye(3)[list(order)] * np.array(signs)[:, None]
        if np.linalg.det(frame) > 0:
            name = "".join("LPH"[axis] if sign > 0 else "RAF"[axis] for axis, sign in zip(order, signs, strict=True))
            yield name, frame
    generator = np.random.default_rng(7)
    for number in range(4):
        frame = np.linalg.qr(generator.standard_normal((3, 3)))[0]
        frame[2] *= np.linalg.det(frame)
        yield f"oblique{number}", frame
    # Nothing of the standards forbids slices that are counted against the direction of row × column.
    yield "opposed", frame * [[1], [1], [-1]]


@dataclass(frozen=True)
class Case:
    name: str
    frame: np.ndarray = field(repr=False)
    shape: tuple[int, int, int]
    stack: str

    def truth(self, voxels: np.ndarray) -> np.ndarray:
        """LPS mm of (x, y, slice) indices (…, 3): the phantom's centre lies in voxel n // 2 of all axes."""
        slices, rows, columns = self.shape
        away = (voxels - [columns // 2, rows // 2, slices // 2]) * [PIXEL_MM[1], PIXEL_MM[0], SPACING_MM]
        return CENTRE_MM + away @ self.frame


CASES = [
    Case(f"{name}-{stack}-{'x'.join(map(str, shape))}", frame, shape, stack)
    for name, frame in frames()
    for stack in ("slices", "readouts")
    for shape in ((4, 10, 8), (3, 9, 7), (4, 9, 8), (3, 10, 7))
]


def voxels_of(shape: tuple[int, int, int]) -> np.ndarray:
    """(x, y, slice) indices, (columns, rows, slices, 3)."""
    return np.stack(np.meshgrid(*(np.arange(n) for n in shape[::-1]), indexing="ij"), axis=-1).astype(float)


def phantom(position_mm: np.ndarray) -> np.ndarray:
    """Brightness at LPS positions (…, 3)."""
    return sum(
        brightness * np.exp(-((position_mm - CENTRE_MM - offset) ** 2).sum(axis=-1) / (2 * MARKER_WIDTH_MM**2))
        for offset, brightness in MARKERS.values()
    )


def position(affine: np.ndarray, voxels: np.ndarray) -> np.ndarray:
    """LPS mm of voxels by the RAS affine of a NIfTI file."""
    return (voxels @ affine[:3, :3].T + affine[:3, 3]) @ LPS_TO_RAS


def converted(folder: Path, output: Path) -> dict[str, nibabel.Nifti1Image]:
    """Series instance UID → what dcm2niix makes of the DICOM series in `folder`."""
    output.mkdir()
    program = pytest.importorskip("dcm2niix").bin
    subprocess.run([program, "-f", "%j", "-b", "n", "-z", "n", "-o", output, folder], check=True, capture_output=True)
    return {path.stem: nibabel.load(path) for path in output.glob("*.nii")}


@pytest.fixture(scope="module")
def both_ways(tmp_path_factory, array_images, make_geometry, make_origin):
    """Case name → (our NIfTI, the NIfTI that dcm2niix makes of our DICOM)."""
    root = tmp_path_factory.mktemp("proof")
    ours, series = {}, {}
    for case in CASES:
        geometry = make_geometry(
            case.shape[0], case.frame, PIXEL_MM, SPACING_MM, case.truth(voxel_of_first_centre(case.shape))
        )
        origin = make_origin(geometry, volume=case.name, stack=case.stack)
        images = array_images(phantom(case.truth(voxels_of(case.shape))).T.astype(np.float32))
        write_nifti(root / f"{case.name}.nii", images, origin)
        files = write_dicom(root / "dicom" / case.name, images, origin)
        ours[case.name] = nibabel.load(root / f"{case.name}.nii")
        series[case.name] = str(pydicom.dcmread(files[0], stop_before_pixels=True).SeriesInstanceUID)
    theirs = converted(root / "dicom", root / "converted")
    assert len(theirs) == len(CASES)
    return {name: (ours[name], theirs[series[name]]) for name in ours}


def voxel_of_first_centre(shape: tuple[int, int, int]) -> np.ndarray:
    return np.array([shape[2] // 2, shape[1] // 2, 0.0])


def test_all_right_handed_permutations_are_there() -> None:
    assert len([name for name, _ in frames() if len(name) == 3]) == 24


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_our_nifti_our_dicom_and_the_truth_agree(case: Case, both_ways) -> None:
    ours, theirs = both_ways[case.name]
    voxels = voxels_of(case.shape)
    smallest = min(*PIXEL_MM, SPACING_MM)
    assert np.abs(position(ours.affine, voxels) - case.truth(voxels)).max() < TOLERANCE_VOXEL * smallest

    # dcm2niix may flip and reorder: its voxels are ours in another order, and its pixels moved along.
    renamed = np.linalg.solve(theirs.affine, ours.affine)
    moved = voxels @ renamed[:3, :3].T + renamed[:3, 3]
    assert np.abs(moved - moved.round()).max() < TOLERANCE_VOXEL
    x, y, z = moved.round().astype(int).reshape(-1, 3).T
    assert min(x.min(), y.min(), z.min()) == 0
    pixels = theirs.get_fdata()
    assert pixels.size == voxels.size // 3
    np.testing.assert_allclose(
        pixels[x, y, z] / pixels.max(), ours.get_fdata().ravel() / ours.get_fdata().max(), atol=2 / 4095
    )


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_pixels_are_the_phantom_where_the_affine_says(case: Case, both_ways) -> None:
    for image, accuracy in zip(both_ways[case.name], (1e-5, 1 / 4095), strict=True):
        pixels, voxels = image.get_fdata(), voxels_of(image.shape[::-1])
        expected = phantom(position(image.affine, voxels))
        np.testing.assert_allclose(pixels / pixels.max(), expected / expected.max(), atol=accuracy)
        # And plainly: the brightest voxel is nearest to the left marker.
        brightest = position(image.affine, np.argwhere(pixels == pixels.max())[0].astype(float))
        assert np.linalg.norm(brightest - CENTRE_MM - MARKERS["left"][0]) < max(*PIXEL_MM, SPACING_MM)


@dataclass(frozen=True)
class Measurement:
    """A scan of the markers. Sizes are in MRD's order (x readout, y, z); encoded ones may be larger than delivered."""

    name: str
    frame: np.ndarray = field(repr=False)
    vendor: str
    volumetric: bool
    encoded: tuple[int, int, int]
    delivered: tuple[int, int, int]

    @property
    def voxel_mm(self) -> np.ndarray:
        return np.array([PIXEL_MM[1], PIXEL_MM[0], SPACING_MM])

    def markers(self) -> list[tuple[np.ndarray, float]]:
        """Points (LPS mm, brightness): the markers, moved to the nearest points of the grid of voxels."""
        points = []
        for offset, brightness in MARKERS.values():
            steps = np.rint(self.frame @ offset / self.voxel_mm)
            points.append((CENTRE_MM + (steps * self.voxel_mm) @ self.frame, brightness))
        return points

    def readouts(self, path: Path) -> Readouts:
        """What a scanner would write: the markers' signal at every encoded point of k-space.

        By the MRD standard it is Σ brightness · exp(−2πi k·r), so that an inverse Fourier transform gives the image; a
        Siemens scanner's is that of a forward one. r counts from the slice's, or the slab's, centre.
        """
        sign = 1 if self.vendor == "SIEMENS" else -1
        steps = [np.arange(n) - n // 2 for n in self.encoded]
        kx, ky, kz = (step / (n * size) for step, n, size in zip(steps, self.encoded, self.voxel_mm, strict=True))
        slices = [0.0] if self.volumetric else SPACING_MM * steps[2]
        heads, samples = [], []
        for index, along in enumerate(slices):
            centre = CENTRE_MM + along * self.frame[2]
            points = [(self.frame @ (place - centre), brightness) for place, brightness in self.markers()]
            if not self.volumetric:  # Only the slice itself is excited.
                points = [(place, brightness) for place, brightness in points if abs(place[2]) < 0.1]
            for step2, step1 in product(range(len(kz) if self.volumetric else 1), range(len(ky))):
                k2 = kz[step2] if self.volumetric else 0.0
                line = np.zeros(len(kx), dtype=complex)
                for (x, y, z), brightness in points:
                    line += brightness * np.exp(sign * 2j * np.pi * (kx * x + ky[step1] * y + k2 * z))
                head = np.zeros((), HEAD)
                head["coils"], head["samples"], head["centre"] = 2, len(kx), len(kx) // 2
                head["step1"], head["step2"], head["slice"] = step1, step2, index
                head["position"], head["sample_time_us"] = centre, 5.0
                head["read_dir"], head["phase_dir"], head["slice_dir"] = self.frame
                heads.append(head)
                samples.append(np.stack([line, 0.5j * line]).astype(np.complex64))
        encoded_mm, delivered_mm = (tuple(sizes * self.voxel_mm) for sizes in (self.encoded, self.delivered))
        if not self.volumetric:
            encoded_mm, delivered_mm = ((x, y, SPACING_MM) for x, y, _ in (encoded_mm, delivered_mm))
        encoding = Encoding(
            trajectory="cartesian",
            encoded_matrix=self.encoded if self.volumetric else (*self.encoded[:2], 1),
            encoded_fov_mm=encoded_mm,
            recon_matrix=self.delivered if self.volumetric else (*self.delivered[:2], 1),
            recon_fov_mm=delivered_mm,
            step1=Limits(0, self.encoded[1] - 1, self.encoded[1] // 2),
            step2=Limits(0, self.encoded[2] - 1, self.encoded[2] // 2) if self.volumetric else None,
        )
        system = System(vendor=self.vendor, patient_position="HFS")
        return Readouts(path, "test", np.array(heads), lambda rows: [samples[row] for row in rows], (encoding,), system)

    def image(self, path: Path) -> tuple[Scan, np.ndarray]:
        """The scan as conditioned, and its zero-filled magnitude images (slice, y, x)."""
        (scan,) = sort_readouts(self.readouts(path), Conditioning())
        scan = remove_readout_oversampling(scan)
        if scan.stack == "partitions":
            scan = to_hybrid(scan)
        images = (
            (index, centre_crop(root_sum_of_squares(scan.kspace(index)), scan.header.recon_size))
            for index in range(scan.slices)
        )
        return scan, np.stack([image for _, image in delivered(images, scan)])


def centre_crop(image: np.ndarray, size: tuple[int, int] | None) -> np.ndarray:
    for axis, kept in enumerate(size or image.shape):
        start = image.shape[axis] // 2 - kept // 2
        image = image.take(range(start, start + kept), axis=axis)
    return image


def root_sum_of_squares(kspace: np.ndarray) -> np.ndarray:
    axes = (1, 2)
    image = np.fft.fftshift(np.fft.ifft2(np.fft.ifftshift(kspace, axes=axes), norm="ortho"), axes=axes)
    return np.linalg.norm(image, axis=0).astype(np.float32)


MEASUREMENTS = [
    Measurement(f"{name}-{vendor}-{'3D' if volumetric else '2D'}-{sizes}", frame, vendor, volumetric, encoded, kept)
    for name, frame in frames()
    if name in ("LPH", "RAH", "PHL", "oblique0", "oblique1")
    for vendor in ("Independent", "SIEMENS")
    for volumetric in (False, True)
    for sizes, encoded, kept in (
        ("even", (24, 10, 6), (12, 10, 6)),
        ("odd", (22, 11, 7), (11, 9, 5 if volumetric else 7)),
    )
]


@pytest.fixture(scope="module")
def reconstructed(tmp_path_factory, array_images, raw_file):
    """Measurement name → (geometry, our NIfTI, the NIfTI that dcm2niix makes of our DICOM)."""
    root = tmp_path_factory.mktemp("end-to-end")
    geometries, ours, series = {}, {}, {}
    for measurement in MEASUREMENTS:
        scan, images = measurement.image(raw_file)
        origin = Origin(scan, "zero-filled", 1.0, settings={"measurement": measurement.name})
        write_nifti(root / f"{measurement.name}.nii", array_images(images), origin)
        files = write_dicom(root / "dicom" / measurement.name, array_images(images), origin)
        geometries[measurement.name] = scan.geometry
        ours[measurement.name] = nibabel.load(root / f"{measurement.name}.nii")
        series[measurement.name] = str(pydicom.dcmread(files[0], stop_before_pixels=True).SeriesInstanceUID)
    theirs = converted(root / "dicom", root / "converted")
    return {name: (geometries[name], ours[name], theirs[series[name]]) for name in ours}


@pytest.mark.parametrize("measurement", MEASUREMENTS, ids=lambda measurement: measurement.name)
def test_markers_of_a_measurement_come_out_where_they_were(measurement: Measurement, reconstructed) -> None:
    geometry, *files = reconstructed[measurement.name]
    assert geometry.proven == (measurement.vendor != "SIEMENS")
    for image in files:
        assert sorted(image.shape) == sorted(measurement.delivered)
        pixels = image.get_fdata()
        brightest = np.argsort(pixels.ravel())[::-1][: len(MARKERS) + 1]
        found = np.stack(np.unravel_index(brightest, image.shape), axis=-1).astype(float)
        values = pixels.ravel()[brightest]
        truth = measurement.markers()
        np.testing.assert_allclose(values / values[0], [b for _, b in truth] + [0], atol=1e-3)
        for voxel, (place, _) in zip(found, truth, strict=False):
            away = measurement.frame @ (position(image.affine, voxel) - place) / measurement.voxel_mm
            assert np.abs(away).max() < TOLERANCE_VOXEL
