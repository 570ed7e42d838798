import json
import os
import pickle

import pytest
import torch
from safetensors.torch import save_file

from mrirecon.errors import CheckpointError
from mrirecon.models.cirim import CIRIM
from mrirecon.weights import shipped_models
from mrirecon.weights.checkpoint import FACTS, facts_of, load_checkpoint, save_checkpoint
from mrirecon.weights.intended import card_text

CONFIG = {"class_path": "mrirecon.models.cirim.CIRIM", "init_args": {"cascades": 1, "channels": 8, "time_steps": 2}}


@pytest.fixture
def saved(tmp_path):
    model = CIRIM(cascades=1, channels=8, time_steps=2)
    path = tmp_path / "model.safetensors"
    save_checkpoint(path, model, CONFIG, "# A card")
    return model, path


def rewritten(path, config, tensors=None):
    tensors = tensors or {"cascades.0.conv3.weight": torch.zeros(2, 8, 3, 3)}
    save_file(tensors, path, metadata={FACTS: facts_of(config, "")})
    return path


def test_a_saved_model_comes_back_whole(saved):
    model, path = saved
    loaded = load_checkpoint(path)
    assert loaded.config == CONFIG
    assert loaded.card == "# A card"
    assert len(loaded.sha256) == 64
    assert not loaded.model.training
    for (name, weight), (loaded_name, loaded_weight) in zip(
        model.state_dict().items(), loaded.model.state_dict().items(), strict=True
    ):
        assert name == loaded_name
        assert torch.equal(weight, loaded_weight)


def test_networks_that_were_told_of_checkpointing_still_load(saved, tmp_path):
    model, _ = saved
    told = {**CONFIG, "init_args": {**CONFIG["init_args"], "checkpoint_steps": True}}
    loaded = load_checkpoint(rewritten(tmp_path / "older.safetensors", told, model.state_dict()))
    assert loaded.config == CONFIG


def test_lightning_checkpoints_load_as_well(saved, tmp_path):
    model, _ = saved
    state = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    torch.save({"state_dict": state, FACTS: facts_of(CONFIG, "card")}, tmp_path / "last.ckpt")
    loaded = load_checkpoint(tmp_path / "last.ckpt").model
    assert torch.equal(loaded.cascades[0].conv2.weight, model.cascades[0].conv2.weight)


def test_code_from_outside_is_named_before_it_is_imported(tmp_path):
    for class_path in ("os.system", "subprocess.Popen", "torch.nn.Linear"):
        package = class_path.split(".")[0]
        with pytest.raises(CheckpointError, match=f"--allow-package {package}"):
            load_checkpoint(rewritten(tmp_path / "evil.safetensors", {"class_path": class_path, "init_args": {}}))
    nested = {**CONFIG, "init_args": {"unit": {"class_path": "os.system", "init_args": {"command": "true"}}}}
    with pytest.raises(CheckpointError, match="--allow-package os"):
        load_checkpoint(rewritten(tmp_path / "evil.safetensors", nested))


def test_only_reconstructors_of_ours_are_built(tmp_path):
    block = {"class_path": "mrirecon.models.blocks.recurrent.ConvGRU", "init_args": {"channels": 4}}
    with pytest.raises(CheckpointError, match="not a reconstructor"):
        load_checkpoint(rewritten(tmp_path / "block.safetensors", block))
    for arguments in ({"channels": -4}, ["channels"], {"nothing": 1}, {"unit": "lstm"}):
        with pytest.raises(CheckpointError):
            load_checkpoint(rewritten(tmp_path / "other.safetensors", {**CONFIG, "init_args": arguments}))
    for class_path in ("mrirecon.cli.main.main", "mrirecon.nothing.Here", "mrirecon.models.rim.torch", 7, "a b.c"):
        with pytest.raises(CheckpointError):
            load_checkpoint(rewritten(tmp_path / "other.safetensors", {"class_path": class_path, "init_args": {}}))


def test_allowed_packages_are_imported_but_must_be_networks(tmp_path):
    path = rewritten(tmp_path / "m.safetensors", {"class_path": "torch.nn.Linear", "init_args": {"in_features": 1}})
    with pytest.raises(CheckpointError):
        load_checkpoint(path, allow_packages=["torch"])


def test_a_pickle_is_never_executed(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "pwned"),)

    (tmp_path / "plain.ckpt").write_bytes(pickle.dumps(Evil()))
    torch.save({"state_dict": {}, "evil": Evil()}, tmp_path / "zip.ckpt")
    for name in ("plain.ckpt", "zip.ckpt"):
        with pytest.raises(CheckpointError, match=name):
            load_checkpoint(tmp_path / name)
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize("metadata", [None, {FACTS: "not json"}, {FACTS: "[]"}, {FACTS: json.dumps({"config": 3})}])
def test_weights_without_a_readable_config_are_refused(tmp_path, metadata):
    save_file({"w": torch.zeros(2)}, tmp_path / "w.safetensors", metadata=metadata)
    with pytest.raises(CheckpointError, match=r"w\.safetensors"):
        load_checkpoint(tmp_path / "w.safetensors")


def test_damaged_missing_and_ill_fitting_files_are_explained(saved, tmp_path):
    _, path = saved
    whole = path.read_bytes()
    for length in (0, 5, 100, len(whole) - 7):
        (tmp_path / "cut.safetensors").write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match="damaged"):
            load_checkpoint(tmp_path / "cut.safetensors")
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        load_checkpoint(tmp_path / "nothing.safetensors")
    with pytest.raises(CheckpointError, match="do not fit"):
        load_checkpoint(rewritten(tmp_path / "other.safetensors", CONFIG))


def test_shipped_models_load():
    for path in shipped_models().values():
        checkpoint = load_checkpoint(path)
        assert card_text(checkpoint.card).startswith("# ")
