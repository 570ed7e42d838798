"""Siemens twix: small files from our own writer (fixture `twix`), and a real one, checked against other readers."""

import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from mrirecon.acquisition.magic import first_bytes, is_twix
from mrirecon.acquisition.readouts import Flag, Limits, Readouts
from mrirecon.acquisition.twix import open_twix
from mrirecon.errors import InputError, UsageError

ACQEND, RTFEEDBACK, HPFEEDBACK, SYNCDATA, RAWDATACORRECTION, LASTSCANINMEAS = 0, 1, 2, 5, 10, 11
PHASCOR, PATREFSCAN, PATREFANDIMASCAN, REFLECT, NOISEADJSCAN, DUMMYSCAN = 21, 22, 23, 24, 25, 51


def kspace_of(readouts: Readouts) -> np.ndarray:
    """The imaging readouts of one slice in the order of their lines, (coils, y, x)."""
    lines = readouts.read(range(len(readouts.heads)))
    kspace = np.zeros((lines[0].shape[0], readouts.encodings[0].encoded_matrix[1], lines[0].shape[1]), np.complex64)
    for head, line in zip(readouts.heads, lines, strict=True):
        kspace[:, head["step1"]] = line
    return kspace


class TestRealFile:
    """A gradient echo of a phantom, Skyra, VE11C."""

    @pytest.fixture
    def path(self, shared: Path) -> Path:
        return shared / "data" / "kspace" / "phantom_gre_2ch_siemens.dat"

    def test_the_header_says_what_was_measured(self, path):
        readouts = open_twix(path)
        (encoding,), system = readouts.encodings, readouts.system
        assert len(readouts.heads) == 160
        assert readouts.group is None
        assert encoding.trajectory == "cartesian"
        assert encoding.encoded_matrix == (320, 160, 1)
        assert encoding.encoded_fov_mm == (400, 200, 4)
        assert encoding.recon_matrix == (160, 160, 1)
        assert encoding.recon_fov_mm == (200, 200, 4)
        assert encoding.step1 == Limits(0, 159, 80)
        assert (system.vendor, system.model, system.patient_position) == ("SIEMENS", "Skyra", "HFS")
        assert system.field_strength_t == pytest.approx(2.8936, abs=1e-4)
        assert (system.tr_ms, system.te_ms, system.flip_angle_deg) == (10, (3,), 15)
        # The protocol holds an inversion time, but the inversion is switched off.
        assert system.ti_ms is None
        assert system.bandwidth is None
        assert set(readouts.heads["sample_time_us"]) == {11.6}

    def test_kspace_is_that_of_twixtools(self, path, capsys):
        import twixtools

        image = twixtools.map_twix(twixtools.read_twix(str(path), verbose=False, parse_geometry=False))[-1]["image"]
        image.flags["remove_os"] = False
        assert_array_equal(kspace_of(open_twix(path)), np.moveaxis(image[:].squeeze(), 1, 0))

    @pytest.mark.skipif(shutil.which("bart") is None, reason="BART is not installed")
    def test_kspace_is_that_of_bart(self, path, tmp_path):
        subprocess.run(["bart", "twixread", "-A", path, tmp_path / "k"], check=True, capture_output=True)
        theirs = np.fromfile(tmp_path / "k.cfl", np.complex64).reshape(2, 160, 320)
        assert_array_equal(kspace_of(open_twix(path)), theirs)

    def test_directions_are_opposite_to_the_image_axes_of_twixtools(self, path, capsys):
        import twixtools

        geometry = twixtools.read_twix(str(path), verbose=False)[-1]["geometry"][0]
        phase, read, normal = geometry.prs_to_pcs().T
        head = open_twix(path).heads[0]
        assert_allclose(head["phase_dir"], -phase, atol=1e-6)
        assert_allclose(head["read_dir"], -read, atol=1e-6)
        assert_allclose(head["slice_dir"], normal, atol=1e-6)
        assert_allclose(head["slice_dir"], geometry.normal, atol=1e-6)
        assert_allclose(head["position"], geometry.offset, atol=1e-4)

    def test_the_inverse_fourier_transform_shows_the_round_phantom(self, path):
        kspace = np.fft.ifftshift(kspace_of(open_twix(path)), axes=(1, 2))
        image = np.fft.fftshift(np.linalg.norm(np.fft.ifft2(kspace), axis=0))[:, 80:240]
        radius = np.hypot(*(np.mgrid[:160, :160] - 79.5))
        assert np.median(image[radius < 70]) > 8 * np.median(image[radius > 85])

    def test_a_file_cut_anywhere_in_its_lines_says_how_many_are_whole(self, path, tmp_path):
        (tmp_path / "cut.dat").write_bytes(path.read_bytes()[: 10240 + 786112 + 100 * 5376 + 17])
        with pytest.raises(InputError, match="after 100 whole readouts"):
            open_twix(tmp_path / "cut.dat")

    def test_a_file_without_its_end_mark_is_whole_if_its_lines_are(self, path, tmp_path):
        (tmp_path / "cut.dat").write_bytes(path.read_bytes()[: 10240 + 786112 + 160 * 5376])
        readouts = open_twix(tmp_path / "cut.dat")
        assert len(readouts.heads) == 160
        assert any("no end mark" in note for note in readouts.notes)


def test_counters_flags_and_samples_are_carried_over(twix):
    names = {"Ave": 1, "Sli": 2, "Eco": 3, "Phs": 4, "Rep": 5, "Set": 6, "Seg": 7}
    lines = [
        twix.line(0, bits=[NOISEADJSCAN], data=np.ones((2, 256), np.complex64)),
        twix.line(5, cut=(2, 1), centre=(7, 4, 0), **names),
        twix.line(6, bits=[REFLECT]),
        twix.line(4, bits=[PATREFSCAN]),
        twix.line(3, bits=[PATREFSCAN, PATREFANDIMASCAN]),
        twix.line(2, bits=[PHASCOR, REFLECT]),
        twix.line(0, bits=[RTFEEDBACK]),
        twix.line(0, bits=[HPFEEDBACK]),
        twix.line(7, bits=[DUMMYSCAN]),
    ]
    readouts = open_twix(twix.file(twix.measurement(lines)))
    assert list(readouts.heads["flags"]) == [
        Flag.NOISE,
        0,
        Flag.REVERSE,
        Flag.CALIBRATION,
        Flag.CALIBRATION_AND_IMAGING,
        Flag.PHASE_CORRECTION | Flag.REVERSE,
        Flag.REAL_TIME_FEEDBACK,
        Flag.FEEDBACK,
        Flag.DUMMY,
    ]
    head = readouts.heads[1]
    counters = ("step1", "step2", "average", "slice", "contrast", "phase", "repetition", "set", "segment")
    assert [int(head[name]) for name in counters] == [5, 0, 1, 2, 3, 4, 5, 6, 7]
    assert [int(head[name]) for name in ("centre", "discard_pre", "discard_post")] == [7, 2, 1]
    assert readouts.heads["sample_time_us"][2] == 5
    # 130 Hz per pixel, as every noise scan of this scanner.
    assert readouts.heads["sample_time_us"][0] == 30
    assert list(readouts.heads["samples"]) == [256] + 8 * [16]
    assert_array_equal(readouts.read([1, 4])[1], lines[4]["data"])


def test_readouts_cross_process_borders(twix):
    line = twix.line(7)
    readouts = pickle.loads(pickle.dumps(open_twix(twix.file(twix.measurement([line])))))
    assert_array_equal(readouts.read([0])[0], line["data"])


def test_synchronisation_data_between_readouts_is_passed_over(twix):
    sync = twix.measurement([twix.line(0, data=np.zeros((1, 5), np.complex64), bits=[SYNCDATA])], end=False)
    header = twix.measurement([], end=False)
    lines = twix.measurement([twix.line(n) for n in range(8)])
    path = twix.file(header + sync[len(header) :] + lines[len(header) :])
    assert list(open_twix(path).heads["step1"]) == list(range(8))


def test_every_slice_has_its_own_position_and_direction(twix):
    from twixtools.quat import quaternion_to_directions

    rng = np.random.default_rng(0)
    turns = rng.normal(size=(4, 4))
    turns /= np.linalg.norm(turns, axis=1, keepdims=True)
    lines = [twix.line(7, Sli=n, position=(n, -2 * n, 30 + n), quaternion=turn) for n, turn in enumerate(turns)]
    heads = open_twix(twix.file(twix.measurement(lines, {"sSliceArray.lSize": "4"}))).heads
    assert_array_equal(heads["position"], [(n, -2 * n, 30 + n) for n in range(4)])
    for head, (w, x, y, z) in zip(heads, turns, strict=True):
        # As in MRD, the rotation's columns are phase encode, readout and slice.
        expected = quaternion_to_directions((x, y, z, w))
        assert_allclose([head["phase_dir"], head["read_dir"], head["slice_dir"]], expected, atol=1e-6)


def test_separate_reference_lines_are_counted_from_the_same_centre(twix):
    lines = [*(twix.line(n, bits=[PATREFSCAN], centre=(8, 2, 0)) for n in range(4)), *map(twix.line, range(8))]
    heads = open_twix(twix.file(twix.measurement(lines))).heads
    assert list(heads["step1"][:4]) == [2, 3, 4, 5]


PROTOCOLS = {
    "partial Fourier": ({}, {"iNoOfFourierLines": "6"}, "step1", Limits(0, 7, 4)),
    "phase oversampling": ({"sKSpace.dPhaseOversamplingForDialog": "0.25"}, {}, "encoded_fov_mm", (400, 200, 5)),
    "acceleration": ({"sPat.lAccelFactPE": "2", "sPat.ucRefScanMode": "0x2"}, {}, "acceleration", (2, 1)),
    "embedded": ({"sPat.lAccelFactPE": "2", "sPat.ucRefScanMode": "0x2"}, {}, "calibration", "embedded"),
    "separate": ({"sPat.lAccelFactPE": "2", "sPat.ucRefScanMode": "4"}, {}, "calibration", "separate"),
    "no acceleration": ({"sPat.lAccelFactPE": "1", "sPat.ucRefScanMode": "0x2"}, {}, "calibration", None),
    "echo planar": ({"sFastImaging.lEPIFactor": "8"}, {}, "trajectory", "epi"),
    "ramps": ({}, {"alRegridMode": "2 1"}, "trajectory", "ramp-sampled"),
    "radial": ({"sKSpace.ucTrajectory": "0x2"}, {}, "trajectory", "radial"),
    "multiband": ({"sSliceAcceleration.lMultiBandFactor": "3"}, {}, "multiband", 3),
    "no image size": ({}, {"NImageCols": ""}, "recon_matrix", None),
    "no field of view": ({"sSliceArray.asSlice[0].dPhaseFOV": ""}, {}, "recon_fov_mm", None),
}


@pytest.mark.parametrize("name", PROTOCOLS)
def test_the_protocol_tells_the_encoding(twix, name):
    protocol, derived, field, value = PROTOCOLS[name]
    path = twix.file(twix.measurement([twix.line(n) for n in range(8)], protocol, derived))
    assert getattr(open_twix(path).encodings[0], field) == value


def test_a_centre_that_no_readout_names_follows_from_partial_fourier(twix):
    lines = [twix.line(n, centre=(8, 0, 0)) for n in range(6)]
    encoding = open_twix(twix.file(twix.measurement(lines, {}, {"iNoOfFourierLines": "6"}))).encodings[0]
    assert encoding.step1 == Limits(0, 5, 2)


def test_3d_has_partitions_and_slab_oversampling(twix):
    protocol = {
        "sKSpace.ucDimension": "0x4",
        "sKSpace.lPartitions": "6",
        "sKSpace.lImagesPerSlab": "4",
        "sKSpace.dSliceOversamplingForDialog": "0.5",
        "sSliceArray.asSlice[0].dThickness": "40.0",
    }
    lines = [twix.line(n, Par=k, centre=(8, 4, 3)) for k in range(6) for n in range(8)]
    readouts = open_twix(twix.file(twix.measurement(lines, protocol, {"iNoOfFourierPartitions": "6"})))
    (encoding,) = readouts.encodings
    assert (encoding.encoded_matrix, encoding.recon_matrix) == ((16, 8, 6), (8, 8, 4))
    assert (encoding.encoded_fov_mm, encoding.recon_fov_mm) == ((400, 160, 60), (200, 160, 40))
    assert encoding.step2 == Limits(0, 5, 3)
    assert readouts.heads["step2"].max() == 5


def test_an_inversion_time_counts_only_if_there_is_an_inversion(twix):
    lines = [twix.line(7)]
    on, off = (
        open_twix(twix.file(twix.measurement(lines, {"alTI[0]": "900000", "sPrepPulses.ucInversion": code})))
        for code in ("0x2", "0x4")
    )
    assert (on.system.ti_ms, off.system.ti_ms) == (900, None)


class TestSeveralMeasurements:
    @pytest.fixture
    def path(self, twix) -> Path:
        noise = [twix.line(0, bits=[NOISEADJSCAN], data=np.full((2, 32), 9j, np.complex64)) for _ in range(3)]
        other_coils = [twix.line(0, bits=[NOISEADJSCAN], data=np.full((3, 32), 8j, np.complex64))]
        imaging = [twix.line(n) for n in range(8)]
        parts = (noise, other_coils, imaging, [twix.line(0, bits=[RTFEEDBACK])])
        return twix.file(*map(twix.measurement, parts), names=[b"AdjCoilSens", b"AdjCoilSens", b"gre", b"nav"])

    def test_the_last_with_imaging_readouts_is_the_default(self, path):
        assert open_twix(path).group == "2"

    def test_noise_of_an_earlier_one_with_the_same_channels_is_added(self, path):
        readouts = open_twix(path)
        noise = readouts.flagged(Flag.NOISE)
        assert list(noise) == 3 * [True] + 8 * [False]
        assert set(readouts.heads["sample_time_us"][noise]) == {5.0}
        assert_array_equal(readouts.read([0, 4])[0], np.full((2, 32), 9j))
        assert any("measurement 0 of the same file" in note for note in readouts.notes)

    def test_one_can_be_named(self, path):
        readouts = open_twix(path, "1")
        assert readouts.group == "1"
        assert list(readouts.heads["coils"]) == [3]

    @pytest.mark.parametrize("group", ["4", "-1", "gre"])
    def test_one_that_is_not_there_is_refused_with_those_that_are(self, path, group):
        with pytest.raises(UsageError, match="there are 0, 1, 2, 3"):
            open_twix(path, group)


def test_vb_has_the_same_readouts(twix):
    lines = [twix.line(n, position=(1, 2, 3), quaternion=(0, 1, 0, 0), Sli=1) for n in range(8)]
    newer = open_twix(twix.file(twix.measurement(lines)))
    expected = newer.read(range(8))
    older = open_twix(twix.vb_file(twix.measurement(lines, vb=True)))
    assert is_twix(first_bytes(older.path))
    assert "by documentation" in older.notes[0]
    assert_array_equal(older.heads, newer.heads)
    assert_array_equal(older.read(range(8)), expected)
    assert older.encodings == newer.encodings


def test_who_was_scanned_is_nowhere(twix, capsys):
    readouts = open_twix(twix.file(twix.measurement([twix.line(7)])))
    assert b"Secret" in readouts.path.read_bytes()
    assert b"Secret" not in pickle.dumps(readouts)
    assert capsys.readouterr() == ("", "")


def test_without_twixtools_the_extra_is_named(twix, monkeypatch):
    path = twix.file(twix.measurement([twix.line(7)]))
    monkeypatch.setitem(sys.modules, "twixtools", None)
    with pytest.raises(UsageError, match=r"mrirecon\[twix\]"):
        open_twix(path)


def test_corrections_that_are_not_made_are_said(twix):
    lines = [twix.line(n, bits=[RAWDATACORRECTION]) for n in range(8)]
    notes = open_twix(twix.file(twix.measurement(lines))).notes
    assert any("8 imaging readouts" in note and "RAWDATACORRECTION" in note for note in notes)


class TestDamage:
    def test_lines_missing_at_the_end_are_an_error_and_a_missing_end_mark_is_not(self, twix):
        lines = [twix.line(n) for n in range(8)]
        whole = twix.file(twix.measurement(lines, end=False))
        assert any("no end mark" in note for note in open_twix(whole).notes)
        with pytest.raises(InputError, match="after 7 whole readouts"):
            open_twix(twix.file(twix.measurement(lines[:7], end=False)))

    def test_a_slice_missing_at_the_end_is_an_error(self, twix):
        lines = [twix.line(n, Sli=s) for s in range(2) for n in range(8)]
        with pytest.raises(InputError, match="after 16 whole readouts"):
            open_twix(twix.file(twix.measurement(lines, {"sSliceArray.lSize": "3"}, end=False)))

    def test_imaging_readouts_of_different_channels_are_an_error(self, twix):
        lines = [twix.line(0), twix.line(7, data=np.ones((3, 16), np.complex64))]
        with pytest.raises(InputError, match=r"different numbers of channels \(2, 3\)"):
            open_twix(twix.file(twix.measurement(lines)))

    @pytest.mark.parametrize("name", ["sKSpace.lBaseResolution", "sKSpace.lPhaseEncodingLines"])
    @pytest.mark.parametrize("value", ["", "60000", "-8", "1e300", "nan", "zz"])
    def test_an_absurd_or_absent_size_is_an_error(self, twix, name, value):
        with pytest.raises(InputError):
            open_twix(twix.file(twix.measurement([twix.line(n) for n in range(8)], {name: value})))

    def test_a_measurement_beyond_the_file_is_an_error(self, twix):
        path = twix.file(twix.measurement([twix.line(7)]))
        stored = bytearray(path.read_bytes())
        stored[16:24] = (1 << 62).to_bytes(8, "little")
        path.write_bytes(stored)
        with pytest.raises(InputError, match="does not fit into the file"):
            open_twix(path)

    @pytest.mark.parametrize("place", [{"quaternion": (np.nan, 0, 0, 0)}, {"position": (0, np.inf, 0)}])
    def test_a_place_that_is_no_number_is_an_error(self, twix, place):
        with pytest.raises(InputError, match="not finite"):
            open_twix(twix.file(twix.measurement([twix.line(7, **place)])))

    def test_a_file_without_readouts_is_an_error(self, twix):
        with pytest.raises(InputError, match="no readouts"):
            open_twix(twix.file(twix.measurement([])))
