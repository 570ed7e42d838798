import os
import sqlite3
from dataclasses import replace
from multiprocessing import get_context

import h5py
import numpy as np
import pytest

from mrirecon.acquisition.scan import Scan
from mrirecon.conditioning.opening import open_scans
from mrirecon.conditioning.options import Conditioning
from mrirecon.data import index
from mrirecon.data.index import index_volumes
from mrirecon.errors import InputError


@pytest.fixture
def no_reading(monkeypatch):
    """Any opening of a scan fails from now on."""

    def refuse(*_, **__):
        raise AssertionError("a scan was opened")

    def start():
        monkeypatch.setattr(index, "open_scans", refuse)
        monkeypatch.setattr(h5py, "File", refuse)
        monkeypatch.setattr(Scan, "kspace", refuse)

    return start


def test_a_volume_is_what_its_scan_says(tmp_path, write_kspace):
    path = write_kspace(tmp_path / "a.h5")
    (volume,), (scan,) = index_volumes([path]), open_scans(path)
    assert volume.shape == scan.shape
    assert (volume.scale, volume.acquired, volume.prospective) == (scan.survey.scale, scan.acquired, scan.prospective)
    assert (volume.readout_axis, volume.number, volume.path) == (scan.header.readout_axis, 0, path)


def test_known_files_are_not_opened_again(tmp_path, write_kspace, no_reading):
    files = [write_kspace(tmp_path / f"{name}.h5", seed=name) for name in range(3)]
    first = index_volumes(files)
    no_reading()
    assert index_volumes(files) == first


def test_a_changed_file_is_surveyed_again(tmp_path, write_kspace):
    path = write_kspace(tmp_path / "a.h5")
    (before,) = index_volumes([path])
    size = path.stat().st_size
    with h5py.File(path, "r+") as file:
        file["kspace"][...] = 3 * file["kspace"][...]
    os.utime(path, ns=(0, before_ns := path.stat().st_mtime_ns + 1))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (size, before_ns)
    (after,) = index_volumes([path])
    assert after.scale == pytest.approx(3 * before.scale)


def test_other_conditioning_is_another_record(tmp_path, write_kspace):
    path = write_kspace(tmp_path / "a.h5", (2, 4, 32, 32))
    (whole,) = index_volumes([path])
    (two,) = index_volumes([path], Conditioning(coils=2))
    assert (whole.shape[1], two.shape[1]) == (4, 2)
    assert index_volumes([path]) == [whole]


def test_a_damaged_cache_is_made_anew(tmp_path, write_kspace, cache_folder, no_reading):
    path = write_kspace(tmp_path / "a.h5")
    first = index_volumes([path])
    (cache,) = (cache_folder / "mrirecon").glob("*.sqlite")
    cache.write_bytes(b"no database at all" * 500)
    assert index_volumes([path]) == first
    no_reading()
    assert index_volumes([path]) == first


@pytest.mark.parametrize("record", ["", "[", "[[1]]", "null", '"x"', '[[[1,1,1],"y",1,[[0,1],[0,1]],false]]'])
def test_a_damaged_record_is_made_anew(tmp_path, write_kspace, cache_folder, record):
    path = write_kspace(tmp_path / "a.h5")
    first = index_volumes([path])
    (cache,) = (cache_folder / "mrirecon").glob("*.sqlite")
    with sqlite3.connect(cache) as database:
        database.execute("UPDATE scans SET record = ?", (record,))
    assert index_volumes([path]) == first


def test_nothing_in_the_cache_names_a_file(tmp_path, write_kspace, cache_folder):
    index_volumes([write_kspace(tmp_path / "Doe^Jane.h5")])
    (cache,) = (cache_folder / "mrirecon").glob("*.sqlite")
    assert b"Doe" not in cache.read_bytes()


def test_without_a_cache_folder_all_works(tmp_path, write_kspace, monkeypatch):
    path = write_kspace(tmp_path / "a.h5")
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert index_volumes([path]) == index_volumes([path])


def test_processes_share_the_cache(tmp_path, write_kspace, no_reading):
    files = [write_kspace(tmp_path / f"{name}.h5", seed=name) for name in range(6)]
    with get_context("fork").Pool(3) as pool:
        found = pool.map(index_volumes, [files, files[::-1], files[2:]])
    no_reading()
    assert index_volumes(files) == found[0] == found[1][::-1]


def test_several_processes_survey_as_one_does(tmp_path, write_kspace, monkeypatch):
    files = [write_kspace(tmp_path / f"{name}.h5", seed=name) for name in range(4)]
    first = index_volumes(files, workers=2)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other"))
    assert index_volumes(files) == first


def test_many_known_files_are_not_opened_again(tmp_path, write_kspace, no_reading):
    files = [write_kspace(tmp_path / "0.h5", (1, 1, 8, 8))]
    for number in range(1, 50):
        files.append(tmp_path / f"{number}.h5")
        os.link(files[0], files[-1])
    first = index_volumes(files)
    no_reading()
    assert index_volumes(files) == first == [replace(first[0], path=path) for path in files]


def test_a_scan_with_nan_is_named(tmp_path, write_kspace):
    path = write_kspace(tmp_path / "bad.h5")
    with h5py.File(path, "r+") as file:
        file["kspace"][1, 0, 3, 3] = np.nan
    with pytest.raises(InputError, match=r"bad\.h5: slice 1 holds NaN"):
        index_volumes([path])
