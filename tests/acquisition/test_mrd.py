"""MRD v1 files in HDF5, written by the ismrmrd package and by the C++ library's generator."""

import pickle
import re
import shutil
import subprocess
from pathlib import Path

import h5py
import ismrmrd
import numpy as np
import pytest

from mrirecon.acquisition import mrd
from mrirecon.acquisition.mrd import mrd_groups, open_mrd
from mrirecon.acquisition.mrd_header import parse_header
from mrirecon.acquisition.readouts import Encoding, Flag, Limits
from mrirecon.errors import InputError, UsageError

GENERATOR = "ismrmrd_generate_cartesian_shepp_logan"


@pytest.fixture
def k() -> np.ndarray:
    """K-space (slices 3, coils 2, kz 1, ky 6, kx 8) of noise."""
    rng = np.random.default_rng(0)
    return (rng.normal(size=(3, 2, 1, 6, 8)) + 1j * rng.normal(size=(3, 2, 1, 6, 8))).astype(np.complex64)


def noise(coils: int = 2) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(4, coils, 16)).astype(np.complex64)


def stored(path: Path, group: str = "dataset") -> list[ismrmrd.Acquisition]:
    with ismrmrd.Dataset(str(path), group, mode="r") as dataset:
        return [dataset.read_acquisition(n) for n in range(dataset.number_of_acquisitions())]


def test_samples_are_those_that_were_written_in_whatever_order_they_are_read(write_mrd, k, monkeypatch):
    path = write_mrd(k, noise=noise())
    readouts = open_mrd(path)
    truth = [a.data for a in stored(path)]
    assert len(readouts.heads) == len(truth) == 4 + 18
    for block in (64 << 20, 300):
        monkeypatch.setattr(mrd, "BLOCK", block)
        for rows in (range(22), [3, 4, 7, 21], range(21, 22), []):
            read = readouts.read(rows)
            assert [r.dtype for r in read] == [np.complex64] * len(rows)
            assert all(np.array_equal(r, truth[n]) for r, n in zip(read, rows, strict=True))


def test_heads_are_those_that_were_written(write_mrd, k, mrd_readout):
    flags = [ismrmrd.ACQ_IS_REVERSE, ismrmrd.ACQ_COMPRESSION4, ismrmrd.ACQ_LAST_IN_MEASUREMENT]
    counters = {"average": 1, "contrast": 2, "phase": 3, "repetition": 4, "set": 5, "segment": 6, "slice": 7}
    lines = {"kspace_encode_step_1": 5, "kspace_encode_step_2": 9}
    fields = {"center_sample": 3, "discard_pre": 1, "discard_post": 2, "position": (1, -2, 3), "read_dir": (0, 0, -1)}
    head = open_mrd(
        write_mrd([mrd_readout(k[0, :, 0, 0], flags=flags, **counters, **lines, **fields)], matrix=(8, 6, 1))
    )
    (head,) = head.heads
    assert head["flags"] == Flag.REVERSE | 1 << 55 | 1 << 24
    assert head["flags"] & np.uint64(Flag.COMPRESSED)
    assert {name: head[name] for name in counters} == counters
    assert (head["step1"], head["step2"], head["coils"], head["samples"]) == (5, 9, 2, 8)
    assert (head["centre"], head["discard_pre"], head["discard_post"], head["sample_time_us"]) == (3, 1, 2, 5)
    assert head["position"].tolist() == [1, -2, 3]
    assert head["read_dir"].tolist() == [0, 0, -1]
    assert head["slice_dir"].tolist() == [0, 0, 1]


@pytest.mark.skipif(not shutil.which(GENERATOR), reason="the C++ tools of ISMRMRD are absent")
def test_a_file_of_the_cpp_library_reads_as_the_python_package_reads_it(tmp_path):
    path = tmp_path / "generated.h5"
    command = [GENERATOR, "-m", "16", "-c", "3", "-r", "2", "-C", "-k", "-o", str(path)]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    readouts = open_mrd(path)
    assert readouts.encodings[0].encoded_matrix == (32, 16, 1)
    assert readouts.encodings[0].step1 == Limits(0, 15, 8)
    assert readouts.flagged(Flag.NOISE).sum() == 1
    for read, truth in zip(readouts.read(range(33)), stored(path), strict=True):
        assert np.array_equal(read, truth.data)


def test_a_reader_crosses_process_borders(write_mrd, k):
    readouts = pickle.loads(pickle.dumps(open_mrd(write_mrd(k))))
    assert np.array_equal(readouts.read([8])[0], k[1, :, 0, 2])


def test_a_file_is_opened_without_the_right_to_write_and_never_created(write_mrd, k, tmp_path):
    path = write_mrd(k)
    path.chmod(0o444)
    tmp_path.chmod(0o555)
    try:
        before = path.read_bytes()
        open_mrd(path).read([0])
    finally:
        tmp_path.chmod(0o755)
    assert path.read_bytes() == before
    with pytest.raises(InputError):
        open_mrd(tmp_path / "typo.h5")
    assert not (tmp_path / "typo.h5").exists()


# Several measurements in a file


def test_the_last_group_with_imaging_is_read_unless_another_is_chosen(write_mrd, k):
    for number in (1, 2, 10):
        path = write_mrd(number * k, group=f"dataset_{number}")
    write_mrd([], group="dataset_11", matrix=(8, 6, 1))
    with h5py.File(path, "a") as file:
        file.create_dataset("dataset_11/data", data=file["dataset_1/data"][:0])
        assert mrd_groups(file) == ["dataset_1", "dataset_2", "dataset_10", "dataset_11"]
    readouts = open_mrd(path)
    assert readouts.group == "dataset_10"
    assert np.array_equal(readouts.read([0])[0], 10 * k[0, :, 0, 0])
    assert "dataset_1, dataset_2, dataset_10" in " ".join(readouts.notes)
    assert np.array_equal(open_mrd(path, "dataset_2").read([0])[0], 2 * k[0, :, 0, 0])
    with pytest.raises(UsageError, match="dataset_1, dataset_2"):
        open_mrd(path, "dataset_3")
    with pytest.raises(InputError, match="holds no readouts"):
        open_mrd(path, "dataset_11")


def test_a_nested_group_is_found_and_a_single_one_needs_no_name(write_mrd, k):
    path = write_mrd(k, group="subject/dataset")
    readouts = open_mrd(path)
    assert readouts.group is None
    assert np.array_equal(readouts.read([0])[0], k[0, :, 0, 0])
    assert len(open_mrd(path, "/subject/dataset").heads) == 18


def test_the_noise_of_an_earlier_group_with_the_same_coils_comes_first(write_mrd, k):
    write_mrd([], noise=noise(), group="dataset", matrix=(16, 1, 1))
    path = write_mrd(k, group="dataset_1")
    readouts = open_mrd(path)
    assert readouts.group == "dataset_1"
    assert readouts.flagged(Flag.NOISE).tolist() == [True] * 4 + [False] * 18
    read = readouts.read([1, 3, 4, 5])
    assert np.array_equal(read[:2], noise()[[1, 3]])
    assert np.array_equal(read[2:], k[0, :, 0, :2].swapaxes(0, 1))
    assert "The noise readouts are those of group 'dataset'." in readouts.notes
    assert open_mrd(path, "dataset").flagged(Flag.NOISE).all()


def test_the_noise_of_other_coils_is_left_aside(write_mrd, mrd_header, k):
    def labelled(name: str) -> str:
        label = f"<coilLabel><coilNumber>0</coilNumber><coilName>{name}</coilName></coilLabel>"
        return mrd_header((8, 6, 1)).replace("</systemFieldStrength_T>", f"</systemFieldStrength_T>{label}")

    write_mrd([], noise=noise(coils=3), group="a", matrix=(16, 1, 1))
    write_mrd([], noise=noise(), group="b", header=labelled("Head"))
    readouts = open_mrd(write_mrd(k, group="c", header=labelled("Spine")))
    assert len(readouts.heads) == 18
    assert not readouts.flagged(Flag.NOISE).any()


def test_groups_of_calibration_alone_are_no_imaging(write_mrd, k):
    write_mrd(k, group="dataset_1", fields={"flags": [ismrmrd.ACQ_IS_PARALLEL_CALIBRATION]})
    path = write_mrd(k, group="dataset_0")
    assert open_mrd(path).group == "dataset_0"


def test_what_is_beside_the_readouts_is_left_aside_with_a_note(write_mrd, k):
    path = write_mrd(k)
    with ismrmrd.Dataset(str(path)) as dataset:
        dataset.append_waveform(ismrmrd.Waveform.from_array(np.ones((2, 5), dtype=np.uint32)))
        dataset.append_image("image_0", ismrmrd.Image.from_array(np.ones((4, 4), dtype=np.float32), transpose=False))
        dataset.append_array("phantom", np.ones((4, 4), dtype=np.complex64))
    assert open_mrd(path).notes == ("Waveforms are ignored.",)


def test_images_are_refused_as_no_raw_data(tmp_path):
    path = tmp_path / "images.h5"
    with ismrmrd.Dataset(str(path)) as dataset:
        dataset.append_image("image_0", ismrmrd.Image.from_array(np.ones((4, 4), dtype=np.float32), transpose=False))
    with pytest.raises(InputError, match="images cannot be reconstructed"):
        open_mrd(path)


@pytest.mark.parametrize("group", ["", "scan"])
def test_other_hdf5_files_hold_no_measurement(tmp_path, group):
    with h5py.File(tmp_path / "other.h5", "w") as file:
        parent = file.create_group(group) if group else file
        parent["data"], parent["header"] = np.ones(4), np.ones(4)
        parent["sub/data"], parent["sub/header"] = np.ones((2, 2)), np.ones(3)
        file["broken"] = h5py.SoftLink("/nowhere")
        assert mrd_groups(file) == []


# The header


def test_the_header_tells_encodings_and_system(mrd_header):
    extra = """<encoding><encodedSpace><matrixSize><x>32</x><y>24</y><z>1</z></matrixSize></encodedSpace>
        <encodingLimits/><trajectory>epi</trajectory></encoding>"""
    xml = mrd_header(
        (512, 200, 3),
        fov=(500, 250, 90.5),
        oversampling=2,
        limits={"kspace_encoding_step_1": (4, 199, 100), "slice": (0, 8, 4)},
        vendor="SIEMENS  ",
        model="Prisma",
        bandwidth=0.793,
        calibration="separate",
        acceleration=(2, 3),
        multiband=4,
        patient_position="FFP",
        sequence="<TR>9000</TR><TE>81</TE><TE>92.5</TE><TI>2500</TI><flipAngle_deg>150</flipAngle_deg>",
        extra_encodings=extra,
    )
    (first, second), system = parse_header(xml.encode())
    assert first == Encoding(
        trajectory="cartesian",
        encoded_matrix=(512, 200, 3),
        encoded_fov_mm=(500, 250, 90.5),
        recon_matrix=(256, 200, 3),
        recon_fov_mm=(250, 250, 90.5),
        step1=Limits(4, 199, 100),
        step2=None,
        acceleration=(2, 3),
        calibration="separate",
        multiband=4,
    )
    assert second == Encoding("epi", (32, 24, 1), None, None, None)
    assert (system.vendor, system.model, system.patient_position) == ("SIEMENS", "Prisma", "FFP")
    assert (system.field_strength_t, system.bandwidth, system.frequency_hz) == (3.0, 0.793, 123250000)
    assert (system.tr_ms, system.te_ms, system.ti_ms, system.flip_angle_deg) == (9000, (81, 92.5), 2500, 150)


def test_namespaces_are_optional_and_a_bare_header_leaves_facts_unknown(mrd_header):
    xml = mrd_header((8, 6, 1))
    plain = xml.replace(' xmlns="http://www.ismrm.org/ISMRMRD"', "")
    prefixed = xml.replace("xmlns=", "xmlns:m=").replace("</", "\0").replace("<", "<m:").replace("\0", "</m:")
    prefixed = prefixed.replace("<m:?xml", "<?xml")
    assert parse_header(plain.encode()) == parse_header(prefixed.encode() + b"\0\0") == parse_header(xml.encode())
    bare = "<h><encoding><encodedSpace><matrixSize><x>8</x><y>6</y><z>1</z></matrixSize></encodedSpace></encoding></h>"
    (encoding,), system = parse_header(bare.encode())
    assert encoding == Encoding("unknown", (8, 6, 1), None, None, None)
    assert (system.vendor, system.field_strength_t, system.te_ms, system.patient_position) == (None, None, (), None)


def test_nobody_is_named(write_mrd, k, mrd_header):
    xml = mrd_header((8, 6, 1)).encode().replace(b"Secret^Person", "Müller".encode("latin-1"))
    assert parse_header(xml)[0][0].encoded_matrix == (8, 6, 1)
    readouts = open_mrd(write_mrd(k))
    assert b"Secret" not in pickle.dumps(readouts)
    assert b"4711" not in pickle.dumps(readouts)


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        ("<x>8</x>", "<x>0</x>", "encodedSpace/matrixSize"),
        ("<x>8</x>", "<x>-8</x>", "encodedSpace/matrixSize"),
        ("<x>8</x>", "<x>65537</x>", "encodedSpace/matrixSize"),
        ("<x>8</x>", "<x>1e400</x>", "encodedSpace/matrixSize"),
        ("<x>8</x>", "<x>nan</x>", "encodedSpace/matrixSize"),
        ("<x>8</x>", "<x>eight</x>", "encodedSpace/matrixSize"),
        ("<x>8</x>", "<x>8.5</x>", "encodedSpace/matrixSize"),
        ("<x>8</x>", "", "encodedSpace/matrixSize"),
        ("<reconSpace><matrixSize><x>8</x>", "<reconSpace><matrixSize><x>-1</x>", "reconSpace/matrixSize"),
        ("<minimum>0</minimum><maximum>5</maximum>", "<minimum>6</minimum><maximum>5</maximum>", "step_1"),
        ("<center>3</center>", "<center>-3</center>", "kspace_encoding_step_1"),
        ("<center>3</center>", "<center>nan</center>", "kspace_encoding_step_1"),
        ("<multiband_factor>2</multiband_factor>", "", "multiband"),
        ("<multiband_factor>2</multiband_factor>", "<multiband_factor>0</multiband_factor>", "multiband"),
        ("encoding>", "encodings>", "encoding is missing"),
        ("</encoding>", "", "the header"),
        ('<?xml version="1.0"?>', '<!DOCTYPE x [<!ENTITY a "aaaa">]>', "the header"),
    ],
)
def test_absurd_headers_are_refused_by_the_fields_name(write_mrd, mrd_header, k, old, new, field):
    xml = mrd_header((8, 6, 1), multiband=2)
    assert old in xml
    count = 1 if new.startswith("<x>") else -1
    path = write_mrd(k, header=xml.replace(old, new, count))
    with pytest.raises(InputError, match=field):
        open_mrd(path)


@pytest.mark.parametrize("value", ["0", "-3", "nan", "inf", "", "many", "1" * 5000])
def test_absurd_facts_are_unknown(mrd_header, value):
    xml = mrd_header((8, 6, 1), fov=(2, 2, 2), field=value, bandwidth=value, vendor="", sequence=f"<TR>{value}</TR>")
    xml = re.sub("<fieldOfView_mm><x>[^<]*<", f"<fieldOfView_mm><x>{value}<", xml)
    (encoding,), system = parse_header(xml.encode())
    assert (encoding.encoded_fov_mm, encoding.recon_fov_mm) == (None, None)
    assert (system.field_strength_t, system.bandwidth, system.tr_ms, system.vendor) == (None, None, None, None)


# Damaged files


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        (("head", "number_of_samples"), 60000, "need .* bytes"),
        (("head", "number_of_samples"), 7, "readout 2 holds 16 samples"),
        (("head", "active_channels"), 1, "readout 2 holds 16 samples"),
        (("head", "encoding_space_ref"), 1, "of encoding 1"),
    ],
)
def test_heads_that_contradict_the_file_are_refused(write_mrd, k, field, value, message):
    path = write_mrd(k)
    with h5py.File(path, "a") as file:
        rows = file["dataset/data"][:]
        rows[field[0]][field[1]][2] = value
        file["dataset/data"][:] = rows
    with pytest.raises(InputError, match=message):
        open_mrd(path).read([1, 2])


def test_positions_that_are_no_numbers_become_unknown_with_a_note(write_mrd, k):
    def edit(acquisition, slice_number, kz, ky):
        if slice_number == 1:
            acquisition.position = (float("nan"), 1, 2)
            acquisition.sample_time_us = float("inf")

    readouts = open_mrd(write_mrd(k, edit=edit))
    assert np.isnan(readouts.heads["position"][6:12]).all()
    assert readouts.heads["position"][0].tolist() == [0, 0, 0]
    assert readouts.heads["position"][12].tolist() == [0, 0, 10]
    assert readouts.heads["sample_time_us"][[0, 6]].tolist() == [5, 0]
    assert len(readouts.notes) == 2


def test_links_to_nowhere_beside_the_measurement_are_left_alone(write_mrd, k):
    path = write_mrd(k)
    with h5py.File(path, "a") as file:
        file["absent"], file["loop"] = h5py.SoftLink("/nowhere"), h5py.SoftLink("/loop")
        file["elsewhere"] = h5py.ExternalLink("absent.h5", "/")
    assert len(open_mrd(path).heads) == len(open_mrd(write_mrd(k, path=path.with_name("plain.h5"))).heads)


def _vlen(kind: type) -> np.dtype:
    return h5py.vlen_dtype(np.dtype(kind))


@pytest.mark.parametrize(
    "dtype",
    [
        np.dtype("f4"),
        np.dtype([("real", "f4"), ("imag", "f4")]),
        np.dtype([("head", "u2"), ("data", _vlen(np.float32))]),
        np.dtype([("head", [("flags", "u8")]), ("data", _vlen(np.float32))]),
        np.dtype([("head", [("flags", "S8")]), ("data", _vlen(np.int16))]),
        np.dtype([("head", [("flags", "u8")]), ("data", "f4")]),
        np.dtype([("head", "u8", (10**6,)), ("data", _vlen(np.float32))]),
    ],
)
def test_data_that_are_no_readouts_are_refused(tmp_path, mrd_header, dtype):
    path = tmp_path / "wrong.h5"
    with h5py.File(path, "w") as file:
        file["dataset/xml"] = [mrd_header((8, 6, 1))]
        file.create_dataset("dataset/data", (3,), dtype=dtype)
    with pytest.raises(InputError):
        open_mrd(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("rows", "do not fit"),
        ("chunk", "do not fit"),
        ("two axes", "not a list"),
        ("no header", "no XML"),
        ("headers", "no XML"),
        ("header of numbers", "no XML"),
    ],
)
def test_structures_that_no_writer_makes_are_refused_before_memory_is_taken(write_mrd, k, change, message):
    path = write_mrd(k)
    with h5py.File(path, "a") as file:
        group = file["dataset"]
        if change in ("rows", "chunk"):
            shape, chunk = ((1 << 40,), (16,)) if change == "rows" else ((4,), (1 << 20,))
            dtype = group["data"].dtype
            del group["data"]
            group.create_dataset("data", shape, maxshape=(None,), chunks=chunk, dtype=dtype)
        elif change == "two axes":
            rows = group["data"][:]
            del group["data"]
            group.create_dataset("data", data=rows.reshape(3, 6))
        else:
            del group["xml"]
            if change != "no header":
                group.create_dataset("xml", (1 << 40,), maxshape=(None,), dtype="u1" if "numbers" in change else "S10")
    with pytest.raises(InputError, match=message):
        open_mrd(path)
