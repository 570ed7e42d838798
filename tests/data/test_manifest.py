from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from mrirecon.data.layouts import candidates, read_layout
from mrirecon.data.manifest import (
    SPLITS,
    Entry,
    Manifest,
    read_manifest,
    scan_files,
    sha256_of,
    shipped,
    split_by_subject,
    verify,
    write_manifest,
)
from mrirecon.errors import InputError, UsageError

FULL = Entry(
    file="train/a b.h5",
    subject="007",
    split="train",
    contrast="no",
    anatomy="knee",
    field_strength_t=2.89,
    coils=15,
    slices=36,
    matrix=(640, 368),
    bytes=123,
    sha256="0" * 64,
    source="https://example.org/a",
    licence="CC BY",
)


def test_what_is_written_is_read(tmp_path):
    manifest = Manifest("Größe", (FULL, Entry("b.h5")), "https://example.org", "CC0", "Doe, 2020", "../data")
    write_manifest(manifest, path := tmp_path / "m.yaml")
    assert read_manifest(path) == manifest
    assert "- file: b.h5\n" in path.read_text(encoding="utf-8")
    assert "matrix: [640, 368]" in path.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: m\nfiles: [{file: a.h5}, {file: b.h5, colour: red}]", "row 2 of files: there is no field 'colour'"),
        ("name: m\nfiles: [{file: a.h5, coils: many}]", "row 1 of files: field 'coils': 'many' must be a whole number"),
        ("name: m\nfiles: [{file: a.h5, subject: 007}]", "row 1 of files: field 'subject': 7 must be text"),
        (
            "name: m\nfiles: [{file: a.h5, split: training}]",
            "field 'split': 'training' must be one of train, val, test",
        ),
        ("name: m\nfiles: [{file: a.h5, matrix: [3]}]", "field 'matrix'"),
        ("name: m\nfiles: [{file: a.h5, matrix: 3}]", "field 'matrix'"),
        ("name: m\nfiles: [{file: a.h5, sha256: abc}]", "field 'sha256'"),
        ("name: m\nfiles: [{file: a.h5, coils: true}]", "field 'coils'"),
        ("name: m\nfiles: [{file: a.h5, split: [train]}]", "field 'split'"),
        ("name: m\nfiles: [{file: ../a.h5}]", "row 1 of files: field 'file': '../a.h5' must be a path inside the root"),
        ("name: m\nfiles: [{file: /etc/a.h5}]", "must be a path inside the root"),
        ("name: m\nfiles: [{file: a.h5}, {file: b.h5}, {file: a.h5}]", "rows 1 and 3 of files: field 'file': a.h5 is"),
        ("name: m\nfiles: [{subject: x}]", "row 1 of files: field 'file' is missing"),
        ("name: m\nfiles: [a.h5]", "row 1 of files: must have fields"),
        ("name: m\nfiles: a.h5", "field 'files' must be a list"),
        ("files: []", "field 'name' is missing"),
        ("name: m\ncolour: red\nfiles: []", "there is no field 'colour'"),
        ("name: [1\n", "is not a manifest in YAML"),
        ("name: !!python/object/apply:os.system [ls]\nfiles: []", "is not a manifest in YAML"),
        ("just text", "is not a manifest"),
        ("", "is not a manifest"),
    ],
)
def test_an_error_names_file_row_and_field(tmp_path, text, message):
    (tmp_path / "m.yaml").write_text(text)
    with pytest.raises(InputError) as error:
        read_manifest(tmp_path / "m.yaml")
    assert "m.yaml" in str(error.value)
    assert message in str(error.value)


def test_a_manifest_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "m.yaml").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(InputError, match="is not a manifest in YAML"):
        read_manifest(tmp_path / "m.yaml")
    with pytest.raises(InputError, match="cannot be read"):
        read_manifest(tmp_path / "none.yaml")


def test_verify_tells_missing_and_changed_files(tmp_path):
    for name in "abc":
        (tmp_path / name).write_text("content")
    rows = tuple(Entry(name, bytes=7, sha256=sha256_of(tmp_path / "a")) for name in "abcd")
    (tmp_path / "b").write_text("CONTENT")
    (tmp_path / "c").write_text("more content")
    manifest = Manifest("m", rows)
    assert [problem for _, problem in verify(manifest, tmp_path)] == [None, "changed", "changed", "missing"]
    assert [problem for _, problem in verify(manifest, tmp_path, fast=True)] == [None, None, "changed", "missing"]


def subjects(count, contrasts=("T1", "T2", "FLAIR")):
    rows = [Entry(f"{n}-{c}.h5", subject=f"s{n}", contrast=c) for n in range(count) for c in contrasts[: 1 + n % 3]]
    return Manifest("m", tuple(rows))


@pytest.mark.parametrize("seed", range(5))
def test_no_subject_is_in_two_splits_and_contrasts_are_shared_out(seed):
    split = split_by_subject(subjects(60), (0.7, 0.15, 0.15), seed)
    found = {(entry.subject, entry.split) for entry in split.files}
    assert len(found) == 60
    for contrast in ("T1", "T2", "FLAIR"):
        rows = [entry.split for entry in split.files if entry.contrast == contrast]
        shares = [rows.count(name) / len(rows) for name in SPLITS]
        assert shares == pytest.approx([0.7, 0.15, 0.15], abs=0.08)


def test_a_split_is_a_function_of_the_seed_alone():
    manifest = subjects(30)
    one = split_by_subject(manifest, (0.5, 0.25, 0.25), 3)
    assert split_by_subject(manifest, (0.5, 0.25, 0.25), 3) == one
    assert split_by_subject(manifest, (0.5, 0.25, 0.25), 4) != one
    backwards = split_by_subject(replace(manifest, files=manifest.files[::-1]), (0.5, 0.25, 0.25), 3)
    assert set(backwards.files) == set(one.files)


def test_a_share_of_nothing_gets_nothing():
    assert {entry.split for entry in split_by_subject(subjects(20), (0.8, 0.2, 0), 0).files} == {"train", "val"}


def test_a_split_that_makes_no_sense_is_refused():
    for fractions in ((0.5, 0.5, 0.5), (1.2, -0.1, -0.1), (0.5, 0.5)):
        with pytest.raises(UsageError, match="add up to 1"):
            split_by_subject(subjects(3), fractions, 0)
    with pytest.raises(InputError, match=r"no subject, such as a\.h5"):
        split_by_subject(Manifest("m", (Entry("a.h5"),)), (1, 0, 0), 0)


def test_paths_stand_for_files_folders_and_rows_of_a_split(tmp_path, write_kspace):
    one, two, three = (write_kspace(tmp_path / "data" / name) for name in ("1.h5", "2.h5", "3.other"))
    (tmp_path / "data" / "README").write_text("no scan")
    rows = (Entry("1.h5", split="train"), Entry("2.h5", split="val"), Entry("4.h5", split="test"))
    write_manifest(Manifest("m", rows, root="data"), manifest := tmp_path / "m.yaml")
    assert scan_files([tmp_path / "data"], "train") == [one, two, three]
    assert scan_files([manifest, three], "train") == [one, three]
    assert scan_files([manifest], "val") == [two]
    with pytest.raises(InputError, match=r"1 of its 1 files of the split 'test' are missing, such as .*4\.h5"):
        scan_files([manifest], "test")
    write_manifest(Manifest("m", rows[:1], root="data"), manifest)
    with pytest.raises(InputError, match="no file of the split 'val'"):
        scan_files([manifest], "val")


#: A path of each layout, with what the layout says of it.
PATHS = {
    "fastmri-knee": ("multicoil_val/file1000000.h5", "file1000000", "val", "knee"),
    "fastmri-brain": ("multicoil_train/file_brain_AXT1POST_201_6002780.h5", "201_6002780", "train", "brain"),
    "calgary-campinas": ("Train/e14089s3_P53248.7.h5", "e14089s3", "train", "brain"),
    "skm-tea": ("files_recon_calib-24/MTR_001.h5", "MTR_001", None, "knee"),
    "mridata-knees": (
        "52c2fd53-d233-4444-8bfd-7c454240d314.h5",
        "52c2fd53-d233-4444-8bfd-7c454240d314",
        None,
        "knee",
    ),
    "cmrxrecon": (
        "MultiCoil/Cine/TrainingSet/FullSample/P001/cine_sax.mat",
        "TrainingSet/FullSample/P001",
        "train",
        "heart",
    ),
    "subject-folders": ("sub-01/scan.dat", "sub-01", None, None),
}


@pytest.mark.parametrize("name", shipped("layouts"))
def test_a_layout_knows_the_paths_of_its_data_set(tmp_path, name):
    file, subject, split, anatomy = PATHS[name]
    layout = read_layout(name)
    rule, groups = layout.rule(tmp_path / file)
    assert (groups["subject"], rule.split, rule.anatomy) == (subject, split, anatomy)
    if name != "subject-folders":
        assert layout.rule(tmp_path / "README.md") is None
        assert layout.source
        assert layout.licence
        assert layout.citation


def test_a_contrast_is_not_mistaken_for_a_longer_one():
    _, groups = read_layout("fastmri-brain").rule(Path("/multicoil_val/file_brain_AXT1_202_2020098.h5"))
    assert groups == {"contrast": "AXT1", "subject": "202_2020098"}


def test_files_of_no_readable_format_are_no_candidates(tmp_path, write_kspace):
    scan = write_kspace(tmp_path / "deep" / "er" / "scan")
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "empty.h5").touch()
    assert candidates(tmp_path, None) == [scan, tmp_path / "empty.h5"]


def test_a_layout_of_ones_own_is_read_and_a_wrong_one_named(tmp_path):
    (tmp_path / "mine.yaml").write_text("title: Mine\nfiles: [{pattern: '(?P<subject>p\\d+)_.*', split: test}]")
    rule, groups = read_layout(str(tmp_path / "mine.yaml")).rule(tmp_path / "p12_T1.h5")
    assert (groups, rule.split) == ({"subject": "p12"}, "test")
    for text in ("title: Mine", "files: [{pattern: '('}]\ntitle: x", "a: [", "title: x\nfiles: [{colour: red}]"):
        (tmp_path / "mine.yaml").write_text(text)
        with pytest.raises(UsageError, match="is not a layout"):
            read_layout(str(tmp_path / "mine.yaml"))
    with pytest.raises(UsageError, match="the shipped ones are: calgary-campinas"):
        read_layout("nosuch")


@pytest.mark.parametrize("name", shipped())
def test_shipped_manifests_are_sound_and_say_where_each_file_is_from(name):
    manifest = read_manifest(shipped()[name])
    assert manifest.files
    for entry in manifest.files:
        assert entry.sha256
        assert entry.source.startswith("https://")
        assert entry.licence
        assert entry.subject
    splits = {}
    for entry in manifest.files:
        assert splits.setdefault(entry.subject, entry.split) == entry.split


def test_shipped_files_are_as_listed(shared):
    manifest = read_manifest(shipped()["public_scans"])
    assert [(entry.file, problem) for entry, problem in verify(manifest, shared / "data") if problem] == []


def test_shipped_yaml_is_plain():
    for path in [*shipped().values(), *shipped("layouts").values()]:
        assert isinstance(yaml.safe_load(path.read_text(encoding="utf-8")), dict)
