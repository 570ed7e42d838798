from pathlib import Path

import numpy as np
import pytest

from mrirecon.errors import ResourceError
from mrirecon.scratch import FileArray, Scratch


@pytest.mark.parametrize("shape", [(5, 4), (5, 4, 3, 2)])
def test_a_file_holds_what_an_array_would(tmp_path: Path, shape: tuple[int, ...]) -> None:
    generator = np.random.default_rng(0)
    stored, array = FileArray(shape, np.complex64, tmp_path), np.zeros(shape, np.complex64)
    for target in (stored, array):
        generator = np.random.default_rng(0)
        target[:, 1] = generator.random((5, *shape[2:]))
        target[3] = 1j * generator.random(shape[1:])
        target[:, 3] = generator.random((5, *shape[2:]))
    for index in range(5):
        np.testing.assert_array_equal(stored[index], array[index])
    for index in range(4):
        np.testing.assert_array_equal(stored[:, index], array[:, index])
    assert (stored.shape, stored.dtype, len(stored)) == (array.shape, array.dtype, 5)


def test_the_file_has_no_name(tmp_path: Path) -> None:
    stored = FileArray((2, 3), np.float32, tmp_path)
    stored[0] = np.ones(3)
    assert not list(tmp_path.iterdir())


def test_a_disk_without_room_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match="--memory"):
        FileArray((1 << 20, 1 << 30), np.complex64, tmp_path)


def test_memory_is_used_while_there_is_room_and_given_back(tmp_path: Path) -> None:
    scratch = Scratch(tmp_path, room=100)
    first = scratch.zeros((2, 10), np.float32)
    assert isinstance(first, np.ndarray)
    assert isinstance(scratch.zeros((2, 10), np.float32), FileArray)
    del first
    assert scratch.room == 100
    assert isinstance(scratch.zeros((2, 10), np.float32), np.ndarray)


def test_by_default_all_is_in_memory() -> None:
    assert isinstance(Scratch().zeros((100, 100), np.complex64), np.ndarray)
