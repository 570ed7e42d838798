"""`mrirecon models` lists what there is, with the parameter counts of the papers."""

import json
from pathlib import Path

import pytest
import torch

from mrirecon.cli.configs import shipped_configs
from mrirecon.cli.main import main
from mrirecon.cli.models import IMPORTABLE
from mrirecon.errors import CheckpointError
from mrirecon.models.importers import SOURCES, translate
from mrirecon.weights import shipped_models

#: Parameters at the papers' settings, by the name of the config.
PAPERS = {
    "cirim": 264_960,
    "rim_gru": 94_080,
    "rim_mgu": 77_568,
    "irim": 52_992,
    "unet": 1_860_866,
    "e2evn": 19_634_712 + 484_898,
}


@pytest.fixture(scope="module")
def facts() -> dict:
    import contextlib
    import io

    with contextlib.redirect_stdout(io.StringIO()) as stdout:
        assert main(["models", "--json"]) == 0
    return json.loads(stdout.getvalue())


def test_parameters_are_those_of_the_papers(facts) -> None:
    counted = {config["name"]: config["parameters"] for config in facts["configs"]}
    assert {name: counted[name] for name in PAPERS} == PAPERS


def test_every_config_that_trains_is_listed_with_its_data_consistency(facts) -> None:
    listed = {config["name"]: config for config in facts["configs"]}
    assert listed.keys() == shipped_configs().keys() - {"evaluate"}
    assert listed["cirim"]["data_consistency"] == "implicit"
    assert listed["unet"]["data_consistency"] == "none"
    assert listed["demo"]["data_consistency"] == "implicit"  # by default, not in the file


def test_shipped_models_are_listed_and_their_cards_printed(facts, capsys) -> None:
    (name, path), *_ = shipped_models().items()
    model = facts["shipped"][0]
    assert (model["name"], model["parameters"], model["file"]) == (name, 264_965, str(path))
    assert main(["models", name]) == 0
    assert capsys.readouterr().out.startswith(f"# {name}\n")
    assert main(["models", name, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["card"].startswith(f"# {name}\n")
    assert told["intended"]["coils"] == [1, 32]


def test_the_text_is_for_people(capsys) -> None:
    assert main(["models"]) == 0
    text = capsys.readouterr().out
    assert "264,960" in text
    assert "mrirecon import-checkpoint FILE --from TOOLBOX" in text
    assert all(len(line) <= 150 for line in text.replace(str(Path.cwd()), "").splitlines())


def test_what_is_said_to_be_importable_is_known_to_the_importers() -> None:
    assert IMPORTABLE.keys() == set(SOURCES)
    for toolbox, networks in IMPORTABLE.items():
        for network in networks:
            with pytest.raises(CheckpointError) as known:
                translate(toolbox, {"a": torch.ones(1)}, model=network)
            with pytest.raises(CheckpointError) as unknown:
                translate(toolbox, {"a": torch.ones(1)}, model="Nothing")
            assert str(known.value).replace(network, "Nothing") != str(unknown.value) or toolbox == "fastmri"


def test_an_unknown_name_lists_the_known_ones(capsys) -> None:
    assert main(["models", "nothing"]) == 2
    assert "irim" in capsys.readouterr().err
