"""MRD v1 streams in files, written by the ismrmrd package's serializer."""

import io
import pickle
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import ismrmrd
import numpy as np
import pytest

from mrirecon.acquisition.magic import is_mrd_stream
from mrirecon.acquisition.mrd import open_mrd
from mrirecon.acquisition.mrd_stream import open_mrd_stream
from mrirecon.acquisition.readouts import Limits
from mrirecon.errors import InputError


@pytest.fixture
def k() -> np.ndarray:
    """K-space (slices 3, coils 2, kz 1, ky 6, kx 8) of noise."""
    rng = np.random.default_rng(0)
    return (rng.normal(size=(3, 2, 1, 6, 8)) + 1j * rng.normal(size=(3, 2, 1, 6, 8))).astype(np.complex64)


@pytest.fixture
def stream(tmp_path, mrd_header) -> Callable[..., Path]:
    """Writes the items as messages, by default after a header; `edit` changes the bytes."""

    def write(*items, header: bool = True, edit: Callable[[bytes], bytes] = bytes) -> Path:
        target = io.BytesIO()
        with ismrmrd.ProtocolSerializer(target) as serializer:
            if header:
                serializer.serialize(ismrmrd.xsd.CreateFromDocument(mrd_header((8, 6, 1))))
            for item in items:
                serializer.serialize(item)
        path = tmp_path / "scan.mrd"
        path.write_bytes(edit(target.getvalue()))
        return path

    return write


def test_a_stream_holds_what_was_written_in_whatever_order_it_is_read(write_mrd, k):
    noise = k[0, :, 0].swapaxes(0, 1)
    path = write_mrd(k, noise=noise, stream=True)
    readouts = open_mrd_stream(path)
    lines = [*noise, *k[:, :, 0].swapaxes(1, 2).reshape(18, 2, 8)]
    for rows in (range(24), [2, 5, 6, 23], []):
        for read, row in zip(readouts.read(rows), rows, strict=True):
            assert read.dtype == np.complex64
            assert np.array_equal(read, lines[row])
    assert readouts.encodings[0].step1 == Limits(0, 5, 3)
    assert readouts.notes == ()
    assert is_mrd_stream(path.read_bytes()[:4096])


def test_a_stream_and_an_hdf5_file_of_the_same_scan_are_the_same(write_mrd, k):
    options = {"vendor": "GE", "bandwidth": 0.8, "positions": [(1, 2, 3), (1, 2, 8), (1, 2, 13)]}
    stream, file = open_mrd_stream(write_mrd(k, stream=True, **options)), open_mrd(write_mrd(k, **options))
    assert (stream.heads == file.heads).all()
    assert (stream.encodings, stream.system) == (file.encodings, file.system)
    assert np.array_equal(stream.read(range(18)), file.read(range(18)))
    again = pickle.loads(pickle.dumps(stream))
    assert np.array_equal(again.read([5])[0], k[0, :, 0, 5])


def test_trajectories_of_readouts_are_stepped_over(stream, k):
    trajectory = np.ones((8, 3), dtype=np.float32)
    readouts = open_mrd_stream(stream(*[ismrmrd.Acquisition.from_array(line, trajectory) for line in k[:, :, 0, 0]]))
    assert np.array_equal(readouts.read([1])[0], k[1, :, 0, 0])


def test_all_other_messages_are_stepped_over_with_notes(stream, mrd_readout, k):
    image = ismrmrd.Image.from_array(np.ones((2, 3, 4, 5), dtype=np.complex64), transpose=False)
    image.attribute_string = "<ismrmrdMeta/>"
    path = stream(
        ismrmrd.serialization.ConfigFile("default.xml"),
        ismrmrd.serialization.ConfigText('{"a": 1}'),
        "DBG starting",
        mrd_readout(k[0, :, 0, 0]),
        image,
        ismrmrd.Image.from_array(np.ones((4, 4), dtype=np.uint16), transpose=False),
        ismrmrd.Waveform.from_array(np.ones((2, 5), dtype=np.uint32)),
        np.ones((3, 4), dtype=np.float64),
        mrd_readout(k[1, :, 0, 0]),
    )
    readouts = open_mrd_stream(path)
    assert np.array_equal(readouts.read([0, 1]), k[:2, :, 0, 0])
    assert readouts.notes == ("Images in the stream are ignored.", "Waveforms are ignored.")


def test_texts_of_other_clients_end_in_nul(stream, mrd_header, mrd_readout, k):
    xml = mrd_header((8, 6, 1)).encode() + b"\0"
    header = struct.pack("<HI", 3, len(xml)) + xml
    path = stream(mrd_readout(k[0, :, 0, 0]), header=False, edit=lambda data: header + data)
    assert open_mrd_stream(path).encodings[0].encoded_matrix == (8, 6, 1)


def test_a_missing_close_and_bytes_after_it_are_noted(stream, mrd_readout, k):
    readout = mrd_readout(k[0, :, 0, 0])
    (note,) = open_mrd_stream(stream(readout, edit=lambda data: data[:-2])).notes
    assert "no closing message" in note
    (note,) = open_mrd_stream(stream(readout, edit=lambda data: data + b"abc")).notes
    assert "3 bytes after" in note


def test_a_stream_of_images_or_of_nothing_is_refused(stream):
    image = ismrmrd.Image.from_array(np.ones((4, 4), dtype=np.float32), transpose=False)
    with pytest.raises(InputError, match="images cannot be reconstructed"):
        open_mrd_stream(stream(image))
    with pytest.raises(InputError, match="holds no readouts"):
        open_mrd_stream(stream())
    with pytest.raises(InputError, match="no header message"):
        open_mrd_stream(stream(image, header=False))


def test_two_measurements_in_one_stream_are_not_mixed(stream, mrd_header, mrd_readout, k):
    readout, same, other = (
        mrd_readout(k[0, :, 0, 0]),
        ismrmrd.xsd.CreateFromDocument(mrd_header((8, 6, 1))),
        ismrmrd.xsd.CreateFromDocument(mrd_header((8, 7, 1))),
    )
    assert len(open_mrd_stream(stream(readout, same, readout)).heads) == 2
    with pytest.raises(InputError, match="several measurements"):
        open_mrd_stream(stream(readout, other, readout))


def test_a_stream_cut_short_says_after_how_many_readouts(write_mrd, k):
    path = write_mrd(k, stream=True)
    whole = path.read_bytes()
    message = 2 + 340 + 2 * 8 * 8
    with_close = len(whole)
    for lost, left in ((3, 17), (message + 1, 17), (message + 3, 16), (with_close - 40, 0)):
        path.write_bytes(whole[: with_close - lost])
        with pytest.raises(InputError, match=f"after {left} complete readouts"):
            open_mrd_stream(path)
    path.write_bytes(whole)
    readouts = open_mrd_stream(path)
    path.write_bytes(whole[:-100])
    with pytest.raises(InputError, match="samples cannot be read"):
        readouts.read([17])


def test_an_unknown_message_is_named_with_its_place(write_mrd, k):
    path = write_mrd(k, stream=True)
    data = bytearray(path.read_bytes())
    place = len(data) - 2 - (2 + 340 + 128)
    data[place : place + 2] = struct.pack("<H", 1009)
    path.write_bytes(data)
    with pytest.raises(InputError, match=f"byte {place}, after 17 readouts, .* unknown kind 1009"):
        open_mrd_stream(path)


@pytest.mark.parametrize(
    "message",
    [
        struct.pack("<HI", 5, 0xFFFFFFFF),
        struct.pack("<HI", 3, 0xFFFFFFFF),
        struct.pack("<H", 1008) + b"\xff" * 340,
        struct.pack("<HH", 1022, 7) + b"\xff" * 204,
        struct.pack("<HH", 1022, 99) + b"\0" * 204,
        struct.pack("<H", 1026) + b"\xff" * 40,
        struct.pack("<HHHH", 1030, 8, 0, 4) + b"\xff" * 32,
        struct.pack("<HHHH", 1030, 8, 0, 0xFFFF),
    ],
)
def test_absurd_sizes_cost_no_memory(stream, mrd_readout, k, message):
    path = stream(mrd_readout(k[0, :, 0, 0]), edit=lambda data: data[:-2] + message)
    tracemalloc.start()
    with pytest.raises(InputError):
        open_mrd_stream(path)
    assert tracemalloc.get_traced_memory()[1] < 100e6
    tracemalloc.stop()
