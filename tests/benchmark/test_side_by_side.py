"""Another program's network beside ours: the same weights, what is compared, and what stands for recorded figures."""

import importlib
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from mrirecon.benchmark import atommic, networks, peer_program, side_by_side
from mrirecon.benchmark.atommic_peer import STAND_INS, StandIns
from mrirecon.benchmark.measure import Settings, Turns
from mrirecon.benchmark.peer import installed
from mrirecon.benchmark.run import SECTIONS
from mrirecon.benchmark.side_by_side import Case
from mrirecon.benchmark.targets import TARGETS
from mrirecon.models.importers import load_foreign

#: Instead of a network it has its weights and its image in a folder, with which it is filled in.
PEER = """
import json, shutil, sys
folder = sys.argv[3]
shutil.copy("{made}/weights.pt", folder)
print(json.dumps("ready"), flush=True)
for line in sys.stdin:
    if line == "infer\\n":
        shutil.copy("{made}/image.npy", folder)
    print(json.dumps(10**10), flush=True)
"""


def test_the_peers_weights_become_ours_and_the_images_are_compared(
    golden: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny: Settings
) -> None:
    data = np.load(golden / "atommic_cirim_indrnn.npz")
    weights = {key[3:]: torch.from_numpy(data[key]) for key in data.files if key.startswith("sd/")}
    measurement = atommic._data(tiny)
    with torch.no_grad():
        image = load_foreign("atommic", weights)(measurement)[-1].numpy()
    torch.save(weights, tmp_path / "weights.pt")
    np.save(tmp_path / "image.npy", 1.01 * image)
    program = tmp_path / "program.py"
    program.write_text(PEER.format(made=tmp_path))
    monkeypatch.setattr(side_by_side, "PROGRAM", program)

    case = Case("atommic", "ATOMMIC", "cirim", "CIRIM 2", lambda: measurement, training=True)
    measured = {r.name: r for r in side_by_side.side_by_side([case], replace(tiny, peers=Path(sys.executable)))}
    kinds = ["bf16", "bf16 checkpointed"]
    ours = [f"CIRIM 2, {what} {precision}" for what in ("inference", "training step") for precision in ("fp32", "bf16")]
    memory = [f"CIRIM 2, training step {kind}, {what}" for kind in kinds for what in ("tensors", "resident memory")]
    theirs = [f"{name}: ATOMMIC fp32" for name in ours + memory] + ["CIRIM 2, tensors: ATOMMIC"]
    assert set(measured) == {*ours, *memory, *theirs, "CIRIM 2, tensors"}
    assert all(found.samples for found in measured.values())
    assert all(measured[name].ratio for name in theirs)
    assert measured[ours[0]].note == "image differs from ATOMMIC's by 1e-02 of its maximum"
    small, large = (measured[f"CIRIM 2, training step {kind}, tensors"].median for kind in reversed(kinds))
    assert small < large


def test_a_network_answers_with_its_image_its_steps_and_its_memory(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.Linear(2, 1)
    inputs = torch.tensor([[1.0, 2.0]])
    actions = peer_program.network(model, lambda: model(inputs), tmp_path)
    before = torch.load(tmp_path / "weights.pt")
    assert set(before) == set(model.state_dict())
    actions["infer"]()
    np.testing.assert_allclose(np.load(tmp_path / "image.npy"), model(inputs).detach())
    actions["train"]()
    assert not torch.equal(model.weight, before["weight"])
    assert actions["tensors"]() > 0
    assert actions["train tensors"]() > actions["tensors"]()
    assert actions["resident"]() > 2**25


def test_stand_ins_are_there_for_what_is_named_and_for_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("hydra", "hydra.core.config_store", "hydraulics")
    for name in names:
        monkeypatch.delitem(sys.modules, name, raising=False)
    assert "hydra" in STAND_INS
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, StandIns()])
    try:
        store = importlib.import_module("hydra.core.config_store")
        store.ConfigStore.instance().store(name="anything")
        with pytest.raises(ModuleNotFoundError):
            importlib.import_module("hydraulics")
    finally:
        for name in [name for name in sys.modules if name.split(".")[0] == "hydra"]:
            del sys.modules[name]


def test_targets_are_those_of_networks_that_are_measured() -> None:
    names = {key.split("/")[1].split(",")[0] for key in TARGETS if key.startswith("atommic/")}
    assert names == {atommic.NETWORKS["cirim"]}


def test_recorded_figures_stand_only_where_the_program_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    times = {"fp32": Turns((1.0,)), "cirim, inference fp32": Turns((1.0,))}
    training = SimpleNamespace(module=SimpleNamespace(model=None))
    monkeypatch.setattr(networks, "Training", lambda *given: training)
    monkeypatch.setattr(networks, "convolution_flops", lambda training: (1, 1))
    monkeypatch.setattr(networks, "_inference", lambda *given: ([], times))
    for there in (False, True):
        monkeypatch.setattr(networks, "installed", lambda python, package, there=there: there)
        found = list(networks._network("cirim", {}, None, None, Settings(quick=True)))  # type: ignore[arg-type]
        assert [r.name for r in found] == ([] if there else ["cirim, inference fp32: ATOMMIC (recorded)"])


def test_a_package_is_found_in_its_python_only(tmp_path: Path) -> None:
    assert installed(Path(sys.executable), "torch")
    assert not installed(Path(sys.executable), "atommic")
    assert not installed(tmp_path / "none", "torch")
    assert not installed(None, "torch")


def test_without_an_environment_each_section_says_so_once(tiny: Settings) -> None:
    settings = replace(tiny, networks={name: {} for name in atommic.NETWORKS})
    for section, name in (("fastmri", "fastMRI's networks"), ("atommic", "ATOMMIC's networks")):
        (found,) = SECTIONS[section][1](settings)
        assert found.name == name
        assert "scripts/benchmark_peers.sh" in found.note
