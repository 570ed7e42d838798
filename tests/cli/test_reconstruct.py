import hashlib
import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from mrirecon.cli.main import main
from mrirecon.models.cirim import CIRIM
from mrirecon.physics.fourier import fftc, ifftc
from mrirecon.weights.checkpoint import save_checkpoint

Kspace = NDArray[np.complex64]


@pytest.fixture(scope="module")
def kspace() -> Kspace:
    """Fully sampled k-space (2 slices, 4 coils, 64, 48)."""
    generator = np.random.default_rng(0)
    y, x = np.meshgrid(np.linspace(-1, 1, 64), np.linspace(-1, 1, 48), indexing="ij")
    image = ((y / 0.8) ** 2 + (x / 0.7) ** 2 < 1) * (1 + 0.5 * np.sin(12 * x) * np.cos(9 * y)) * np.exp(0.5j * x)
    centres = [(-1, -1), (-1, 1), (1, -1), (1, 1)]
    coils = np.stack([np.exp(-((y - v) ** 2 + (x - u) ** 2) / 3 + 1j * (v * y + u * x)) for v, u in centres])
    volume = 1e-4 * np.stack([coils * image, 0.7 * coils * image[::-1]])
    noise = generator.standard_normal((2, *volume.shape)) * 5e-7
    return (fftc(torch.from_numpy(volume)).numpy() + noise[0] + 1j * noise[1]).astype(np.complex64)


@pytest.fixture
def write_scan(tmp_path: Path, kspace: Kspace) -> Callable[..., Path]:
    """Writes a fastMRI file of `kspace`, or of what `edit` makes of it, with further datasets."""

    def write(name: str = "scan.h5", edit: Callable[[Kspace], Kspace] = lambda k: k, **datasets: NDArray) -> Path:
        with h5py.File(tmp_path / name, "w") as file:
            file["kspace"] = edit(kspace.copy())
            for key, value in datasets.items():
                file[key] = value
        return tmp_path / name

    return write


def reconstruct(*arguments: object) -> int:
    return main(["reconstruct", *map(str, arguments)])


def one_sentence(text: str) -> bool:
    return text.startswith("mrirecon: ") and text.count("\n") == 1 and "Traceback" not in text


def test_undersampled_and_scored(write_scan, tmp_path: Path, capsys) -> None:
    out = tmp_path / "new" / "out.h5"
    arguments = ["--method", "cg-sense", "--undersample", "equispaced", "--acceleration", 4, "--acs", 12, "--seed", 0]
    assert reconstruct(write_scan(), "-o", out, *arguments, "--json") == 0
    text = capsys.readouterr().out
    assert text.count("\n") == 1
    result = json.loads(text)
    assert result["output"] == str(out)
    assert result["method"] == "cg-sense"
    assert result["slices"] == 2
    assert result["device"] in ("cpu", "cuda")
    assert result["acceleration"] == pytest.approx(48 / (12 + 36 / 4), rel=0.05)
    assert result["seconds"] > 0
    assert result["warnings"] == []
    assert result["metrics"]["nmse"] < 0.02
    assert result["metrics"]["psnr"] > 25
    assert 0.8 < result["metrics"]["ssim"] < 1
    assert "metrics_rss" not in result
    assert sorted(p.name for p in out.parent.iterdir()) == ["out.h5", "out.png"]
    with h5py.File(out) as file:
        assert file["reconstruction"].shape == (2, 64, 48)
        assert file["mask"][()].mean() == pytest.approx(1 / result["acceleration"])
        provenance = json.loads(file.attrs["provenance"])
    assert provenance["input"]["file"] == "scan.h5"
    assert len(provenance["input"]["sha256"]) == 64
    assert provenance["method"]["config"]["class_path"] == "mrirecon.classical.cg_sense.CGSense"
    assert provenance["options"]["seed"] == 0
    assert provenance["options"]["acceleration"] == 4
    assert str(tmp_path) not in json.dumps(provenance)


def test_a_fully_sampled_scan_becomes_its_image(write_scan, kspace: Kspace, tmp_path: Path, capsys) -> None:
    assert reconstruct(write_scan(), "-o", tmp_path / "out.h5", "--method", "zero-filled", "--complex") == 0
    assert "not a medical device" in capsys.readouterr().out
    rss = ifftc(torch.from_numpy(kspace)).abs().square().sum(dim=1).sqrt().numpy()
    with h5py.File(tmp_path / "out.h5") as file:
        image = file["reconstruction"][()]
        np.testing.assert_allclose(np.abs(file["complex"][()]), image, rtol=1e-5)
    inside = image > 0
    np.testing.assert_allclose(image[inside], rss[inside], atol=0.05 * rss.max())


def test_the_files_own_reference_is_a_column_of_its_own(write_scan, kspace: Kspace, tmp_path: Path, capsys) -> None:
    rss = ifftc(torch.from_numpy(kspace)).abs().square().sum(dim=1).sqrt().numpy()
    scan = write_scan(reconstruction_rss=rss)
    arguments = ["-o", tmp_path / "out.h5", "--method", "cg-sense", "--undersample", "random", "--acs", 12]
    assert reconstruct(scan, *arguments, "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert set(result["metrics_rss"]) == {"nmse", "psnr", "ssim"}
    assert 0.5 < result["metrics_rss"]["ssim"] < 1
    assert result["metrics_rss"] != result["metrics"]
    assert reconstruct(scan, *arguments) == 0
    assert "the file's reconstruction_rss" in capsys.readouterr().out


def test_a_checkpoint_is_all_a_network_needs(write_scan, tmp_path: Path, capsys) -> None:
    arguments = {"cascades": 1, "channels": 4, "time_steps": 2}
    checkpoint = tmp_path / "folder" / "small.safetensors"
    config = {"class_path": "mrirecon.models.cirim.CIRIM", "init_args": arguments}
    save_checkpoint(checkpoint, CIRIM(**arguments), config, "card")
    assert reconstruct(write_scan(), "-o", tmp_path / "out.h5", "--method", checkpoint, "--json") == 0
    assert json.loads(capsys.readouterr().out)["method"] == str(checkpoint)
    with h5py.File(tmp_path / "out.h5") as file:
        assert file["reconstruction"][()].any()
        provenance = json.loads(file.attrs["provenance"])
    assert provenance["method"] == {
        "name": "small.safetensors",
        "config": config,
        "checkpoint_sha256": hashlib.sha256(checkpoint.read_bytes()).hexdigest(),
    }
    assert str(tmp_path) not in json.dumps(provenance)


def test_prospective_data_needs_no_mask_and_has_no_metrics(write_scan, tmp_path: Path, capsys) -> None:
    def acquire(kspace: Kspace) -> Kspace:
        kspace[..., [i for i in range(48) if i % 3 and not 16 <= i < 32]] = 0
        return kspace

    scan = write_scan(edit=acquire)
    assert reconstruct(scan, "-o", tmp_path / "out.h5", "--method", "cg-sense", "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert "metrics" not in result
    assert result["acceleration"] > 1.5
    assert reconstruct(scan, "-o", tmp_path / "out.h5", "--undersample", "random") == 2
    assert one_sentence(capsys.readouterr().err)


def test_a_mask_file_undersamples_a_full_scan(write_scan, tmp_path: Path, capsys) -> None:
    mask = np.arange(48) % 3 == 0
    mask[16:32] = True
    np.save(tmp_path / "mask.npy", mask)
    arguments = ["-o", tmp_path / "out.h5", "--method", "cg-sense", "--mask", tmp_path / "mask.npy", "--json"]
    assert reconstruct(write_scan(), *arguments) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["acceleration"] == pytest.approx(48 / mask.sum())
    assert result["metrics"]["ssim"] > 0.8


def test_named_axes_and_maps(kspace: Kspace, tmp_path: Path, capsys) -> None:
    np.save(tmp_path / "scan.npy", kspace.transpose(2, 3, 0, 1))
    np.save(tmp_path / "maps.npy", np.full((4, 64, 48), 0.5 + 0j, dtype=np.complex64))
    arguments = ["--axes", "ky,kx,slice,coil", "--maps", tmp_path / "maps.npy", "--method", "zero-filled"]
    assert reconstruct(tmp_path / "scan.npy", "-o", tmp_path / "out.h5", *arguments, "--json") == 0
    assert json.loads(capsys.readouterr().out)["slices"] == 2
    with h5py.File(tmp_path / "out.h5") as file:
        expected = ifftc(torch.from_numpy(kspace)).mean(dim=1).abs().numpy() * 2
        np.testing.assert_allclose(file["reconstruction"][()], expected, atol=1e-6 * expected.max())


def test_images_are_cropped_to_the_headers_matrix(write_scan, kspace: Kspace, tmp_path: Path, capsys) -> None:
    def size(x: int, y: int) -> str:
        return f"<matrixSize><x>{x}</x><y>{y}</y><z>1</z></matrixSize>"

    fov = "<fieldOfView_mm><x>300</x><y>200</y><z>5</z></fieldOfView_mm>"
    header = (
        '<?xml version="1.0"?><ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD"><encoding>'
        f"<encodedSpace>{size(64, 48)}{fov}</encodedSpace><reconSpace>{size(32, 40)}{fov}</reconSpace>"
        "<encodingLimits><kspace_encoding_step_1><minimum>0</minimum><maximum>47</maximum><center>24</center>"
        "</kspace_encoding_step_1></encodingLimits></encoding></ismrmrdHeader>"
    )
    scan = write_scan(ismrmrd_header=np.bytes_(header))
    arguments = ["--method", "zero-filled", "--undersample", "equispaced", "--acs", "12"]
    assert reconstruct(scan, "-o", tmp_path / "out.h5", *arguments, "--json") == 0
    assert json.loads(capsys.readouterr().out)["metrics"]["ssim"] > 0.3
    with h5py.File(tmp_path / "out.h5") as file:
        assert file["reconstruction"].shape == (2, 32, 40)


def test_a_dead_coil_and_an_empty_slice_are_reconstructed_with_a_warning(write_scan, tmp_path: Path, capsys) -> None:
    def spoil(kspace: Kspace) -> Kspace:
        kspace[:, 1] = 0
        kspace[0] = 0
        return kspace

    scan = write_scan(edit=spoil)
    arguments = ["--method", "cs", "--undersample", "equispaced", "--acs", 12, "--json"]
    assert reconstruct(scan, "-o", tmp_path / "out.h5", *arguments) == 0
    result = json.loads(capsys.readouterr().out)
    assert len(result["warnings"]) == 2
    assert np.isfinite(list(result["metrics"].values())).all()
    with h5py.File(tmp_path / "out.h5") as file:
        assert np.isfinite(file["reconstruction"][()]).all()
        assert not file["reconstruction"][0].any()
        assert file["reconstruction"][1].any()


# --- what goes wrong: one sentence, its exit code, nothing left behind


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["-o", "out.png"], 2, r"Try -o .*out\.h5"),
        (["-o", "out.dcm"], 2, r"--formats dicom"),
        (["-o", "out.h5", "--formats", "nifti"], 2, "for folders"),
        (["-o", "out", "--formats", "jpeg"], 2, "no format 'jpeg'"),
        (["-o", "out", "--formats", "dicom"], 5, "where its slices lie"),
        (["-o", "out.h5", "--partial-fourier", "magic"], 2, "zero-fill, homodyne, pocs"),
        (["-o", "out.h5", "--skip", "breakfast"], 2, "no step 'breakfast'"),
        (["-o", "out.h5", "--compress-coils", "0"], 2, "whole number"),
        (["-o", "out.h5", "--compression", "geometric"], 2, "--compress-coils"),
        (["-o", "out.h5", "--reference-dicom", "m.dcm"], 2, "--formats dicom"),
        (["-o", "out.h5", "--volume", "echo-2"], 2, "no such volume"),
        (["-o", "out.h5", "--group", "dataset"], 2, "--group"),
        (["-o", "out.h5", "--noise", "none.npy"], 5, "none.npy"),
        (["-o", "scan.h5"], 2, "is an input"),
        (["-o", "folder.h5"], 2, "is a folder"),
        (["-o", "/proc/none/out.h5"], 8, "cannot be written"),
        (["-o", "scan.h5/out.h5"], 8, "cannot be written"),
        (["-o", "out.h5", "--method", "magic"], 2, "choose one of zero-filled, cg-sense, cs"),
        (["-o", "out.h5", "--method", "none.safetensors"], 7, "no such checkpoint"),
        (["-o", "out.h5", "--method", "scan.h5"], 7, "scan.h5"),
        (["-o", "out.h5", "--undersample", "spiral"], 2, "equispaced"),
        (["-o", "out.h5", "--undersample", "random", "--acceleration", "0"], 2, "at least 1"),
        (["-o", "out.h5", "--undersample", "random", "--mask", "m.npy"], 2, "one of them"),
        (["-o", "out.h5", "--acceleration", "8"], 2, "needs --undersample"),
        (["-o", "out.h5", "--axes", "ky,kx"], 2, "axes"),
        (["-o", "out.h5", "--key", "image"], 5, "no array 'image'"),
        (["-o", "out.h5", "--mask", "none.npy"], 5, "none.npy"),
        (["-o", "out.h5", "--maps", "none.npy"], 5, "none.npy"),
        (["-o", "out.h5", "--device", "tpu"], 2, "auto, cpu or cuda"),
    ],
)
def test_bad_arguments(
    write_scan, tmp_path: Path, monkeypatch, capsys, arguments: list[str], code: int, message: str
) -> None:
    write_scan()
    (tmp_path / "folder.h5").mkdir()
    monkeypatch.chdir(tmp_path)
    method = [] if "--method" in arguments else ["--method", "zero-filled"]
    assert reconstruct("scan.h5", *arguments, *method) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert one_sentence(captured.err)
    assert re.search(message, captured.err)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["folder.h5", "scan.h5"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_a_missing_gpu_is_a_usage_error(write_scan, tmp_path: Path, capsys) -> None:
    assert reconstruct(write_scan(), "-o", tmp_path / "out.h5", "--device", "cuda") == 2
    assert "no CUDA GPU" in capsys.readouterr().err


@pytest.mark.parametrize("option", [["--threads", "0"], ["--nonsense"], ["--acceleration", "fast"], []])
def test_arguments_that_do_not_parse(write_scan, option: list[str], capsys) -> None:
    assert reconstruct(write_scan(), *option) == 2
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("name", ["image.json", "image_complex.nii", "image_slice-0001.nii"])
def test_what_lies_beside_the_nifti_file_is_not_overwritten_either(write_scan, tmp_path: Path, capsys, name) -> None:
    scan = write_scan(name)
    content = scan.read_bytes()
    assert reconstruct(scan, "-o", tmp_path / "image.nii", "--complex", "--method", "zero-filled") == 2
    assert "would be overwritten" in capsys.readouterr().err
    assert scan.read_bytes() == content


def test_a_plain_file_is_no_folder_for_images(write_scan, tmp_path: Path, capsys) -> None:
    (tmp_path / "out").write_text("mine")
    assert reconstruct(write_scan(), "-o", tmp_path / "out", "--method", "zero-filled") == 2
    assert "is a file" in capsys.readouterr().err


def test_k_space_in_another_file_is_not_followed(write_scan, tmp_path: Path, capsys) -> None:
    write_scan("other.h5")
    with h5py.File(tmp_path / "link.h5", "w") as file:
        file["kspace"] = h5py.ExternalLink("other.h5", "kspace")
    assert reconstruct(tmp_path / "link.h5", "-o", tmp_path / "out.h5", "--method", "zero-filled") == 5
    assert "link to another file" in capsys.readouterr().err


def with_nan(kspace: Kspace) -> Kspace:
    kspace[1, 0, 3, 3] = np.nan
    return kspace


@pytest.mark.parametrize("edit", [with_nan, np.abs, np.zeros_like, lambda k: k[:, :0], lambda k: k[0, 0, 0]])
def test_bad_kspace(write_scan, tmp_path: Path, capsys, edit) -> None:
    assert reconstruct(write_scan(edit=edit), "-o", tmp_path / "out.h5", "--method", "zero-filled") == 5
    assert one_sentence(capsys.readouterr().err)
    assert [p.name for p in tmp_path.iterdir()] == ["scan.h5"]


def test_missing_and_truncated_files(write_scan, tmp_path: Path, capsys) -> None:
    scan = write_scan()
    (tmp_path / "cut.h5").write_bytes(scan.read_bytes()[:20_000])
    for name in ("none.h5", "cut.h5"):
        assert reconstruct(tmp_path / name, "-o", tmp_path / "out.h5", "--method", "zero-filled") == 5
        assert one_sentence(capsys.readouterr().err)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cut.h5", "scan.h5"]


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interruption_leaves_nothing(write_scan, tmp_path: Path, signum: signal.Signals, code: int) -> None:
    scan = write_scan(edit=lambda kspace: np.concatenate([kspace] * 300))
    command = [sys.executable, "-c", "import sys; from mrirecon.cli.main import main; sys.exit(main())"]
    process = subprocess.Popen(
        [*command, "reconstruct", scan, "-o", tmp_path / "out.h5", "--method", "cs", "--threads", "1"],
        stderr=subprocess.PIPE,
        text=True,
        # A shell's background jobs ignore SIGINT, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        deadline = time.monotonic() + 60
        while not list(tmp_path.glob(".out-*.h5")) and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(0.3)
        process.send_signal(signum)
        _, error = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == code
    assert one_sentence(error)
    assert [p.name for p in tmp_path.iterdir()] == ["scan.h5"]
