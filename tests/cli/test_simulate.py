import json
from collections.abc import Iterator
from pathlib import Path

import h5py
import ismrmrd
import nibabel
import numpy as np
import pytest

from mrirecon.cli.main import main
from mrirecon.conditioning.opening import open_scan

SMALL = ["--matrix", "48,40", "--slices", "2", "--coils", "3"]


@pytest.fixture(scope="module", autouse=True)
def _coarse() -> Iterator[None]:
    """Coarsely rendered phantoms are enough here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mrirecon.simulation.phantom.RENDER_PIXEL_MM", 2.5)
        yield


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("simulate") / "scan.h5"
    assert main(["simulate", str(path), *SMALL, "--lesions", "3", "--contrast", "flair", "--seed", "7"]) == 0
    return path


def test_the_file_has_the_fastmri_layout(written: Path) -> None:
    with h5py.File(written) as file:
        assert file["kspace"].shape == (2, 3, 48, 40)
        assert file["kspace"].dtype == np.complex64
        assert file["reconstruction_rss"].shape == file["lesion_mask"].shape == (2, 48, 40)
        assert file["reconstruction_rss"].dtype == np.float32
        target = file["reconstruction_rss"][()]
        assert file.attrs["max"] == pytest.approx(target.max())
        assert file.attrs["norm"] == pytest.approx(np.linalg.norm(target), rel=1e-5)
        assert file.attrs["acquisition"] == "AXFLAIR"
        provenance = json.loads(file.attrs["provenance"])
    assert provenance["simulated"] is True
    assert provenance["seed"] == 7
    assert provenance["protocol"]["ti_ms"] == 2480
    assert provenance["software"].startswith("mrirecon ")


def test_the_header_is_valid_ismrmrd(written: Path) -> None:
    with h5py.File(written) as file:
        header = ismrmrd.xsd.CreateFromDocument(file["ismrmrd_header"][()])
    encoding = header.encoding[0]
    assert (encoding.encodedSpace.matrixSize.x, encoding.encodedSpace.matrixSize.y) == (48, 40)
    assert encoding.reconSpace.matrixSize.x == 48
    assert encoding.encodingLimits.kspace_encoding_step_1.center == 20
    assert header.acquisitionSystemInformation.receiverChannels == 3
    assert list(header.sequenceParameters.TI) == [2480]


def test_our_own_reader_understands_it(written: Path) -> None:
    scan = open_scan(written)
    assert scan.shape == (2, 3, 48, 40)
    assert scan.header.readout_axis == "y"
    assert scan.header.recon_size == (48, 40)
    assert scan.header.ti_ms == 2480
    assert not scan.survey.prospective


def test_a_folder_takes_every_volume_in_every_contrast(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--volumes", "2", "--contrast", "t1,t2", "--json", "--matrix", "40,40", "--slices", "1", "--coils", "1"]
    assert main(["simulate", str(tmp_path / "set"), *options]) == 0
    result = json.loads(capsys.readouterr().out)
    names = [f"simulated_00{i}_{c}.h5" for i in (0, 1) for c in ("t1", "t2")]
    assert sorted(p.name for p in (tmp_path / "set").iterdir()) == names
    assert [Path(file["path"]).name for file in result["files"]] == names
    assert [file["seed"] for file in result["files"]] == [0, 0, 1, 1]


def test_the_same_seed_gives_the_same_data(written: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.h5"
    main(["simulate", str(again), *SMALL, "--lesions", "3", "--contrast", "flair", "--seed", "7"])
    with h5py.File(written) as first, h5py.File(again) as second:
        np.testing.assert_array_equal(first["kspace"][()], second["kspace"][()])


def nifti(path: Path, array: np.ndarray) -> str:
    nibabel.save(nibabel.Nifti1Image(array, np.diag([1.0, 2.0, 3.0, 1.0])), path)
    return str(path)


def test_a_magnitude_volume_can_be_the_source(tmp_path: Path) -> None:
    volume = np.random.default_rng(0).random((40, 44, 6), dtype=np.float32)
    out = tmp_path / "out.h5"
    source = nifti(tmp_path / "v.nii.gz", volume)
    assert main(["simulate", str(out), "--from", source, "--coils", "2", "--snr", "inf", "--slices", "3"]) == 0
    with h5py.File(out) as file:
        assert file["kspace"].shape == (3, 2, 44, 40)
        assert json.loads(file.attrs["provenance"])["source"] == source


def test_a_label_map_can_be_the_source(tmp_path: Path) -> None:
    labels = np.kron(np.array([[0, 2], [3, 24]])[None], np.ones((4, 20, 20))).astype(np.int16)
    source = nifti(tmp_path / "l.nii.gz", labels)
    options = ["--labels", "--slice-axis", "0", "--contrast", "flair", "--coils", "2"]
    assert main(["simulate", str(tmp_path / "o"), "--from", source, *options]) == 0
    with h5py.File(tmp_path / "o" / "simulated_000_flair.h5") as file:
        assert file["kspace"].shape == (4, 2, 40, 40)
        assert "lesion_mask" not in file


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["--matrix", "16,64"], 2, "too small"),
        (["--matrix", "64"], 2, "rows,columns"),
        (["--contrast", "t7"], 2, "no contrast 't7'"),
        (["--snr", "0"], 2, "snr"),
        (["--volumes", "2"], 2, "give a folder"),
        (["--labels"], 2, "--from"),
        (["--from", "missing.nii"], 5, "missing.nii"),
        (["--from", "missing.nii", "--lesions", "2"], 2, "--lesions"),
        (["--from", "missing.nii", "--slice-axis", "4"], 2, "--slice-axis"),
    ],
)
def test_mistakes_are_explained_and_leave_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], code: int, words: str
) -> None:
    assert main(["simulate", str(tmp_path / "x.h5"), *options]) == code
    assert words in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_an_image_is_not_taken_for_a_label_map(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = nifti(tmp_path / "v.nii", np.random.default_rng(0).random((40, 40, 2), dtype=np.float32))
    assert main(["simulate", str(tmp_path / "x.h5"), "--from", source, "--labels"]) == 5
    assert "not a label map" in capsys.readouterr().err


def test_an_output_that_cannot_be_written_is_refused_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert main(["simulate", str(tmp_path / "file" / "x.h5"), *SMALL]) == 8
    assert "cannot be written" in capsys.readouterr().err


def test_an_interruption_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("mrirecon.export.fastmri.root_sum_of_squares", interrupted)
    assert main(["simulate", str(tmp_path / "x.h5"), *SMALL]) == 130
    assert list(tmp_path.iterdir()) == []
