"""BART's files, written by BART itself: some kept in tests/data/bart, others made now where `bart` is on the path."""

import pickle
import shutil
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest

from mrirecon.acquisition.array_files import open_arrays
from mrirecon.errors import InputError, UsageError

DATA = Path(__file__).resolve().parents[1] / "data" / "bart"


def cfl(path):
    """All samples of a .cfl, axes in BART's order, without those of size 1."""
    shape = [int(size) for size in path.with_suffix(".hdr").read_text().splitlines()[1].split()]
    return np.fromfile(path.with_suffix(".cfl"), np.complex64).reshape(shape, order="F").squeeze()


def write_cfl(path, dimensions, samples=None):
    """As BART does; samples in BART's order of axes."""
    path.with_suffix(".hdr").write_text("# Dimensions\n" + " ".join(map(str, dimensions)) + " \n# Command\nmade up\n")
    samples = np.ones(dimensions) if samples is None else samples
    path.with_suffix(".cfl").write_bytes(samples.astype(np.complex64).tobytes(order="F"))
    return path.with_suffix(".cfl")


def rss(scan):
    """Root-sum-of-squares images by centred, orthonormal inverse FFT: (slices or partitions, y, x)."""
    axes = (0, 2, 3) if scan.stack == "partitions" else (2, 3)
    kspace = np.fft.ifftshift(np.stack(list(scan)), axes=axes)
    return np.linalg.norm(np.fft.fftshift(np.fft.ifftn(kspace, axes=axes, norm="ortho"), axes=axes), axis=1)


@pytest.mark.parametrize("name", ["kspace2d.cfl", "kspace2d.hdr", "kspace2d.ra"])
def test_our_image_of_a_slice_is_barts(name):
    (scan,) = open_arrays(DATA / name)
    assert (scan.shape, scan.stack, scan.header.readout_axis, scan.volume) == ((1, 4, 12, 16), "slices", "x", None)
    assert scan.format == ("BART (.ra)" if name.endswith("ra") else "BART (.cfl)")
    np.testing.assert_allclose(rss(scan)[0], cfl(DATA / "rss2d").real.T, rtol=1e-4, atol=1e-5)


def test_our_image_of_a_3d_scan_is_barts():
    (scan,) = open_arrays(DATA / "kspace3d.cfl")
    assert (scan.shape, scan.stack, scan.header.readout_axis) == ((6, 2, 7, 8), "partitions", "x")
    np.testing.assert_allclose(rss(scan), cfl(DATA / "rss3d").real.T, rtol=1e-4, atol=1e-5)


def test_echoes_are_volumes():
    single, scans = open_arrays(DATA / "kspace3d.cfl")[0], open_arrays(DATA / "kspace3d_echoes.hdr")
    assert [scan.volume for scan in scans] == ["echo-1", "echo-2"]
    np.testing.assert_array_equal(scans[0].kspace(3), single.kspace(3))
    np.testing.assert_allclose(scans[1].kspace(3), 2 * single.kspace(3), rtol=1e-6)


@pytest.mark.skipif(shutil.which("bart") is None, reason="bart is not on the path")
@pytest.mark.parametrize(("size", "coils"), [(32, 4), (17, 3)])
def test_our_image_is_that_of_the_bart_installed_here(tmp_path, size, coils):
    for command in (
        f"phantom -x {size} -k -s {coils} k",
        "fft -u -i 3 k images",
        "rss 8 images rss",
        "join 13 k k k k slices",
        "join 10 slices slices both",
    ):
        subprocess.run(["bart", *command.split()], cwd=tmp_path, check=True)
    (scan,) = open_arrays(tmp_path / "k.cfl")
    np.testing.assert_allclose(rss(scan)[0], cfl(tmp_path / "rss").real.T, rtol=1e-4, atol=1e-5)
    first, second = open_arrays(tmp_path / "both.cfl")
    assert (first.volume, second.volume, second.shape) == ("time-1", "time-2", (4, coils, size, size))
    np.testing.assert_array_equal(second.kspace(3), scan.kspace(0))


def test_without_a_readout_the_phase_encodes_are_y_and_x(tmp_path):
    samples = np.arange(12 * 10 * 3).reshape(1, 12, 10, 3)
    (scan,) = open_arrays(write_cfl(tmp_path / "hybrid", samples.shape, samples))
    assert (scan.shape, scan.stack, scan.header.readout_axis) == ((1, 3, 12, 10), "slices", None)
    assert "the readout is unknown" in scan.notes[0]
    np.testing.assert_array_equal(scan.kspace(0), samples[0].transpose(2, 0, 1))


def test_axes_can_be_named_without_those_of_size_one(tmp_path):
    samples = np.arange(8 * 6 * 3).reshape(8, 1, 6, 1, 3)
    path = write_cfl(tmp_path / "k", samples.shape, samples)
    (scan,) = open_arrays(path, axes="phase,readout,coil")
    np.testing.assert_array_equal(scan.kspace(0), samples[:, 0, :, 0].transpose(2, 0, 1))
    with pytest.raises(UsageError, match="names 2 axes, but the array has 3: 8 × 6 × 3"):
        open_arrays(path, axes="phase,readout")


@pytest.mark.parametrize(
    ("dimensions", "said"),
    [
        ((8, 8, 1, 2, 2), r"2 entries along BART's dimension 4 \(MAPS\).*`bart slice 4 0 IN OUT`"),
        ((8, 8, *(1,) * 12, 3), r"dimension 14 \(AVG\).*`bart avg 16384 IN OUT`"),
        ((8, 1, 1, 4), "READ,COIL do not span k-space"),
        ((1, 1, 1, 1), "are all 1, which do not span k-space"),
        ((8, 8, 4, *(1,) * 10, 3), "several slices of a 3D scan"),
    ],
)
def test_dimensions_of_another_use_are_named(tmp_path, dimensions, said):
    with pytest.raises(InputError, match=said):
        open_arrays(write_cfl(tmp_path / "k", dimensions))


def test_samples_are_read_lazily_and_cross_process_borders(tmp_path):
    samples = np.ones((8, 8, 1, 2, *(1,) * 9, 3), dtype=np.complex64)
    samples[..., 2] = np.nan
    (scan,) = pickle.loads(pickle.dumps(open_arrays(write_cfl(tmp_path / "k", samples.shape, samples))))
    assert np.isfinite(scan.kspace(1)).all()
    with pytest.raises(InputError, match="slice 2 holds NaN"):
        scan.kspace(2)


def test_the_file_that_is_hashed_is_that_of_the_samples():
    scans = [open_arrays(DATA / name)[0] for name in ("kspace2d.hdr", "kspace2d.cfl")]
    assert scans[0].path == scans[1].path == DATA / "kspace2d.cfl"


def test_the_samples_must_be_beside_the_header(tmp_path):
    shutil.copy(DATA / "kspace2d.hdr", tmp_path)
    with pytest.raises(InputError, match=r"kspace2d.cfl: there is no such file.*keep both together"):
        open_arrays(tmp_path / "kspace2d.hdr")


def test_a_cfl_without_its_header_is_of_unknown_format(tmp_path):
    shutil.copy(DATA / "kspace2d.cfl", tmp_path)
    with pytest.raises(InputError, match="unknown format"):
        open_arrays(tmp_path / "kspace2d.cfl")


@pytest.mark.parametrize(
    "text", ["", "\n", "\n0 8", "\n-8 -8", "\n8 8 x", "\n99999999999 99999999999", "\n8 9", "\n" + "8 " * 17, "\n1e3 1"]
)
def test_headers_that_cannot_be_true_are_input_errors(tmp_path, text):
    write_cfl(tmp_path / "k", (8, 8))
    (tmp_path / "k.hdr").write_text("# Dimensions" + text)
    with pytest.raises(InputError, match="cannot be read"):
        open_arrays(tmp_path / "k.cfl")


def ra(dimensions, *, flags=0, kind=4, width=8, size=None, data=b""):
    size = width * int(np.prod(dimensions)) if size is None else size
    fields = (flags, kind, width, size, len(dimensions), *dimensions)
    return b"rawarray" + struct.pack(f"<{len(fields)}Q", *fields) + data


@pytest.mark.parametrize(
    "content",
    [
        ra((8, 8), data=bytes(511)),
        ra((8, 8), flags=1, data=bytes(512)),
        ra((8, 8), flags=2, data=bytes(512)),
        ra((8, 8), kind=3, data=bytes(512)),
        ra((8, 8), width=4, data=bytes(256)),
        ra((8, 8), size=500, data=bytes(512)),
        ra((1 << 40, 1 << 20), size=1 << 63),
        ra((0, 8)),
        ra((2,) * 17, data=bytes(8 << 17)),
        ra((8, 8))[:40],
        b"rawarray" + b"\xff" * 40,
    ],
)
def test_ra_files_that_cannot_be_read_are_input_errors(tmp_path, content):
    (tmp_path / "k.ra").write_bytes(content)
    with pytest.raises(InputError, match="cannot be read"):
        open_arrays(tmp_path / "k.ra")


def test_ra_in_double_precision(tmp_path):
    samples = np.arange(8 * 6) * (1 + 1j)
    (tmp_path / "k.ra").write_bytes(ra((8, 6), width=16, data=samples.tobytes()))
    (scan,) = open_arrays(tmp_path / "k.ra")
    assert scan.stored_dtype == "complex128"
    np.testing.assert_array_equal(scan.kspace(0)[0], samples.reshape(6, 8))
