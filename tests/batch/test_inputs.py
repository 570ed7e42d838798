import json
from pathlib import Path

import pytest

from mrirecon.batch.inputs import Input, find_inputs
from mrirecon.errors import InputError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b.dat", "a.h5", "notes.txt", ".hidden.h5", "array.cfl", "array.hdr", "noise.h5", "deep/c.h5"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    return tmp_path


def names(inputs: list[Input]) -> list[str]:
    return [one.path.name for one in inputs]


def test_a_folder_stands_for_its_files_but_for_notes_hidden_ones_headers_and_the_noise_scan(folder: Path) -> None:
    assert names(find_inputs([str(folder)], folder / "noise.h5", None)) == ["a.h5", "array.cfl", "b.dat"]


def test_globs_go_into_folders_and_each_file_counts_once(folder: Path) -> None:
    found = find_inputs([f"{folder}/**/*.h5", str(folder / "a.h5")], None, None)
    assert names(found) == ["a.h5", "c.h5", "noise.h5"]


def test_a_file_that_is_not_there_is_listed_so_that_it_is_missed(folder: Path) -> None:
    [missing] = find_inputs([str(folder / "gone.h5")], None, None)
    with pytest.raises(InputError, match="no such file"):
        missing.signature()


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_a_list_gives_each_scan_its_own_noise(folder: Path, suffix: str) -> None:
    rows = [{"scan": "a.h5", "noise": "noise.h5"}, {"scan": "b.dat"}]
    text = "scan,noise\na.h5,noise.h5\nb.dat,\n" if suffix == ".csv" else "\n".join(map(json.dumps, rows))
    (folder / f"list{suffix}").write_text(text)
    default = folder / "other.h5"
    found = find_inputs([str(folder / f"list{suffix}")], default, None)
    assert found == [Input(folder / "a.h5", folder / "noise.h5"), Input(folder / "b.dat", default)]


@pytest.mark.parametrize("text", ["scan,nosie\na.h5,b.h5\n", "file\na.h5\n"])
def test_a_list_with_a_wrong_column_is_refused_by_row_and_name(folder: Path, text: str) -> None:
    (folder / "list.csv").write_text(text)
    with pytest.raises(InputError, match="row 1"):
        find_inputs([str(folder / "list.csv")], None, None)


def test_content_is_that_of_all_files_of_a_scan_and_not_their_names(folder: Path) -> None:
    array = Input(folder / "array.cfl")
    before = array.content()
    assert len(array.signature().split()) == 2
    (folder / "array.hdr").write_text("other")
    assert array.content() != before
    (folder / "copy.h5").write_bytes((folder / "a.h5").read_bytes())
    assert Input(folder / "copy.h5").content() == Input(folder / "a.h5").content()
    assert Input(folder / "a.h5", noise=folder / "noise.h5").content() != Input(folder / "a.h5").content()
