"""Weights of other toolboxes, imported from the command line, reconstruct; what is not understood is refused."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from mrirecon.cli.main import main
from mrirecon.models.importers import load_foreign
from mrirecon.physics.measurement import Measurement
from mrirecon.weights.checkpoint import load_checkpoint

State = dict[str, torch.Tensor]


def unet(prefix: str, channels: int) -> State:
    """Weights of a U-Net of fastMRI with two pools and complex images."""
    torch.manual_seed(channels)
    shapes = {
        "down_sample_layers.0.layers.0": (channels, 2, 3, 3),
        "down_sample_layers.0.layers.4": (channels, channels, 3, 3),
        "down_sample_layers.1.layers.0": (2 * channels, channels, 3, 3),
        "down_sample_layers.1.layers.4": (2 * channels, 2 * channels, 3, 3),
        "conv.layers.0": (4 * channels, 2 * channels, 3, 3),
        "conv.layers.4": (4 * channels, 4 * channels, 3, 3),
        "up_transpose_conv.0.layers.0": (4 * channels, 2 * channels, 2, 2),
        "up_conv.0.layers.0": (2 * channels, 4 * channels, 3, 3),
        "up_conv.0.layers.4": (2 * channels, 2 * channels, 3, 3),
        "up_transpose_conv.1.layers.0": (2 * channels, channels, 2, 2),
        "up_conv.1.0.layers.0": (channels, 2 * channels, 3, 3),
        "up_conv.1.0.layers.4": (channels, channels, 3, 3),
        "up_conv.1.1": (2, channels, 1, 1),
    }
    weights = {f"{prefix}{name}.weight": torch.randn(shape) * 0.1 for name, shape in shapes.items()}
    return weights | {f"{prefix}up_conv.1.1.bias": torch.zeros(2)}


def varnet() -> State:
    """Weights of a small VarNet of fastMRI: two cascades of three channels, maps by two."""
    weights = unet("sens_net.norm_unet.unet.", 2)
    for cascade in range(2):
        weights[f"cascades.{cascade}.dc_weight"] = torch.ones(1)
        weights |= unet(f"cascades.{cascade}.model.unet.", 3)
    return weights


@pytest.fixture
def here(tmp_path: Path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def scan(here: Path) -> str:
    assert main(["simulate", "scan.h5", "--slices", "1", "--matrix", "48,40", "--coils", "3"]) == 0
    return "scan.h5"


def imported(*arguments: object) -> int:
    return main(["import-checkpoint", *map(str, arguments)])


def reconstructs(scan: str, method: str) -> bool:
    arguments = [scan, "-o", "image.h5", "--method", method, "--undersample", "equispaced", "--acs", "10"]
    assert main(["reconstruct", *arguments]) == 0
    with h5py.File("image.h5") as file:
        return bool(np.isfinite(file["reconstruction"][()]).all() and file["reconstruction"][()].max() > 0)


def test_an_archive_of_atommic_reconstructs(scan, golden, capsys) -> None:
    file = golden / "atommic_cirim_indrnn.atommic"
    assert imported(file, "--from", "atommic", "-o", "cirim.safetensors") == 0
    text = capsys.readouterr().out
    assert "CIRIM, 3,392 parameters" in text
    assert "ATOMMIC 1.0.1" in text
    assert "mrirecon reconstruct SCAN -o image.h5 --method cirim.safetensors" in text
    assert reconstructs(scan, "cirim.safetensors")


def test_a_lightning_checkpoint_of_fastmri_computes_the_same_as_its_state_dict(scan) -> None:
    state = {f"varnet.{key}": value for key, value in varnet().items()} | {"loss.w": torch.ones(1, 1, 7, 7)}
    torch.save({"state_dict": state, "hyper_parameters": {"num_cascades": 2, "chans": 3, "lr": 3e-4}}, "epoch=1.ckpt")
    assert imported("epoch=1.ckpt", "--from", "fastMRI", "-o", "varnet.safetensors") == 0
    assert reconstructs(scan, "varnet.safetensors")
    torch.manual_seed(0)
    mask = torch.ones(1, 1, 1, 20, dtype=torch.bool)
    measurement = Measurement(kspace=torch.randn(1, 3, 24, 20, dtype=torch.complex64), mask=mask, sensitivities=None)
    ours, theirs = load_checkpoint(Path("varnet.safetensors")).model, load_foreign("fastmri", varnet())
    with torch.inference_mode():
        assert torch.equal(ours(measurement)[-1], theirs(measurement)[-1])


def test_one_json_object_says_everything(here, capsys) -> None:
    torch.save({**varnet(), "loss.w": torch.ones(1)}, "varnet.pt")
    assert imported("varnet.pt", "--from", "fastmri", "--model", "VarNet", "-o", "v.safetensors", "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["output"] == "v.safetensors"
    assert facts["matched"]["cascades.1.dc_weight"] == "cascades.1.consistency.step"
    assert (facts["missing"], facts["unexpected"], facts["ignored"]) == ([], [], ["loss.w"])
    assert facts["parameters"] == sum(value.numel() for value in varnet().values())
    assert facts["init_args"]["cascades"] == 2
    assert len(facts["notes"]) == 1
    assert "mask_center" in facts["notes"][0]


def test_what_is_told_goes_before_what_is_stored(here, golden, capsys) -> None:
    file = golden / "atommic_cirim_indrnn.atommic"
    assert imported(file, "--from", "atommic", "--set", "time_steps=3", "-o", "m.safetensors", "--json") == 0
    assert json.loads(capsys.readouterr().out)["init_args"]["time_steps"] == 3
    Path("c.yaml").write_text("model: {model_name: CIRIM, time_steps: 12}")
    assert imported(file, "--from", "atommic", "--config", "c.yaml", "-o", "m.safetensors", "--json") == 0
    assert json.loads(capsys.readouterr().out)["init_args"]["time_steps"] == 16  # as the toolbox rounds it


def test_a_file_that_says_whose_it_is_is_believed(here, golden, capsys) -> None:
    assert imported(golden / "atommic_cirim_indrnn.atommic", "--from", "mridc", "-o", "m.safetensors") == 7
    assert "give --from atommic" in capsys.readouterr().err


def test_the_release_of_mridc_decides(here, golden, capsys) -> None:
    with np.load(golden / "mridc001_cirim_indrnn_implicit.npz") as file:
        state = {name[3:]: torch.from_numpy(file[name]) for name in file.files if name.startswith("sd/")}
    torch.save({"model": state}, "best_model.pt")
    for version, start in (("0.0.1", "previous"), ("0.3", "initial")):
        assert imported("best_model.pt", "--from", "mridc", "--version", version, "-o", "m.safetensors", "--json") == 0
        facts = json.loads(capsys.readouterr().out)
        assert facts["version"] == version
        assert facts["init_args"]["cascade_start"] == start


def test_the_card_says_where_the_weights_are_from(here, golden, capsys) -> None:
    assert imported(golden / "atommic_cirim_indrnn.atommic", "--from", "atommic", "-o", "m.safetensors") == 0
    capsys.readouterr()
    assert main(["models", "m.safetensors"]) == 0
    card = capsys.readouterr().out
    assert card.startswith("# CIRIM with weights of ATOMMIC")
    for words in ("ATOMMIC 1.0.1", "SHA-256", "3,392", "not a medical device", "Licence", "fill", "`conv_filters` [8"):
        assert words in card


def test_partial_matches_are_refused_unless_told(here, capsys) -> None:
    weights = varnet()
    del weights["cascades.1.model.unet.conv.layers.0.weight"]
    torch.save({**weights, "extra.weight": torch.ones(1)}, "part.pt")
    assert imported("part.pt", "--from", "fastmri", "-o", "p.safetensors", "--verbose") == 7
    captured = capsys.readouterr()
    assert "missing (not in the file)\n  cascades.1.network.unet.bottom.0.weight" in captured.out
    assert "unexpected (in the file, without a place here)\n  extra.weight" in captured.out
    assert "cascades.0.dc_weight → cascades.0.consistency.step" in captured.out
    assert captured.err.startswith("mrirecon: part.pt: 1 weights are missing and 1 have no place")
    assert not Path("p.safetensors").exists()
    assert imported("part.pt", "--from", "fastmri", "-o", "p.safetensors", "--partial") == 0
    assert "holds random numbers" in load_checkpoint(Path("p.safetensors")).card


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"cascades.0.dc_weight": torch.tensor([torch.nan])}, "NaN"),
        ({"cascades.0.model.unet.conv.layers.0.weight": torch.ones(1, 2, 3, 3)}, "U-Net|shape"),
        ({"note": "text"}, "'note'"),
    ],
)
def test_wrong_weights_are_one_sentence(here, capsys, change: dict, words: str) -> None:
    torch.save({**varnet(), **change}, "wrong.pt")
    assert imported("wrong.pt", "--from", "fastmri", "-o", "w.safetensors") == 7
    error = capsys.readouterr().err
    assert error.startswith("mrirecon: wrong.pt: ")
    assert error.count("\n") == 1
    assert any(word in error for word in words.split("|"))
    assert not Path("w.safetensors").exists()


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--from", "monai", "-o", "o.safetensors"], 2),
        (["--from", "fastmri", "-o", "o.pt"], 2),
        (["--from", "fastmri", "-o", "."], 2),
        (["--from", "fastmri", "-o", "o.safetensors", "--set", "time_steps"], 2),
        (["--from", "fastmri", "-o", "o.safetensors", "--set", "a=[1"], 2),
        (["--from", "fastmri"], 2),
        (["--from", "fastmri", "-o", "o.safetensors", "--config", "none.yaml"], 7),
        (["--from", "fastmri", "-o", "o.safetensors", "--model", "ResNet"], 7),
        (["--from", "atommic", "-o", "o.safetensors"], 7),
        (["--from", "fastmri", "-o", "/proc/o.safetensors"], 8),
    ],
)
def test_wrong_options_are_one_sentence(here, capsys, arguments: list[str], code: int) -> None:
    torch.save({"sens_net.x": torch.ones(1), "cascades.x": torch.ones(1)}, "v.pt")
    assert imported("v.pt", *arguments) == code
    error = capsys.readouterr().err
    assert error.startswith("mrirecon: ")
    assert error.count("\n") == 1


def test_the_input_is_not_overwritten(here, capsys) -> None:
    torch.save(varnet(), "v.safetensors")
    assert imported("v.safetensors", "--from", "fastmri", "-o", "v.safetensors") == 2
    assert "overwritten" in capsys.readouterr().err
