"""Damaged Siemens twix files: an InputError, or readouts whose samples are read or refused; never anything else."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mrirecon.acquisition.twix import open_twix
from mrirecon.errors import InputError


@pytest.fixture(params=["VB", "VD"])
def whole(twix, request) -> bytes:
    """A small file: noise and imaging, in two measurements where the format has several."""
    noise = [twix.line(0, bits=[25], data=np.ones((2, 8), np.complex64))]
    lines = [twix.line(n, data=np.ones((2, 16), np.complex64), bits=[11] if n == 7 else []) for n in range(8)]
    if request.param == "VB":
        return twix.vb_file(twix.measurement(noise + lines, vb=True)).read_bytes()
    return twix.file(twix.measurement(noise), twix.measurement(lines)).read_bytes()


def opened(path: Path, stored: bytes) -> bool:
    """Whether a file with these bytes opens; all of its readouts are then read."""
    path.write_bytes(stored)
    try:
        readouts = open_twix(path)
        for row in range(len(readouts.heads)):
            readouts.read([row])
    except InputError:
        return False
    return True


@pytest.mark.slow
@pytest.mark.smoke
def test_a_file_cut_short_is_refused_unless_only_its_end_mark_is_lost(twix, whole, tmp_path):
    path = tmp_path / "cut.dat"
    last_line = whole.rindex(np.ones(16, "<c8").tobytes()) + 16 * 8
    step = max(1, last_line // 100)
    assert not any(opened(path, whole[:end]) for end in range(8, last_line, step))
    assert not opened(path, whole[: last_line - 1])
    assert all(opened(path, whole[:end]) for end in range(last_line, len(whole), 16))


#: (position as a share of what is not the filling between the table of measurements and the first of them, byte).
changes = st.tuples(st.floats(0, 1, exclude_max=True), st.sampled_from([0, 1, 0x20, 0x7F, 0x80, 0xFF]))


@pytest.mark.slow
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changed=st.lists(changes, min_size=1, max_size=8))
def test_changed_bytes_are_refused_or_read_and_take_little_memory(whole, tmp_path, changed):
    stored = bytearray(whole)
    filling = range(320, 10240) if whole[:4] == bytes(4) else range(0)
    for share, byte in changed:
        at = int(share * (len(stored) - len(filling)))
        stored[at if at < 320 else at + len(filling)] = byte
    tracemalloc.start()
    try:
        opened(tmp_path / "changed.dat", bytes(stored))
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.slow
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(head=st.binary(min_size=8, max_size=300), count=st.integers(1, 64))
def test_noise_behind_a_plausible_beginning_is_refused(tmp_path, head, count):
    assert not opened(tmp_path / "noise.dat", b"\0\0\0\0" + count.to_bytes(4, "little") + head * 64)
    assert not opened(tmp_path / "noise.dat", b"\x00\x40\0\0\x06\0\0\0Config\0" + head * 64)
