"""Every sample of every readout comes to its place on the grid, exactly."""

import pickle
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mrirecon.acquisition.readouts import Flag, Limits, Readouts
from mrirecon.acquisition.scan import Scan
from mrirecon.conditioning.options import Conditioning
from mrirecon.conditioning.sorting import sort_readouts
from mrirecon.errors import InputError

Make = Callable[..., Any]


def sort_one(readouts: Readouts, *skip: Any) -> Scan:
    (scan,) = sort_readouts(readouts, Conditioning(skip=skip))
    return scan


def read_all(scan: Scan) -> np.ndarray:
    return np.stack([scan.kspace(index) for index in range(scan.slices)])


def with_heads(readouts: Readouts, **fields: Any) -> Readouts:
    heads = readouts.heads.copy()
    for name, value in fields.items():
        heads[name] = value
    return replace(readouts, heads=heads)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_order_size_and_missing_line_gives_the_same_kspace(
    make_readouts: Make, random_kspace: Make, join: Make, data: st.DataObject
) -> None:
    depth, height, width = (data.draw(st.integers(1, most)) for most in (4, 7, 8))
    partitions = data.draw(st.booleans()) and depth > 1
    kspace = random_kspace(depth, 2, height, width)
    rows = sorted(data.draw(st.sets(st.integers(0, height - 1), min_size=1)))
    averages = data.draw(st.integers(1, 3))
    parts, sums = [], np.zeros((depth, 2, height, width), np.complex128)
    counts = np.zeros(height)
    for average in range(averages):
        own = rows if average == 0 else [row for row in rows if data.draw(st.booleans())]
        offset = np.complex64(average)
        parts.append(make_readouts(kspace + offset, partitions=partitions, rows=own, average=average) if own else None)
        sums[:, :, own] += kspace[:, :, own] + offset
        counts[own] += 1
    parts = [part for part in parts if part is not None]
    total = sum(len(part.heads) for part in parts)
    readouts = join(*parts, order=data.draw(st.permutations(range(total))))
    scan = sort_one(readouts)
    expected = sums / np.maximum(counts, 1)[:, None]
    np.testing.assert_allclose(read_all(scan), expected, rtol=1e-6)
    if averages == 1:
        assert np.array_equal(read_all(scan), expected.astype(np.complex64))
    assert scan.averages == pytest.approx(1 / (1 / counts[rows]).mean())
    assert scan.stack == ("partitions" if partitions else "slices")


@pytest.mark.parametrize("width", [8, 9])
@pytest.mark.parametrize("echo", [0, 1, 3])
@pytest.mark.parametrize("reverse", [(), (0, 3), range(6)])
def test_readouts_are_cut_reversed_and_centred(
    make_readouts: Make, random_kspace: Make, width: int, echo: int, reverse: Any
) -> None:
    kspace = random_kspace(1, 3, 6, width)
    readouts = make_readouts(kspace, echo=echo, discard=(2, 5), reverse=reverse)
    scan = sort_one(readouts)
    kspace[..., :echo] = 0
    assert np.array_equal(read_all(scan), kspace)
    assert scan.header.acquired == ((0, 6), (echo, width))


def test_skipping_readout_ends_leaves_readouts_as_stored_in_the_middle(
    make_readouts: Make, random_kspace: Make
) -> None:
    kspace = random_kspace(1, 2, 6, 8)
    scan = sort_one(make_readouts(kspace, reverse=range(6), echo=2), "readout-ends")
    assert np.array_equal(read_all(scan)[..., 1:7], kspace[..., :1:-1])
    assert {step.name: step.done for step in scan.steps}["readout-ends"].startswith("skipped as asked")


@pytest.mark.parametrize("height", [6, 7])
@pytest.mark.parametrize("partitions", [False, True])
def test_lines_are_counted_from_the_centre_of_the_limits(
    make_readouts: Make, random_kspace: Make, height: int, partitions: bool
) -> None:
    kspace = random_kspace(5, 2, height, 4)
    rows = range(2, height)  # partial Fourier: the counters start at the first line that is measured
    limits = {"step1": Limits(0, height - 3, height // 2 - 2)}
    readouts = make_readouts(
        kspace, partitions=partitions, rows=rows, step1_centre=height // 2 - 2, step2_centre=9, encoding=limits
    )
    scan = sort_one(readouts)
    kspace[:, :, :2] = 0
    assert np.array_equal(read_all(scan), kspace)
    assert scan.header.acquired == ((2, height), (0, 4))


def test_skipping_centring_takes_the_counter_as_the_row(make_readouts: Make, random_kspace: Make) -> None:
    kspace = random_kspace(1, 2, 6, 4)
    scan = sort_one(make_readouts(kspace, rows=range(2, 6), step1_centre=1), "centring")
    assert np.array_equal(read_all(scan)[:, :, :4], kspace[:, :, 2:])
    assert not read_all(scan)[:, :, 4:].any()
    assert scan.header.acquired == ((0, 4), (0, 4))


def test_without_limits_the_middle_is_assumed_and_said(make_readouts: Make, random_kspace: Make) -> None:
    kspace = random_kspace(1, 2, 6, 4)
    scan = sort_one(make_readouts(kspace, encoding={"step1": None}))
    assert np.array_equal(read_all(scan), kspace)
    assert any("no limits of phase encode 1" in note for note in scan.notes)
    assert scan.header.acquired == ((0, 6), (0, 4))


def test_lines_that_contradict_the_limits_win_over_them(make_readouts: Make, random_kspace: Make) -> None:
    scan = sort_one(make_readouts(random_kspace(1, 2, 6, 4), encoding={"step1": Limits(2, 4, 3)}))
    assert scan.header.acquired == ((0, 6), (0, 4))


def test_lines_outside_the_grid_are_refused(make_readouts: Make, random_kspace: Make) -> None:
    readouts = make_readouts(random_kspace(1, 2, 6, 4), encoding={"step1": Limits(0, 5, 0)})
    with pytest.raises(InputError, match=r"line 3 of phase encode 1 falls on row 6 of a grid of 6.*centring"):
        sort_one(readouts)
    assert sort_one(readouts, "centring").shape == (1, 2, 6, 4)
    flat = make_readouts(random_kspace(3, 2, 6, 4), partitions=True, encoding={"encoded_matrix": (4, 6, 1)})
    with pytest.raises(InputError, match="phase encode 2"):
        sort_one(flat)


def test_readouts_that_do_not_fit_the_grid_are_refused(make_readouts: Make, random_kspace: Make) -> None:
    readouts = make_readouts(random_kspace(1, 2, 6, 8), encoding={"encoded_matrix": (4, 6, 1)})
    with pytest.raises(InputError, match=r"8 samples, more than the 4 columns.*encoded matrix"):
        sort_one(readouts)
    with pytest.raises(InputError, match="8 samples"):
        sort_one(readouts, "readout-ends")
    with pytest.raises(InputError, match="discard_pre"):
        sort_one(with_heads(make_readouts(random_kspace(1, 2, 6, 8)), discard_pre=5, discard_post=3))
    with pytest.raises(InputError, match="center_sample"):
        sort_one(with_heads(make_readouts(random_kspace(1, 2, 6, 8), echo=1), centre=0))


def test_a_readout_that_fills_the_grid_is_taken_so_whatever_its_centre(
    make_readouts: Make, random_kspace: Make
) -> None:
    kspace = random_kspace(1, 2, 6, 8)
    scan = sort_one(with_heads(make_readouts(kspace), centre=0))
    assert np.array_equal(read_all(scan), kspace)
    assert any("6 readouts fill the grid" in note for note in scan.notes)


def test_lines_that_are_there_twice_are_averaged_and_counted(
    make_readouts: Make, random_kspace: Make, join: Make
) -> None:
    kspace = random_kspace(1, 2, 6, 8)
    scan = sort_one(join(make_readouts(kspace), make_readouts(kspace + 2, rows=[1, 4])))
    kspace[:, :, [1, 4]] += 1
    np.testing.assert_allclose(read_all(scan), kspace, rtol=1e-6)
    assert any(note.startswith("2 readouts repeat a line") for note in scan.notes)


def test_averages_of_different_echoes_are_averaged_where_both_measured(
    make_readouts: Make, random_kspace: Make, join: Make
) -> None:
    kspace = random_kspace(1, 2, 6, 8)
    scan = sort_one(join(make_readouts(kspace), make_readouts(kspace + 2, echo=3, average=1)))
    kspace[..., 3:] += 1
    np.testing.assert_allclose(read_all(scan), kspace, rtol=1e-6)
    assert not scan.notes
    assert scan.averages == 2


def test_a_scan_reads_only_the_rows_of_the_slice_and_survives_pickling(
    make_readouts: Make, random_kspace: Make
) -> None:
    kspace = random_kspace(3, 2, 6, 8)
    readouts = make_readouts(kspace)
    asked: list[list[int]] = []

    def read(rows: list[int]) -> list[np.ndarray]:
        asked.append(list(rows))
        return readouts.read(rows)

    watched = sort_one(replace(readouts, read=read))
    assert not asked
    watched.kspace(1)
    assert asked == [list(range(6, 12))]
    scan = pickle.loads(pickle.dumps(sort_one(readouts)))
    assert np.array_equal(read_all(scan), kspace)


def test_samples_that_contradict_their_heads_are_an_error_that_names_the_slice(
    make_readouts: Make, random_kspace: Make
) -> None:
    readouts = make_readouts(random_kspace(2, 2, 6, 8))
    scan = sort_one(replace(readouts, read=lambda rows: [np.ones((2, 5), np.complex64) for _ in rows]))
    with pytest.raises(InputError, match="slice 1 cannot be read"):
        scan.kspace(1)


def test_a_reversed_readout_counts_its_centre_as_it_is_stored(make_readouts: Make, random_kspace: Make) -> None:
    kspace = random_kspace(1, 1, 2, 8)
    readouts = make_readouts(kspace, reverse=[0], echo=2)
    assert (readouts.heads["flags"] & np.uint64(Flag.REVERSE)).astype(bool).tolist() == [True, False]
    assert readouts.heads["centre"].tolist() == [3, 2]
    assert np.array_equal(read_all(sort_one(readouts))[..., 2:], kspace[..., 2:])


def test_calibration_lines_that_are_no_numbers_are_refused(
    make_readouts: Make, random_kspace: Make, join: Make
) -> None:
    lines = random_kspace(1, 2, 8, 6)
    lines[0, 1, 4, 2] = np.nan
    imaging = make_readouts(random_kspace(1, 2, 8, 6), rows=range(0, 8, 2), encoding={"calibration": "separate"})
    scan = sort_one(join(imaging, make_readouts(lines, rows=[3, 4, 5], flags=Flag.CALIBRATION)))
    scan.kspace(0)
    assert scan.read_calibration is not None
    with pytest.raises(InputError, match="NaN or infinite"):
        scan.read_calibration(0)
