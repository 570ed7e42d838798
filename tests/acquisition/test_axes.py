from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrirecon.acquisition.axes import Layout, guessed_axes, named_axes
from mrirecon.errors import InputError, UsageError

FILE = Path("scan.npy")
SIZE = {"slice": 2, "coil": 3, "y": 4, "x": 5}


@given(st.permutations(["slice", "coil", "y", "x"]), st.integers(0, 2))
def test_every_order_of_axes_gives_the_same_scan(order, drop):
    order = [name for name in order if name not in ("slice", "coil")[:drop]]
    full = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    fixed = {name: 0 for name in SIZE if name not in order}
    kept = full[tuple(fixed.get(name, slice(None)) for name in SIZE)]
    array = kept.transpose([[n for n in SIZE if n in order].index(name) for name in order])

    layout = named_axes(",".join(order), array.shape, FILE)

    assert layout.scan_shape(array.shape) == tuple(1 if name in fixed else size for name, size in SIZE.items())
    for index in range(layout.scan_shape(array.shape)[0]):
        expected = full[index, :1] if "coil" in fixed else full[index]
        np.testing.assert_array_equal(layout.arrange(array[layout.select(index)]), expected)


@pytest.mark.parametrize(
    ("axes", "order", "readout_axis"),
    [
        ("coil,ky,kx", ("coil", "y", "x"), None),
        ("kx,ky", ("x", "y"), None),
        ("coil,readout,phase", ("coil", "y", "x"), "y"),
        ("phase, Readout, coil", ("y", "x", "coil"), "x"),
        (["readout", "slice", "phase"], ("y", "slice", "x"), "y"),
    ],
)
def test_ky_is_y_and_the_first_of_readout_and_phase_is_y(axes, order, readout_axis):
    assert named_axes(axes, (9,) * len(order), FILE) == Layout(order, readout_axis)


@pytest.mark.parametrize(
    ("axes", "said"),
    [
        ("coil,ky,te", "no axis is called 'te'; there are slice, coil,.* kz, echo, contrast, repetition, time"),
        ("kz,ky,kx", "with kz, the readout must be known; call the other two axes readout and phase"),
        ("kz,phase,x", "with kz, the readout must be known"),
        ("echo,echo,y", "the axis echo twice"),
        ("coil,ky", "names 2 axes, but the array has 3: 8 × 64 × 48"),
        ("coil,ky,y", "the axis y twice"),
        ("coil,coil,y", "the axis coil twice"),
        ("coil,slice,y", "needs two axes of k-space"),
        ("coil,readout,x", "needs two axes of k-space"),
        ("", "no axis is called ''"),
    ],
)
def test_wrong_axes_are_explained(axes, said):
    with pytest.raises(UsageError, match=said):
        named_axes(axes, (8, 64, 48), FILE)


def test_slices_of_3d_scans_are_refused():
    with pytest.raises(UsageError, match="names kz and slice"):
        named_axes("slice,kz,phase,readout", (2, 3, 4, 5), FILE)


@given(st.permutations(["kz", "coil", "phase", "readout", "time"]))
def test_partitions_have_the_readout_along_x_in_every_order_of_axes(order):
    size = {"kz": 2, "coil": 3, "phase": 4, "readout": 5, "time": 2}
    full = np.arange(2 * 3 * 4 * 5 * 2).reshape(tuple(size.values()))
    array = full.transpose([list(size).index(name) for name in order])

    layout = named_axes(order, array.shape, FILE)

    assert (layout.stack, layout.readout_axis, layout.scan_shape(array.shape)) == ("partitions", "x", (2, 3, 4, 5))
    for label, volume in layout.volumes(array.shape).items():
        for index in range(2):
            read = layout.arrange(array[layout.select(index, volume)])
            np.testing.assert_array_equal(read, full[index, ..., int(label.removeprefix("time-")) - 1])


def test_each_combination_of_echo_contrast_repetition_and_time_is_a_volume_counted_from_one():
    array = np.arange(2 * 3 * 4 * 5 * 1).reshape(2, 3, 4, 5, 1)
    layout = named_axes("time,echo,y,x,repetition", array.shape, FILE)
    volumes = layout.volumes(array.shape)
    assert list(volumes) == [f"echo-{echo}_time-{time}" for echo in (1, 2, 3) for time in (1, 2)]
    read = layout.arrange(array[layout.select(0, volumes["echo-3_time-1"])])
    np.testing.assert_array_equal(read, array[0, 2, None, :, :, 0])


def test_one_volume_has_no_label():
    assert list(named_axes("y,x", (4, 5), FILE).volumes((4, 5))) == [None]
    assert list(named_axes("echo,y,x", (1, 4, 5), FILE).volumes((1, 4, 5))) == [None]


def test_readout_beside_both_y_and_x_is_refused():
    with pytest.raises(UsageError, match="twice"):
        named_axes("readout,phase,y,x", (2, 3, 4, 5), FILE)


@pytest.mark.parametrize(
    ("shape", "order"),
    [
        ((64, 48), ("y", "x")),
        ((8, 64, 48), ("coil", "y", "x")),
        ((256, 256, 8), ("y", "x", "coil")),
        ((32, 64, 64), ("coil", "y", "x")),
    ],
)
def test_the_obvious_order_is_guessed_and_noted(shape, order):
    layout = guessed_axes(shape, FILE)
    assert layout.order == order
    assert len(layout.notes) == 1


@pytest.mark.parametrize("shape", [(64, 8, 64), (64, 64, 64), (33, 64, 64), (100, 256, 256), (8, 8, 64)])
def test_unclear_orders_are_asked_for(shape):
    with pytest.raises(InputError, match="--axes coil,ky,kx"):
        guessed_axes(shape, FILE)


def test_four_and_five_axes_are_asked_for_with_all_names():
    names = "kz,phase,readout; echo, contrast, repetition, time count volumes"
    with pytest.raises(InputError, match=rf"2 × 8 × 64 × 64.*--axes slice,coil,ky,kx\..*{names}"):
        guessed_axes((2, 8, 64, 64), FILE)
    with pytest.raises(InputError, match=rf"--axes time,slice,coil,ky,kx\..*{names}"):
        guessed_axes((1, 1, 8, 64, 64), FILE)


@pytest.mark.parametrize("shape", [(), (64,)])
def test_less_than_two_axes_are_refused(shape):
    with pytest.raises(InputError, match="two axes or more"):
        guessed_axes(shape, FILE)
