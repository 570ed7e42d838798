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
        ("coil,ky,kz", "no axis is called 'kz'"),
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


def test_four_axes_are_asked_for_and_five_refused():
    with pytest.raises(InputError, match=r"2 × 8 × 64 × 64.*--axes slice,coil,ky,kx"):
        guessed_axes((2, 8, 64, 64), FILE)
    with pytest.raises(InputError, match="two to four axes"):
        guessed_axes((1, 1, 8, 64, 64), FILE)
