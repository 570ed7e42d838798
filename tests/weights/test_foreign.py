"""Files of other toolboxes open whole, and hostile or broken ones are refused with one sentence and run nothing."""

import argparse
import gzip
import io
import os
import pathlib
import pickle
import random
import sys
import tarfile
import types
import zipfile
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from mrirecon.errors import CheckpointError
from mrirecon.models.cirim import CIRIM
from mrirecon.weights.checkpoint import save_checkpoint
from mrirecon.weights.foreign import read_foreign

STATE = OrderedDict({"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.ones(2)})


class Evil:
    """A pickle of it makes a folder when it is loaded without care."""

    def __init__(self, folder: Path):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


class Unknown:
    pass


def saved(path: Path, contents: object, **options) -> Path:
    torch.save(contents, path, **options)
    return path


def archive(path: Path, members: dict[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def torch_bytes(contents: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(contents, buffer)
    return buffer.getvalue()


def same(state: dict[str, torch.Tensor], prefix: str = "") -> bool:
    return all(torch.equal(state[prefix + key], value) for key, value in STATE.items())


def refused(path: Path, words: str) -> None:
    with pytest.raises(CheckpointError, match=words) as caught:
        read_foreign(path)
    assert "\n" not in str(caught.value)
    assert path.name in str(caught.value)


def test_the_place_of_the_weights_is_found(tmp_path):
    bare = read_foreign(saved(tmp_path / "bare.pt", STATE))
    assert same(bare.state_dict)
    assert (bare.settings, bare.model, bare.version) == ({}, None, None)
    assert len(bare.sha256) == 64
    legacy = saved(tmp_path / "legacy", STATE, _use_new_zipfile_serialization=False)
    assert same(read_foreign(legacy).state_dict)
    save_file(dict(STATE), tmp_path / "named.bin")
    assert same(read_foreign(tmp_path / "named.bin").state_dict)


def test_lightning_checkpoints_bring_their_settings(tmp_path):
    contents = {"epoch": 3, "state_dict": STATE, "hyper_parameters": {"chans": 18, "lr": 1e-3}, "callbacks": {}}
    foreign = read_foreign(saved(tmp_path / "epoch=3.ckpt", contents))
    assert same(foreign.state_dict)
    assert foreign.settings == {"chans": 18, "lr": 1e-3}


def test_direct_checkpoints_with_numbers_of_numpy_bring_the_sensitivity_network(tmp_path):
    contents = {
        "model": STATE,
        "sensitivity_model": STATE,
        "optimizer": {"best": np.float32(0.5), "steps": np.int64(3)},
        "__version__": "2.1.0",
        "__author__": "somebody",
    }
    foreign = read_foreign(saved(tmp_path / "model_500.pt", contents))
    assert same(foreign.state_dict)
    assert same(foreign.state_dict, "sensitivity_model.")
    assert foreign.version == "2.1.0"
    assert len(foreign.state_dict) == 4


def test_the_first_mridc_stores_its_command_line_with_paths(tmp_path):
    arguments = argparse.Namespace(time_steps=8, no_dc=True, data_path=pathlib.PosixPath("/data/x"))
    contents = {"epoch": 1, "args": arguments, "model": STATE, "best_dev_loss": np.float64(0.1)}
    foreign = read_foreign(saved(tmp_path / "best_model.pt", contents))
    assert same(foreign.state_dict)
    assert foreign.settings == {"time_steps": 8, "no_dc": True, "data_path": {}}


def test_configurations_of_omegaconf_are_read_and_not_made(tmp_path, monkeypatch):
    """Made of classes of the same names and attributes; that package is not needed."""

    monkeypatch.setitem(sys.modules, "omegaconf", types.ModuleType("omegaconf"))

    def of(name: str, **attributes: object) -> object:
        module, _, short = name.rpartition(".")
        package = sys.modules.get(module) or types.ModuleType(module)
        monkeypatch.setitem(sys.modules, module, package)
        kind = getattr(package, short, None) or type(short, (), {"__module__": module})
        setattr(package, short, kind)
        made = kind()
        vars(made).update(attributes)
        return made

    def node(value: object) -> object:
        return of("omegaconf.nodes.AnyNode", _val=value, _metadata=of("omegaconf.base.Metadata", ref_type=Any))

    filters = of("omegaconf.listconfig.ListConfig", _content=[node(64), node(2)])
    content = {"model_name": node("CIRIM"), "time_steps": node(12), "conv_filters": filters}
    config = of("omegaconf.dictconfig.DictConfig", _content=content, _parent=None)
    saved(tmp_path / "last.ckpt", {"state_dict": STATE, "hyper_parameters": {"cfg": config}})
    assert type(config) is sys.modules["omegaconf.dictconfig"].DictConfig
    foreign = read_foreign(tmp_path / "last.ckpt")
    assert foreign.model == "CIRIM"
    assert foreign.settings["conv_filters"] == [64, 2]
    assert (foreign.settings["time_steps"], foreign.settings["time_steps_used"]) == (12, 16)


def test_settings_that_repeat_themselves_do_not_fill_the_memory(tmp_path):
    nested: list = []
    for _ in range(40):
        nested = [nested] * 10
    foreign = read_foreign(saved(tmp_path / "laughs.ckpt", {"state_dict": STATE, "hyper_parameters": {"a": nested}}))
    assert list(foreign.settings) == ["a"]


def test_archives_open_without_the_toolbox(golden):
    foreign = read_foreign(golden / "atommic_cirim_indrnn.atommic")
    with np.load(golden / "atommic_cirim_indrnn.npz") as file:
        weights = {name.removeprefix("sd/"): file[name] for name in file.files if name.startswith("sd/")}
    assert weights.keys() == foreign.state_dict.keys()
    assert all((foreign.state_dict[name].numpy() == value).all() for name, value in weights.items())
    assert (foreign.model, foreign.version) == ("CIRIM", "1.0.1")
    assert foreign.settings["recurrent_layer"] == "IndRNN"


def test_compressed_archives_open_as_well(tmp_path):
    members = {"./model_config.yaml": b"model_name: VN", "./model_weights.ckpt": torch_bytes(STATE)}
    foreign = read_foreign(archive(tmp_path / "a.mridc", members, "w:gz"))
    assert same(foreign.state_dict)
    assert foreign.model == "VN"


def test_a_yaml_beside_the_weights_gives_the_settings(tmp_path):
    weights = saved(tmp_path / "model.pt", {"model": STATE})
    (tmp_path / "config.yaml").write_text(
        "physics: {forward_operator: fft2(centered=False)}\n"
        "model: {model_name: rim.rim.RIM, length: 16}\n"
        "additional_models: {sensitivity_model: {num_filters: 8}}\n"
    )
    foreign = read_foreign(weights, tmp_path / "config.yaml")
    assert foreign.model == "rim.rim.RIM"
    assert foreign.settings["length"] == 16
    assert foreign.settings["forward_operator"] == "fft2(centered=False)"
    assert foreign.settings["sensitivity_model"] == {"num_filters": 8}


def test_a_pickle_is_never_executed(tmp_path):
    evil = Evil(tmp_path / "pwned")
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(evil))
    (tmp_path / "two.pt").write_bytes(pickle.dumps(evil, protocol=2))
    saved(tmp_path / "zip.pt", {"state_dict": STATE, "evil": evil})
    saved(tmp_path / "legacy.pt", {"model": evil}, _use_new_zipfile_serialization=False)
    members = {"model_config.yaml": b"a: 1", "model_weights.ckpt": torch_bytes(evil)}
    archive(tmp_path / "evil.atommic", members)
    for path in sorted(tmp_path.iterdir()):
        refused(path, "more than tensors|could run code")
    assert not (tmp_path / "pwned").exists()


def test_objects_of_other_packages_are_named_and_not_made(tmp_path):
    contents = {"state_dict": STATE, "hyper_parameters": Unknown()}
    refused(saved(tmp_path / "cfg.ckpt", contents), r"Unknown.*could run code.*--config")


def test_yaml_makes_no_objects(tmp_path):
    weights = saved(tmp_path / "model.pt", STATE)
    for number, text in enumerate(
        [
            f"!!python/object/apply:os.mkdir ['{tmp_path / 'pwned'}']",
            "a: [1",
            "- a list",
            "model: 3",
            "date: 2020-99-99",
            "[" * 1000,
            "\x00",
        ]
    ):
        config = tmp_path / f"{number}.yaml"
        config.write_text(text)
        with pytest.raises(CheckpointError, match=rf"{number}\.yaml: .*YAML"):
            read_foreign(weights, config)
    assert not (tmp_path / "pwned").exists()


def test_what_is_no_checkpoint_is_told_apart(tmp_path):
    contents = {
        "page.pt": (b"\n<!DOCTYPE html><html><body>Access denied</body></html>", "web page"),
        "denied.pt": (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "web page"),
        "pointer.pt": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        "text.pt": (b"hello", "no checkpoint"),
        "empty.pt": (b"", "empty"),
        "scan.h5": (b"\x89HDF\r\n\x1a\n" + bytes(600), "no checkpoint"),
    }
    for name, (content, words) in contents.items():
        (tmp_path / name).write_bytes(content)
        refused(tmp_path / name, words)
    refused(tmp_path, "folder")
    refused(tmp_path / "nothing.pt", "no such file")
    with zipfile.ZipFile(tmp_path / "download.zip", "w") as file:
        file.writestr("model_1.pt", "x")
    refused(tmp_path / "download.zip", r"model_1\.pt; unpack it")


def test_what_is_no_state_dict_is_refused(tmp_path):
    contents = {
        "list": [1, 2],
        "tensor": torch.ones(2),
        "nothing": {},
        "empty": {"state_dict": {}},
        "text": {"state_dict": {**STATE, "name": "text"}},
        "number": {1: torch.ones(2)},
        "sparse": {"a": torch.eye(3).to_sparse()},
        "nowhere": {"a": torch.ones(3, device="meta")},
        "huge": {"a": torch.ones(1).expand(2**40)},
    }
    for name, value in contents.items():
        with pytest.raises(CheckpointError, match=name):
            read_foreign(saved(tmp_path / name, value))


def test_our_own_checkpoints_are_recognised(tmp_path):
    arguments = {"cascades": 1, "channels": 8, "time_steps": 2}
    config = {"class_path": "mrirecon.models.cirim.CIRIM", "init_args": arguments}
    save_checkpoint(tmp_path / "ours.safetensors", CIRIM(**arguments), config, "")
    refused(tmp_path / "ours.safetensors", "use it as it is")


def test_archives_are_read_by_name_and_within_limits(tmp_path):
    config, weights = b"model_name: VN", torch_bytes(STATE)
    outside = {"../model_config.yaml": config, "/model_weights.ckpt": weights}
    refused(archive(tmp_path / "traversal.atommic", outside), r"without model_config\.yaml")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["traversal.atommic"]
    with tarfile.open(tmp_path / "link.atommic", "w") as tar:
        for name in ("model_config.yaml", "model_weights.ckpt"):
            link = tarfile.TarInfo(name)
            link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
            tar.addfile(link)
    refused(tmp_path / "link.atommic", r"without model_config\.yaml")
    long = {"model_config.yaml": b"a: b\n" * 300_000, "model_weights.ckpt": weights}
    refused(archive(tmp_path / "long.atommic", long), "larger than 1 MiB")
    wrong = {"model_config.yaml": b"!!python/name:os.system", "model_weights.ckpt": weights}
    refused(archive(tmp_path / "wrong.atommic", wrong), "YAML")


def test_bombs_are_refused_before_they_are_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr("mrirecon.weights.foreign.MAX_BYTES", 2**20)
    zeros = bytes(2**22)
    with gzip.open(tmp_path / "bomb.atommic", "wb") as file:
        file.write(zeros)
    refused(tmp_path / "bomb.atommic", "more than 1 MiB")
    with zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("archive/data.pkl", b"")
        file.writestr("archive/data/0", zeros)
    refused(tmp_path / "bomb.pt", "more than 1 MiB")
    header = tarfile.TarInfo("model_weights.ckpt")
    header.size = 2**40  # more than the file has
    config = tarfile.TarInfo("model_config.yaml")
    (tmp_path / "short.atommic").write_bytes(config.tobuf() + header.tobuf() + bytes(1024))
    refused(tmp_path / "short.atommic", "larger than|damaged")


def test_damage_is_explained_wherever_it_is(tmp_path, golden):
    whole = {
        "zip.pt": torch_bytes(STATE),
        "legacy.pt": saved(tmp_path / "x", STATE, _use_new_zipfile_serialization=False).read_bytes(),
        "a.atommic": (golden / "atommic_cirim_indrnn.atommic").read_bytes(),
        "b.atommic": gzip.compress((golden / "atommic_cirim_indrnn.atommic").read_bytes()),
    }
    rng = random.Random(0)
    for name, content in whole.items():
        for length in (1, 3, 100, len(content) // 3, len(content) // 2):
            (tmp_path / name).write_bytes(content[:length])
            refused(tmp_path / name, ".")
        for _ in range(40):  # some of these still open: what is changed may be a weight
            changed = bytearray(content)
            for place in rng.sample(range(min(len(changed), 2000)), 8):
                changed[place] = rng.randrange(256)
            (tmp_path / name).write_bytes(changed)
            with suppress(CheckpointError):
                read_foreign(tmp_path / name)
    for seed in range(100):
        head = rng.choice([b"", b"PK\x03\x04", b"\x80\x02", b"\x1f\x8b\x08", b"\x08\0\0\0\0\0\0\0{"])
        (tmp_path / "noise").write_bytes(head + random.Random(seed).randbytes(1000))
        refused(tmp_path / "noise", "noise")
