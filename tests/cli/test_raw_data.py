"""Raw data in, images out, as a user runs it: what lies where in the patient, and how bright, comes out so.

The scanner is of this file: a phantom given in the patient's LPS millimetres, coils, and Fourier sums by definition.
Files are written by the `ismrmrd` package, and read back by nibabel, dcm2niix, h5py and `ismrmrd`.
"""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import nibabel
import numpy as np
import pytest
from numpy.typing import NDArray

from mrirecon.cli.main import main

ismrmrd = pytest.importorskip("ismrmrd")

Make = Callable[..., Any]
CENTRE_MM = np.array([11.0, -23.0, 37.0])
#: Spheres to the left, the back and the head of the centre, LPS mm: what tells mirror images apart.
MARKERS_MM = np.array([(28.0, 0, 0), (0, 22.0, 0), (0, 0, 16.0)])
OBLIQUE = np.linalg.qr(np.random.default_rng(1).standard_normal((3, 3)))[0]
OBLIQUE[2] *= np.linalg.det(OBLIQUE)
NO_NOISE = ("--skip", "prewhitening")
CALIBRATION, CALIBRATION_AND_IMAGING = 1 << 19, 1 << 20


def phantom(place: NDArray) -> NDArray:
    """Brightness at LPS mm (…, 3): a body with sharp edges and texture, and the markers."""
    away = place - CENTRE_MM
    radius = np.linalg.norm(away / [44, 36, 32], axis=-1)
    body = 0.5 * (radius < 1) + 0.2 * (radius < 0.85) * (
        np.sin(away @ [0.7, 0, 0]) * np.sin(away @ [0, 0.5, 0.6]) > 0.2
    )
    return body + sum(0.6 * (np.linalg.norm(away - marker, axis=-1) < 5) for marker in MARKERS_MM)


def seen(place: NDArray, coils: int) -> NDArray:
    """The phantom, with a smooth phase, as each of the coils around it sees it: complex (coils, …)."""
    away, angles = place - CENTRE_MM, 2 * np.pi * np.arange(coils) / coils
    towards = np.stack([np.cos(angles), np.sin(angles), 0.4 * np.cos(3 * angles)], axis=1)
    phases = [angle + away @ direction / 40 for direction, angle in zip(towards, angles, strict=True)]
    strengths = [np.exp(-((away - 90 * direction) ** 2).sum(axis=-1) / 15000) for direction in towards]
    return (
        np.stack(strengths)
        * np.exp(1j * np.stack(phases))
        * (phantom(place) * np.exp(1j * (away[..., 0] / 60) ** 2 + 0.012j * away[..., 1]))
    )


def combined(place: NDArray, coils: int) -> NDArray:
    """The magnitude that a scanner with such coils gives: root of the sum of squares."""
    return np.linalg.norm(seen(place, coils), axis=0)


def voxels(matrix: tuple[int, int, int], voxel_mm: NDArray, centre: NDArray = CENTRE_MM) -> NDArray:
    """LPS mm (z, y, x, 3) of an oblique grid (x, y, z), whose voxel n // 2 is the centre."""
    along = [(np.arange(n) - n // 2) * size for n, size in zip(matrix, voxel_mm, strict=True)]
    z, y, x = np.meshgrid(*along[::-1], indexing="ij")
    return centre + np.stack([x, y, z], axis=-1) @ OBLIQUE


def fourier(image: NDArray, *axes: int) -> NDArray:
    """Sum over voxels of image · exp(−2πi k·r), orthonormal, k and r counted from n // 2."""
    for axis in axes:
        n = image.shape[axis]
        steps = np.arange(n) - n // 2
        matrix = np.exp(-2j * np.pi * np.outer(steps, steps) / n) / np.sqrt(n)
        image = np.moveaxis(np.tensordot(matrix, image, axes=(1, axis)), 0, axis)
    return image


def central(image: NDArray, *sizes: int) -> NDArray:
    """The central part (…, y, x) about voxel n // 2."""
    for axis, size in zip(range(-len(sizes), 0), sizes, strict=True):
        start = image.shape[axis] // 2 - size // 2
        image = image.take(range(start, start + size), axis=axis)
    return image


def noise(generator: np.random.Generator, *shape: int) -> NDArray:
    """Complex, E|n|² = 1."""
    return (generator.standard_normal(shape) + 1j * generator.standard_normal(shape)) / np.sqrt(2)


def error(image: NDArray, truth: NDArray) -> float:
    return float(np.linalg.norm(np.abs(image) - np.abs(truth)) / np.linalg.norm(truth))


def reconstruct(scan: Path, output: Path, *arguments: object) -> Path:
    assert main(["reconstruct", str(scan), "-o", str(output), *map(str, arguments)]) == 0
    return output


def stored(path: Path, name: str = "reconstruction") -> NDArray:
    with h5py.File(path) as file:
        return file[name][()]


def image_by(method: str, scan: Path, *arguments: object) -> NDArray:
    """Magnitudes (slice, y, x); without a preview, which takes longer than all else."""
    out = reconstruct(scan, scan.with_name(method), "--method", method, "--formats", "hdf5", *arguments)
    return stored(out / "reconstruction.h5")


def zero_filled(scan: Path, *arguments: object) -> NDArray:
    return image_by("zero-filled", scan, *arguments)


def cg_sense(scan: Path, *arguments: object) -> NDArray:
    return image_by("cg-sense", scan, *arguments)


def places(image: nibabel.Nifti1Image) -> NDArray:
    """LPS mm of all voxels of a NIfTI file, by its affine."""
    indices = np.stack(np.meshgrid(*map(np.arange, image.shape), indexing="ij"), axis=-1)
    return (indices @ image.affine[:3, :3].T + image.affine[:3, 3]) * [-1, -1, 1]


def check_in_the_patient(folder: Path, coils: int) -> None:
    """Our NIfTI, and what dcm2niix makes of our DICOM, show the phantom where it is."""
    program = pytest.importorskip("dcm2niix").bin
    command = [program, "-f", "converted", "-b", "n", "-z", "n", "-o", folder, folder / "reconstruction_dicom"]
    subprocess.run(command, check=True, capture_output=True)
    for name, tolerance in (("reconstruction.nii.gz", 0.01), ("converted.nii", 0.012)):
        image = nibabel.load(folder / name)
        pixels, truth = image.get_fdata(), combined(places(image), coils)
        assert error(pixels / np.linalg.norm(pixels), truth / np.linalg.norm(truth)) < tolerance


@pytest.fixture
def slices(write_mrd: Make) -> Make:
    """Writes a scan of oblique slices, 6 mm apart; returns its path and the truth (slices, y, x).

    encoded, kept: (x, y) voxels, of 2.5 mm along y; those kept span 144 mm along x. order: of the acquisition.
    Keywords are those of `write_mrd`.
    """

    def make(
        encoded: tuple[int, int] = (96, 48),
        kept: tuple[int, int] | None = None,
        *,
        order: list[int] | None = None,
        coils: int = 4,
        **options: Any,
    ) -> tuple[Path, NDArray]:
        kept, order = kept or (encoded[0] // 2, encoded[1]), order or [0]
        size = np.array([144 / kept[0], 2.5, 6.0])
        centres = [CENTRE_MM + (n - len(order) // 2) * 6 * OBLIQUE[2] for n in range(len(order))]
        images = [seen(voxels((*encoded, 1), size, centre)[0], coils) for centre in centres]
        kspace = np.stack([fourier(image, 1, 2) for image in images])[order][:, :, None]
        given = {
            "positions": [centres[n] for n in order],
            "directions": OBLIQUE,
            "matrix": (*encoded, 1),
            "fov": (encoded[0] * size[0], encoded[1] * size[1], 5),
            "recon_matrix": (*kept, 1),
            "recon_fov": (kept[0] * size[0], kept[1] * size[1], 5),
        }
        path = write_mrd(kspace.astype(np.complex64), **given | options)
        return path, np.stack([central(np.linalg.norm(image, axis=0), *kept[::-1]) for image in images])

    return make


@pytest.fixture
def slab(write_mrd: Make) -> Make:
    """Writes an oblique 3D scan of voxels of 4 × 4 × 5 mm; returns its path and the truth (z, y, x).

    It is a stream of messages, which is written faster than HDF5. Keywords are those of `write_mrd`.
    """

    def make(
        encoded: tuple[int, int, int] = (24, 30, 20), kept: tuple[int, int, int] = (12, 30, 16), **options: Any
    ) -> tuple[Path, NDArray]:
        size = np.array([4.0, 4.0, 5.0])
        images = seen(voxels(encoded, size), 4)
        given = {"fov": tuple(encoded * size), "recon_matrix": kept, "recon_fov": tuple(kept * size)}
        kspace = fourier(images, 1, 2, 3).astype(np.complex64)[None]
        path = write_mrd(kspace, positions=[CENTRE_MM], directions=OBLIQUE, stream=True, **given | options)
        return path, central(np.linalg.norm(images, axis=0), *kept[::-1])

    return make


@pytest.mark.parametrize(("encoded", "kept"), [((128, 60), (64, 48)), ((126, 57), (63, 49))], ids=["even", "odd"])
def test_interleaved_oblique_slices_lie_where_they_were_measured(
    slices: Make, tmp_path: Path, encoded: tuple[int, int], kept: tuple[int, int]
) -> None:
    path, truth = slices(encoded, kept, order=[2, 0, 1])
    out = reconstruct(path, tmp_path / "out", "--method", "zero-filled", "--formats", "hdf5,nifti,dicom", *NO_NOISE)
    assert error(stored(out / "reconstruction.h5"), truth) < 0.01
    check_in_the_patient(out, 4)


@pytest.mark.parametrize(
    ("encoded", "kept"), [((28, 32, 24), (14, 32, 20)), ((26, 31, 23), (13, 31, 19))], ids=["even", "odd"]
)
def test_partitions_of_an_oblique_slab_lie_where_they_were_measured(
    slab: Make, tmp_path: Path, encoded: tuple[int, int, int], kept: tuple[int, int, int]
) -> None:
    path, truth = slab(encoded, kept)
    out = reconstruct(path, tmp_path / "out", "--method", "zero-filled", "--formats", "hdf5,nifti,dicom", *NO_NOISE)
    assert error(stored(out / "reconstruction.h5"), truth) < 0.01
    check_in_the_patient(out, 4)


def test_partial_fourier_is_completed_in_one_phase_encode_and_in_both(slab: Make) -> None:
    def measured(first_z: int) -> tuple[Path, NDArray]:
        limits = {"kspace_encoding_step_1": (8, 31, 16), "kspace_encoding_step_2": (first_z, 19, 10)}
        return slab((24, 32, 20), (6, 32, 20), edit=lambda _, s, kz, ky: ky >= 8 and kz >= first_z, limits=limits)

    for first_z, methods in ((0, ("homodyne", "pocs")), (5, ("pocs",))):
        path, truth = measured(first_z)
        empty = error(zero_filled(path, *NO_NOISE), truth)
        for method in methods:
            assert error(zero_filled(path, *NO_NOISE, "--partial-fourier", method), truth) < 0.7 * empty
        path.unlink()


def test_embedded_calibration_lines_unalias_a_slab(slab: Make) -> None:
    def edit(readout: Any, s: int, kz: int, ky: int) -> bool:
        central, on_the_grid = abs(ky - 16) <= 8, ky % 2 == 0
        readout.flags = (CALIBRATION_AND_IMAGING if on_the_grid else CALIBRATION) if central else 0
        return central or on_the_grid

    path, truth = slab((24, 32, 20), (8, 32, 20), edit=edit, calibration="embedded", acceleration=(2, 1))
    image = cg_sense(path, *NO_NOISE)
    assert error(image, truth) < 0.01
    assert error(zero_filled(path, *NO_NOISE), truth) > 10 * error(image, truth)


def test_separate_calibration_lines_unalias_and_stay_out_of_the_image(slices: Make, mrd_readout: Make) -> None:
    path, truth = slices(edit=lambda _, s, kz, ky: ky % 2 == 0, acceleration=(2, 1), calibration="separate")
    kspace = fourier(seen(voxels((96, 48, 1), np.array([3, 2.5, 6]))[0], 4), 1, 2)
    place = {"position": tuple(CENTRE_MM)} | dict(
        zip(("read_dir", "phase_dir", "slice_dir"), map(tuple, OBLIQUE), strict=True)
    )
    with ismrmrd.Dataset(str(path), "dataset") as file:
        for ky in range(14, 34):  # ten times as bright as the image
            line = mrd_readout(10j * kspace[:, ky], flags=CALIBRATION, kspace_encode_step_1=ky, **place)
            file.append_acquisition(line)
    assert error(2 * zero_filled(path, *NO_NOISE), truth) > 0.3
    assert error(cg_sense(path, *NO_NOISE), truth) < 0.02


class TestReadouts:
    def test_reversed_lines_and_discarded_samples_change_nothing(self, slices: Make) -> None:
        def edit(readout: Any, s: int, kz: int, ky: int) -> None:
            junk = np.full((4, 3), 1e3, np.complex64)
            samples = readout.data.copy()
            backwards = ky % 2 == 1
            ordered = samples[:, ::-1] if backwards else samples
            readout.resize(102, 4)
            readout.data[:] = np.concatenate([junk, ordered, junk], axis=1)
            readout.discard_pre = readout.discard_post = 3
            readout.center_sample = 3 + (47 if backwards else 48)
            readout.flags = 1 << 21 if backwards else 0

        path, truth = slices(edit=edit)
        assert error(zero_filled(path, *NO_NOISE), truth) < 0.01

    def test_an_asymmetric_echo_loses_resolution_and_does_not_move(self, slices: Make) -> None:
        def edit(readout: Any, s: int, kz: int, ky: int) -> None:
            samples = readout.data[:, 24:].copy()
            readout.resize(72, 4)
            readout.data[:] = samples
            readout.center_sample = 24

        path, truth = slices(edit=edit)
        image = zero_filled(path, *NO_NOISE)
        kspace = fourier(seen(voxels((96, 48, 1), np.array([3, 2.5, 6]))[0], 4), 1, 2)
        kspace[:, :, :24] = 0
        # The inverse of a Fourier sum: the conjugate's, conjugated.
        coarser = np.linalg.norm(central(fourier(kspace.conj(), 1, 2), 48, 48), axis=0)
        assert error(image[0], coarser) < 0.03
        completed = zero_filled(path, *NO_NOISE, "--partial-fourier", "pocs")
        assert error(completed, truth) < 0.7 * error(image, truth)


class TestNoise:
    """Four coils with noise of this covariance at the images' dwell time of 10 µs."""

    generator = np.random.default_rng(0)
    mixing = 1e-5 * (np.diag([1, 2, 0.7, 1.5]) + 0.4 * noise(generator, 4, 4))

    def readouts(self, samples: int, mrd_readout: Make, number: int = 32) -> list[Any]:
        """Noise readouts with a quarter of the images' dwell time: of four times the power the filter leaves 0.7."""
        mixing = self.mixing * np.sqrt(4 * 0.7)
        lines = [mixing @ noise(self.generator, 4, samples) for _ in range(number)]
        return [mrd_readout(line, flags=[ismrmrd.ACQ_IS_NOISE_MEASUREMENT], sample_time_us=2.5) for line in lines]

    @pytest.mark.parametrize("repeats", [(1, 1), (2, 2), (1, 3)], ids=["once", "averaged", "centre averaged"])
    def test_whitened_noise_is_white_of_the_level_that_is_written(
        self, write_mrd: Make, mrd_readout: Make, tmp_path: Path, repeats: tuple[int, int]
    ) -> None:
        # Slice by slice, the "maps" show one coil, or a sum of two. White noise is as strong in all of them.
        views = [np.eye(4)[n] for n in range(4)]
        views += [(views[n] + part * views[m]) / np.sqrt(2) for n in range(4) for m in range(n) for part in (1, 1j)]
        np.save(tmp_path / "maps.npy", (np.array(views)[:, :, None, None] * np.ones((16, 64))).astype(np.complex64))
        lines = self.readouts(1024, mrd_readout, 16)
        for number, ky in np.ndindex(len(views), 16):
            head = {"slice": number, "kspace_encode_step_1": ky, "position": (0, 0, 5 * number), "sample_time_us": 10}
            for average in range(repeats[4 <= ky < 12]):
                lines.append(mrd_readout(self.mixing @ noise(self.generator, 4, 64), average=average, **head))
        path = write_mrd(lines, matrix=(64, 16, 1), bandwidth=0.7, stream=True)
        out = tmp_path / "out.h5"
        reconstruct(path, out, "--method", "zero-filled", "--maps", tmp_path / "maps.npy", "--complex")
        images, level = stored(out, "complex"), float(stored(out, "noise_std"))
        # Both parts have variance 1 for a single readout.
        expected = np.mean([2 / repeats[4 <= ky < 12] for ky in range(16)])
        assert level**2 == pytest.approx(expected)
        np.testing.assert_allclose((np.abs(images) ** 2).mean(axis=(1, 2)), expected, rtol=0.15)
        for part in (images.real, images.imag):
            assert part.var() == pytest.approx(expected / 2, rel=0.03)
        measured, truth = stored(out, "noise_covariance") / (4 * 0.7), self.mixing @ self.mixing.conj().T
        assert np.linalg.norm(measured - truth) < 0.05 * np.linalg.norm(truth)

    def test_the_image_is_less_noisy_with_each_kind_of_noise_scan(
        self, slices: Make, mrd_readout: Make, write_mrd: Make, tmp_path: Path
    ) -> None:
        def edit(readout: Any, s: int, kz: int, ky: int) -> None:
            readout.data[:] += 3e3 * self.mixing @ noise(self.generator, *readout.data.shape)

        readouts = self.readouts(1024, mrd_readout, 16)
        np.save(tmp_path / "noise.npy", np.concatenate([readout.data for readout in readouts], axis=1).T)
        sources = [("--noise", write_mrd(readouts, path=tmp_path / "noise.h5", matrix=(1024, 1, 1)))]
        sources += [("--noise", tmp_path / "noise.npy"), NO_NOISE]
        clean, _ = slices(path=tmp_path / "clean.h5")
        noisy, _ = slices(path=tmp_path / "noisy.h5", edit=edit)
        truths = [self.normalised(zero_filled(clean, *source)) for source in sources]
        mrd, array, plain = (
            error(self.normalised(zero_filled(noisy, *source)), truth)
            for source, truth in zip(sources, truths, strict=True)
        )
        background = error(self.normalised(zero_filled(noisy)), truths[0])
        assert max(mrd, array, background) < 0.8 * plain
        assert mrd == pytest.approx(array, rel=0.01)
        assert background == pytest.approx(array, rel=0.2)

    def normalised(self, image: NDArray) -> NDArray:
        return image / np.linalg.norm(image)

    @pytest.mark.parametrize("samples_per_line", [48, 96])
    def test_the_background_as_noise_scan_does_no_harm_to_a_small_undersampled_scan(
        self, slices: Make, samples_per_line: int
    ) -> None:
        """Of so few samples the covariance of white noise looks correlated."""

        def edit(readout: Any, s: int, kz: int, ky: int) -> bool:
            readout.data[:] += 0.02 * noise(self.generator, *readout.data.shape)
            return ky % 3 == 0 or abs(ky - 24) < 9

        path, truth = slices((samples_per_line, 48), (48, 48), edit=edit, coils=8)
        plain, whitened = cg_sense(path, *NO_NOISE), cg_sense(path)
        strength = (plain * whitened).sum() / (whitened * whitened).sum()
        assert error(strength * whitened, truth) < 1.1 * error(plain, truth)


def test_stacks_contrasts_and_repetitions_are_volumes_with_their_own_times(
    slices: Make, mrd_readout: Make, write_mrd: Make, tmp_path: Path
) -> None:
    kspace = fourier(seen(voxels((48, 24, 1), np.array([3, 5, 6]))[0], 2), 1, 2)
    turned = OBLIQUE[[1, 2, 0]]
    lines = []
    for stack, contrast, repetition, ky in np.ndindex(2, 2, 2, 24):
        read, phase, normal = map(tuple, (OBLIQUE, turned)[stack])
        counters = {"slice": stack, "contrast": contrast, "repetition": repetition, "kspace_encode_step_1": ky}
        place = {"position": tuple(CENTRE_MM), "read_dir": read, "phase_dir": phase, "slice_dir": normal}
        lines.append(mrd_readout((1 + 4 * stack + 2 * contrast + repetition) * kspace[:, ky], **counters, **place))
    path = write_mrd(lines, stream=True, matrix=(48, 24, 1), sequence="<TR>500</TR><TE>5</TE><TE>12.5</TE>")
    out = reconstruct(path, tmp_path / "out", "--method", "zero-filled", "--formats", "hdf5,nifti", *NO_NOISE)
    truth = np.linalg.norm(fourier(kspace.conj(), 1, 2), axis=0)
    for stack, contrast, repetition in np.ndindex(2, 2, 2):
        name = f"reconstruction_stack-{stack + 1}_contrast-{contrast + 1}_repetition-{repetition + 1}"
        image = stored(out / f"{name}.h5")[0]
        assert error(image, (1 + 4 * stack + 2 * contrast + repetition) * truth) < 0.01
        facts = json.loads((out / f"{name}.json").read_text())
        assert (facts["EchoTime"], facts["RepetitionTime"]) == ((0.005, 0.0125)[contrast], 0.5)
        columns = nibabel.load(out / f"{name}.nii.gz").affine[:3, :3]
        np.testing.assert_allclose(columns[:, 0] / 2, (OBLIQUE, turned)[stack][0] * [-1, -1, 1], atol=1e-5)
    assert len(list(out.glob("*.h5"))) == len(list(out.glob("*.nii.gz"))) == 8


def test_thirty_two_coils_become_ten_with_the_same_image(slices: Make, tmp_path: Path, capsys) -> None:
    path, _ = slices(coils=32)
    all_coils = stored(reconstruct(path, tmp_path / "32.h5", "--method", "zero-filled", *NO_NOISE))
    capsys.readouterr()
    ten = reconstruct(
        path, tmp_path / "10.h5", "--method", "zero-filled", "--json", "--compress-coils", "10", *NO_NOISE
    )
    steps = json.loads(capsys.readouterr().out)["conditioning"]
    assert any("32 coils compressed to 10" in step["done"] for step in steps)
    assert error(stored(ten), all_coils) < 0.01


def test_geometric_compression_of_a_slab_keeps_its_image(slab: Make) -> None:
    path, truth = slab()
    geometric = zero_filled(path, *NO_NOISE, "--compress-coils", "3", "--compression", "geometric")
    assert error(geometric, truth) < 0.02
    assert error(zero_filled(path, *NO_NOISE, "--compress-coils", "3"), truth) > error(geometric, truth)


@pytest.mark.parametrize("method", ["zero-filled", "cg-sense", "cs", "irim"])
def test_the_unit_of_the_samples_passes_through_every_method(slices: Make, tmp_path: Path, method: str) -> None:
    def images(factor: float, *arguments: str) -> NDArray:
        def edit(readout: Any, s: int, kz: int, ky: int) -> bool:
            noisy = readout.data + 0.01 * noise(np.random.default_rng(ky), *readout.data.shape)
            readout.data[:] = factor * noisy
            return ky % 3 == 0 or abs(ky - 20) < 8

        path, _ = slices((64, 40), (32, 40), edit=edit, path=tmp_path / f"{factor}.h5")
        image = image_by(method, path, *arguments)
        path.unlink()
        return image

    tolerance = {"rtol": 0, "atol": 1e-2 if method == "irim" else 1e-3}  # networks compute in bf16
    image = images(1.0, *NO_NOISE)
    np.testing.assert_allclose(images(1e-6, *NO_NOISE) * 1e6 / image.max(), image / image.max(), **tolerance)
    whitened = images(1.0)
    np.testing.assert_allclose(images(1e-6) / whitened.max(), whitened / whitened.max(), **tolerance)


@pytest.mark.parametrize("method", ["cs", "irim"])
def test_methods_that_denoise_unalias_raw_data(slices: Make, method: str) -> None:
    path, truth = slices((128, 64), (64, 64), coils=6, edit=lambda _, s, kz, ky: ky % 3 == 0 or abs(ky - 32) < 9)
    assert error(image_by(method, path, *NO_NOISE), truth) < 0.5 * error(zero_filled(path, *NO_NOISE), truth)
