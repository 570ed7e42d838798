from pathlib import Path
from types import SimpleNamespace

import pytest

from mrirecon.classical.compressed_sensing import CompressedSensing
from mrirecon.classical.zero_filled import ZeroFilled
from mrirecon.errors import CheckpointError, UsageError
from mrirecon.reconstruction import methods
from mrirecon.reconstruction.methods import CLASSICAL, default_method, method_by_name


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch) -> Path:
    """A model named `small` that is shipped as this file."""
    path = tmp_path / "small.safetensors"
    path.touch()
    checkpoint = SimpleNamespace(model=ZeroFilled().train(), config={"class_path": "small"}, card="", sha256="12ab")
    monkeypatch.setattr(methods, "shipped_models", lambda: {"small": path})
    monkeypatch.setattr("mrirecon.weights.checkpoint.load_checkpoint", lambda file, packages: {path: checkpoint}[file])
    return path


@pytest.mark.parametrize("name", CLASSICAL)
def test_classical_methods_are_ready_to_use(name: str) -> None:
    method = method_by_name(name)
    assert f"{type(method.reconstructor).__module__}.{type(method.reconstructor).__name__}" == CLASSICAL[name]
    assert not method.reconstructor.training
    assert method.sha256 is None


def test_the_config_says_how_a_classical_method_was_set_up() -> None:
    config = method_by_name("cs").config
    assert config["class_path"] == "mrirecon.classical.compressed_sensing.CompressedSensing"
    assert config["init_args"]["weight"] == CompressedSensing().weight


def test_shipped_models_have_names_and_paths(shipped: Path) -> None:
    for name in ("small", str(shipped)):
        method = method_by_name(name)
        assert method.name == name
        assert method.config == {"class_path": "small"}
        assert method.sha256 == "12ab"
        assert not method.reconstructor.training


def test_the_default_is_the_first_shipped_model_else_compressed_sensing(shipped: Path, monkeypatch) -> None:
    assert default_method() == "small"
    monkeypatch.setattr(methods, "shipped_models", dict)
    assert default_method() == "cs"


def test_an_unknown_name_lists_the_choices(shipped: Path) -> None:
    with pytest.raises(UsageError, match="zero-filled, cg-sense, cs, cs-sigpy, small, or give a checkpoint"):
        method_by_name("unet")


@pytest.mark.parametrize("name", ["none.safetensors", "folder/none"])
def test_a_missing_checkpoint_is_named(name: str) -> None:
    with pytest.raises(CheckpointError, match=name):
        method_by_name(name)


def test_a_checkpoint_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    path.write_bytes(b"PK\x03\x04 something else")
    with pytest.raises(CheckpointError, match=r"other\.safetensors"):
        method_by_name(str(path))
