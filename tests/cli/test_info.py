import json
import subprocess
import sys

import h5py
import numpy as np
import pytest

from mrirecon.cli.main import main

HEADER = b"""<?xml version="1.0"?><ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD">
<subjectInformation><patientName>Secret^Person</patientName></subjectInformation>
<acquisitionSystemInformation><systemFieldStrength_T>3</systemFieldStrength_T></acquisitionSystemInformation>
<encoding><encodedSpace><matrixSize><x>64</x><y>48</y><z>1</z></matrixSize></encodedSpace>
<reconSpace><matrixSize><x>32</x><y>48</y><z>1</z></matrixSize>
<fieldOfView_mm><x>160</x><y>240</y><z>5</z></fieldOfView_mm></reconSpace>
<encodingLimits><kspace_encoding_step_1><minimum>0</minimum><maximum>43</maximum><center>22</center>
</kspace_encoding_step_1></encodingLimits></encoding>
<sequenceParameters><TR>9000</TR></sequenceParameters></ismrmrdHeader>"""


def smooth_kspace(coils=3):
    y, x = np.mgrid[-1:1:64j, -1:1:48j]
    image = (y**2 + x**2 < 0.6) * np.exp(1j * y) * np.arange(1, 1 + coils)[:, None, None]
    noise = 1e-3 * np.random.default_rng(0).normal(size=image.shape)
    return (np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(image, axes=(1, 2))), axes=(1, 2)) + noise).astype("c8")


@pytest.fixture
def fastmri(tmp_path):
    path = tmp_path / "scan.h5"
    with h5py.File(path, "w") as file:
        file["kspace"] = np.stack([smooth_kspace(), 0 * smooth_kspace(), smooth_kspace()])
        file["reconstruction_rss"] = np.ones((3, 32, 48), dtype=np.float32)
        file["ismrmrd_header"] = HEADER
        file.attrs["acquisition"] = "AXT2"
    return path


def info(capsys, *argv):
    code = main(["info", *map(str, argv)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_json_is_one_object_with_the_facts(fastmri, capsys):
    code, out, err = info(capsys, fastmri, "--json")
    facts = json.loads(out)
    assert (code, err) == (0, "")
    assert (facts["slices"], facts["coils"], facts["matrix"]) == (3, 3, [64, 48])
    assert facts["acquired"] == {"y": [0, 64], "x": [2, 46], "from": "header"}
    assert facts["sampling"]["prospective"] is False
    assert (facts["contrast"], facts["field_strength_t"], facts["tr_ms"], facts["te_ms"]) == ("AXT2", 3, 9000, None)
    assert facts["voxel_mm"] == [5, 5]
    assert facts["empty_slices"] == [1]
    assert facts["target"] == "reconstruction_rss"
    assert "TE" in facts["unknown"]
    assert "position and orientation of the slices" in facts["unknown"]


def test_text_says_what_is_there_what_would_be_done_and_what_is_unknown(fastmri, capsys):
    code, out, _ = info(capsys, fastmri)
    assert code == 0
    for said in ("fastMRI HDF5", "slices 3 × coils 3 × y 64 × x 48", "fully sampled", "TR 9000 ms", "voxel 5 × 5 mm",
                 "empty slices     1", "would be done", "ESPIRiT", "unknown", "TE"):  # fmt: skip
        assert said in out


def test_no_personal_data_is_printed(fastmri, capsys):
    assert "Secret" not in "".join(map(str, info(capsys, fastmri)))
    assert "Secret" not in "".join(map(str, info(capsys, fastmri, "--json")))


def test_prospective_undersampling_is_reported(tmp_path, capsys):
    lines = (np.arange(48) % 3 == 0) | (abs(np.arange(48) - 24) < 5)
    np.save(tmp_path / "a.npy", smooth_kspace() * lines)
    _, out, _ = info(capsys, tmp_path / "a.npy", "--axes", "coil,readout,phase", "--json")
    facts = json.loads(out)
    assert facts["sampling"]["prospective"] is True
    assert facts["sampling"]["acceleration"] == pytest.approx(46 / lines.sum(), abs=1e-3)
    assert facts["sampling"]["acs"] == [64, 9]
    assert facts["readout_axis"] == "y"
    assert "cannot be scored" in facts["would_do"][0]


@pytest.mark.parametrize("spoil", [lambda k: np.fft.ifft2(k), lambda k: np.fft.fftshift(k, axes=(1, 2))])
def test_an_image_and_uncentred_kspace_are_doubted(tmp_path, capsys, spoil):
    np.save(tmp_path / "good.npy", smooth_kspace())
    np.save(tmp_path / "bad.npy", spoil(smooth_kspace()))
    assert "is this an image" not in info(capsys, tmp_path / "good.npy")[1]
    assert "is this an image" in info(capsys, tmp_path / "bad.npy")[1]


@pytest.mark.parametrize(
    ("argv", "code", "said"),
    [
        (["nothing.h5"], 5, "no such file"),
        (["."], 5, "is a folder"),
        (["real.npy"], 5, "is it an image"),
        (["nan.npy"], 5, "NaN"),
        (["good.npy", "--axes", "coil,ky,kq"], 2, "no axis is called 'kq'"),
        (["good.npy", "--key", "k"], 2, "leave --key out"),
        ([], 2, "SCAN"),
    ],
)
def test_bad_input_gives_one_sentence_and_its_exit_code(tmp_path, capsys, monkeypatch, argv, code, said):
    monkeypatch.chdir(tmp_path)
    np.save("good.npy", smooth_kspace())
    np.save("real.npy", np.ones((8, 8)))
    np.save("nan.npy", np.full((8, 8), np.nan + 0j))
    got, out, err = info(capsys, *argv)
    assert (got, out) == (code, "")
    assert said.lower() in err.lower()
    assert "Traceback" not in err


def test_a_fully_sampled_scan_needs_no_torch(fastmri):
    program = "import sys; from mrirecon.cli.main import main; main(sys.argv[1:]); sys.exit('torch' in sys.modules)"
    command = [sys.executable, "-c", program, "info", str(fastmri)]
    assert subprocess.run(command, capture_output=True).returncode == 0
