"""MRD v2 files, written by the mrd-python package and its phantom generator."""

import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mrirecon.acquisition.detection import open_file
from mrirecon.acquisition.mrd2 import open_mrd2
from mrirecon.acquisition.readouts import Encoding, Flag, Limits, Readouts, System
from mrirecon.errors import InputError, UsageError

mrd = pytest.importorskip("mrd")


@pytest.fixture(scope="module")
def phantom(tmp_path_factory) -> Path:
    """The package's phantom: 32 × 32, 3 coils, twofold readout oversampling, 2 repetitions, 32 noise readouts."""
    path = tmp_path_factory.mktemp("mrd2") / "phantom.mrd"
    command = [
        sys.executable,
        "-m",
        "mrd.tools.phantom",
        "-m",
        "32",
        "-c",
        "3",
        "-r",
        "2",
        "-n",
        "0.01",
        "-o",
        str(path),
    ]
    subprocess.run(command, check=True, timeout=60)
    return path


def acquisition(samples: np.ndarray, **head) -> "mrd.StreamItem":
    made = mrd.Acquisition(data=samples.astype(np.complex64))
    for name, value in head.items():
        setattr(made.head.idx if hasattr(made.head.idx, name) else made.head, name, value)
    return mrd.StreamItem.Acquisition(made)


def header(**fields) -> "mrd.Header":
    space = mrd.EncodingSpaceType(
        matrix_size=mrd.MatrixSizeType(x=8, y=6, z=1), field_of_view_mm=mrd.FieldOfViewMm(x=160.0, y=120.0, z=5.0)
    )
    encoding = mrd.EncodingType(encoded_space=space)
    for name, value in fields.items():
        setattr(encoding, name, value)
    return mrd.Header(encoding=[encoding])


@pytest.fixture
def write(tmp_path) -> Callable[..., Path]:
    def make(items, head=None, writer=mrd.BinaryMrdWriter) -> Path:
        path = tmp_path / "scan.mrd"
        with writer(str(path)) as stream:
            stream.write_header(head)
            stream.write_data(items)
        return path

    return make


def test_samples_are_those_that_the_package_reads(phantom):
    with mrd.BinaryMrdReader(str(phantom)) as reader:
        reader.read_header()
        truth = [item.value.data.copy() for item in reader.read_data()]
    readouts = open_file(phantom)
    assert isinstance(readouts, Readouts)
    assert len(readouts.heads) == len(truth) == 32 + 64
    for rows in (range(96), [1, 40, 41, 95], []):
        for read, row in zip(readouts.read(rows), rows, strict=True):
            assert np.array_equal(read, truth[row])
    again = pickle.loads(pickle.dumps(readouts))
    assert np.array_equal(again.read([95])[0], truth[95])


def test_the_phantom_is_the_one_that_the_package_reconstructs(phantom, tmp_path):
    images = tmp_path / "images.mrd"
    command = [sys.executable, "-m", "mrd.tools.stream_recon", "-i", str(phantom), "-o", str(images)]
    subprocess.run(command, check=True, timeout=60)
    with mrd.BinaryMrdReader(str(images)) as reader:
        reader.read_header()
        truth = [item.value.data.squeeze() for item in reader.read_data()]
    readouts = open_mrd2(phantom)
    assert readouts.flagged(Flag.NOISE).sum() == 32
    for repetition in (0, 1):
        rows = np.flatnonzero((readouts.heads["repetition"] == repetition) & ~readouts.flagged(Flag.NOISE))
        kspace = np.stack(readouts.read(rows), axis=1)[:, np.argsort(readouts.heads["step1"][rows])]
        image = np.fft.fftshift(np.fft.ifft2(np.fft.ifftshift(kspace, axes=(1, 2)), norm="ortho"), axes=(1, 2))
        combined = np.linalg.norm(image, axis=0)[:, 16:48]
        np.testing.assert_allclose(combined, truth[repetition], atol=1e-4 * combined.max())


def test_heads_and_header_are_those_that_were_written(write):
    limits = mrd.EncodingLimitsType(kspace_encoding_step_1=mrd.LimitType(minimum=1, maximum=5, center=3))
    parallel = mrd.ParallelImagingType(
        acceleration_factor=mrd.AccelerationFactorType(kspace_encoding_step_1=2, kspace_encoding_step_2=1),
        calibration_mode=mrd.CalibrationMode.EMBEDDED,
        multiband=mrd.MultibandType(multiband_factor=3),
    )
    head = header(encoding_limits=limits, parallel_imaging=parallel, trajectory=mrd.Trajectory.GOLDENANGLE)
    head.acquisition_system_information = mrd.AcquisitionSystemInformationType(
        system_vendor="GE", system_field_strength_t=1.5, relative_receiver_noise_bandwidth=0.75
    )
    head.sequence_parameters = mrd.SequenceParametersType(t_r=[500], t_e=[10, 20], flip_angle_deg=[30])
    head.measurement_information = mrd.MeasurementInformationType(patient_position=mrd.PatientPosition.F_FDL)
    head.subject_information = mrd.SubjectInformationType(patient_name="Secret^Person")
    head.experimental_conditions = mrd.ExperimentalConditionsType(h1resonance_frequency_hz=63_500_000)
    counters = {"kspace_encode_step_1": 4, "kspace_encode_step_2": 1, "slice": 2, "contrast": 3, "average": 1}
    item = acquisition(
        np.ones((2, 8)),
        flags=mrd.AcquisitionFlags.IS_REVERSE | mrd.AcquisitionFlags.LAST_IN_SLICE,
        center_sample=3,
        discard_pre=1,
        sample_time_us=2.5,
        position=np.array([1, 2, 3], dtype=np.float32),
        **counters,
    )
    readouts = open_mrd2(write([item, acquisition(np.ones((2, 7)))], head))
    first, second = readouts.heads
    assert first["flags"] == Flag.REVERSE | 128
    assert (first["step1"], first["step2"], first["slice"], first["contrast"], first["average"]) == (4, 1, 2, 3, 1)
    assert (first["centre"], first["discard_pre"], first["sample_time_us"]) == (3, 1, 2.5)
    assert first["position"].tolist() == [1, 2, 3]
    assert (second["coils"], second["samples"], second["centre"], second["step1"]) == (2, 7, 3, 0)
    assert readouts.encodings == (
        Encoding("goldenangle", (8, 6, 1), (160, 120, 5), None, None, Limits(1, 5, 3), None, (2, 1), "embedded", 3),
    )
    assert readouts.system == System("GE", None, 1.5, 0.75, 63.5e6, 500, (10, 20), None, 30, "FFDL")
    assert b"Secret" not in pickle.dumps(readouts)


def test_ndjson_reads_like_the_binary_form(write):
    samples = np.random.default_rng(0).normal(size=(5, 2, 8)).astype(np.complex64)
    lines = [acquisition(line, kspace_encode_step_1=n) for n, line in enumerate(samples)]
    binary = open_mrd2(write(lines, header()))
    expected = binary.read(range(5))
    path = write(lines, header(), mrd.NDJsonMrdWriter)
    assert path.read_bytes().startswith(b"{")
    readouts = open_file(path)
    assert isinstance(readouts, Readouts)
    assert (readouts.heads == binary.heads).all()
    assert readouts.encodings == binary.encodings
    assert np.array_equal(readouts.read(range(5)), expected)
    path.write_text(path.read_text().replace('"shape":[2,8]', '"shape":[2000000000,8000]'))
    with pytest.raises(InputError):
        open_mrd2(path)


def test_other_items_are_noted_and_images_alone_refused(write):
    waveform = mrd.StreamItem.WaveformUint32(mrd.Waveform(data=np.ones((1, 4), dtype=np.uint32)))
    (note,) = open_mrd2(write([waveform, acquisition(np.ones((2, 8)))], header())).notes
    assert "1 waveforms" in note
    with pytest.raises(InputError, match="no raw data"):
        open_mrd2(write([waveform], header()))
    with pytest.raises(InputError, match="no readouts"):
        open_mrd2(write([], header()))


def test_headers_that_tell_too_little_or_too_much_are_refused(write):
    item = acquisition(np.ones((2, 8)))
    with pytest.raises(InputError, match="no MRD header"):
        open_mrd2(write([item]))
    with pytest.raises(InputError, match="encoding is missing"):
        open_mrd2(write([item], mrd.Header()))
    with pytest.raises(InputError, match="encoded space's matrix"):
        open_mrd2(write([item], header(encoded_space=mrd.EncodingSpaceType())))
    with pytest.raises(InputError, match="of encoding 7"):
        open_mrd2(write([acquisition(np.ones((2, 8)), encoding_space_ref=7)], header()))


def test_a_file_cut_short_says_after_how_many_readouts(phantom, tmp_path):
    path, whole = tmp_path / "cut.mrd", phantom.read_bytes()
    message = len(whole) // 96
    path.write_bytes(whole[: -message // 2])
    with pytest.raises(InputError, match="beyond 95 complete readouts"):
        open_mrd2(path)
    path.write_bytes(whole[:1000])
    with pytest.raises(InputError, match="another version"):
        open_mrd2(path)


def test_a_changed_file_is_read_anew(write):
    first = open_mrd2(write([acquisition(np.ones((2, 8)))], header()))
    second = open_mrd2(write([acquisition(2 * np.ones((2, 8)))], header()))
    first.read([0])[0][:] = 7
    assert (second.read([0])[0] == 2).all()


def test_an_absurd_size_takes_no_memory(write):
    path = write([acquisition(np.ones((2, 8)))], header())
    data = path.read_bytes()
    samples = np.ones((2, 8), dtype=np.complex64).tobytes()
    place = data.index(b"\x02\x08" + samples)
    path.write_bytes(data[:place] + b"\xff\xff\xff\xff\x3f\x08" + data[place + 2 :])
    with pytest.raises(InputError, match="bytes in a file of"):
        open_mrd2(path)


def test_without_the_package_the_extra_is_named(phantom, tmp_path, monkeypatch):
    path = tmp_path / "copy.mrd"
    path.write_bytes(phantom.read_bytes())
    monkeypatch.setitem(sys.modules, "mrd", None)
    with pytest.raises(UsageError, match=r"mrirecon\[mrd2\]"):
        open_mrd2(path)
