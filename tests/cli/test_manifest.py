import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import yaml

from mrirecon.cli.manifest import run
from mrirecon.data.manifest import read_manifest
from mrirecon.errors import InputError, UsageError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Scans of six subjects in folders of their own, and a file that is none."""
    for subject in range(6):
        path = tmp_path / "data" / f"sub-{subject}" / "scan.h5"
        path.parent.mkdir(parents=True)
        with h5py.File(path, "w") as file:
            numbers = np.random.default_rng(subject).standard_normal((2, 3, 24, 20, 2), dtype=np.float32)
            file["kspace"] = numbers.view(np.complex64)[..., 0]
            file.attrs["acquisition"] = ("AXT1", "AXT2")[subject % 2]
            file.attrs["patient_id"] = "Secret^Person"
    (tmp_path / "data" / "README").write_text("no scan")
    return tmp_path / "data"


def test_create_split_and_verify_work_on_each_other(folder, capsys):
    made, split = folder.parent / "made.yaml", folder.parent / "split.yaml"
    assert run(["create", str(folder), "-o", str(made), "--layout", "subject-folders", "--name", "mine"]) == 0
    assert "mine: 6 files" in capsys.readouterr().out
    manifest = read_manifest(made)
    assert (manifest.root, manifest.name) == ("data", "mine")
    entry = manifest.files[1]
    assert (entry.file, entry.subject, entry.contrast) == ("sub-1/scan.h5", "sub-1", "AXT2")
    assert (entry.slices, entry.coils, entry.matrix) == (2, 3, (24, 20))
    assert "Secret" not in made.read_text()

    assert run(["split", str(made), "-o", str(split), "--fractions", "0.34,0.33,0.33", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["subjects"] == {"train": 2, "val": 2, "test": 2}
    assert {contrast for counts in facts["splits"].values() for contrast in counts} == {"AXT1", "AXT2"}

    assert run(["verify", str(split)]) == 0
    assert "6 of 6 files are as listed" in capsys.readouterr().out


def test_verify_tells_what_is_wrong_by_its_exit_code(folder, capsys):
    made = folder.parent / "made.yaml"
    run(["create", str(folder), "-o", str(made), "--json"])
    (folder / "sub-0" / "scan.h5").unlink()
    (folder / "sub-7.h5").write_bytes(b"new")
    with h5py.File(folder / "sub-1" / "scan.h5", "r+") as file:
        file["kspace"][0, 0, 0, 0] = 1
    capsys.readouterr()
    assert run(["verify", str(made), "--json"]) == 3
    found = json.loads(capsys.readouterr().out)
    assert (found["missing"], found["changed"]) == (["sub-0/scan.h5"], ["sub-1/scan.h5"])
    assert (found["good"], found["unlisted"]) == (4, ["sub-7.h5"])
    assert run(["verify", str(made), "--fast"]) == 3
    assert "5 of 6 files are there" in capsys.readouterr().out
    assert run(["verify", str(made), "--root", str(folder.parent)]) == 4
    made.write_text("no manifest")
    with pytest.raises(InputError, match="is not a manifest"):
        run(["verify", str(made)])


def test_unreadable_files_are_left_out_and_told(folder, capsys):
    (folder / "broken.h5").write_bytes((folder / "sub-0" / "scan.h5").read_bytes()[:3000])
    made = folder.parent / "made.yaml"
    assert run(["create", str(folder), "-o", str(made), "--json"]) == 3
    found = json.loads(capsys.readouterr().out)
    assert found["files"] == len(read_manifest(made).files) == 6
    assert len(found["failed"]) == 1
    assert "broken.h5" in found["failed"][0]


def test_a_folder_of_broken_files_makes_no_manifest(tmp_path, capsys):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "broken.npy").write_bytes(b"\x93NUMPY\x01\x00")
    assert run(["create", str(tmp_path / "data"), "-o", str(tmp_path / "made.yaml")]) == 4
    assert not (tmp_path / "made.yaml").exists()
    with pytest.raises(InputError, match="there is no file"):
        run(["create", str(tmp_path / "data"), "-o", str(tmp_path / "made.yaml"), "--layout", "skm-tea"])


def test_without_subjects_nothing_is_split(folder, tmp_path):
    run(["create", str(folder), "-o", str(tmp_path / "made.yaml")])
    with pytest.raises(InputError, match="6 files have no subject"):
        run(["split", str(tmp_path / "made.yaml"), "-o", str(tmp_path / "split.yaml")])
    with pytest.raises(UsageError, match="three numbers"):
        run(["split", str(tmp_path / "made.yaml"), "-o", str(tmp_path / "x.yaml"), "--fractions", "most"])


def test_a_manifest_elsewhere_still_finds_its_files(folder, tmp_path):
    elsewhere = tmp_path / "far" / "away" / "made.yaml"
    run(["create", str(folder), "-o", str(elsewhere)])
    assert yaml.safe_load(elsewhere.read_text())["root"] == str(folder.resolve())
    assert run(["verify", str(elsewhere)]) == 0


def test_help_and_mistakes(capsys):
    assert run(["--help"]) == 0
    assert "create" in capsys.readouterr().out
    assert run([]) == 2
    with pytest.raises(UsageError, match="create, verify and split"):
        run(["list"])
    for action in ("create", "verify", "split"):
        with pytest.raises(SystemExit) as end:
            run([action, "--help"])
        assert end.value.code == 0
