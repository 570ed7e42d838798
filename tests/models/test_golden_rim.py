"""The RIM family computes what its author's toolboxes compute, from the same weights."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from mrirecon.models.importers.atommic import cirim_from_atommic
from mrirecon.physics.measurement import Measurement

CASES = [
    "atommic_rim_gru_8t",
    "atommic_cirim_indrnn",
    "atommic_cirim_gru",
    "atommic_cirim_mgu",
    "atommic_cirim_indrnn_k3",
    "mridc001_cirim_indrnn_implicit",
    "mridc001_cirim_gru_implicit",
    "mridc001_cirim_mgu_implicit",
    "mridc001_rim_gru_k3_implicit",
]


def load(path: Path):
    data = np.load(path)
    meta = json.loads(str(data["meta"]))

    def complex_tensor(name):
        return torch.view_as_complex(torch.from_numpy(data[name])) if name in data else None

    measurement = Measurement(
        kspace=complex_tensor("in/y"),
        mask=torch.from_numpy(data["in/mask"])[..., 0] != 0,
        sensitivities=complex_tensor("in/sens"),
        initial_image=complex_tensor("in/init"),
    )
    settings = meta["hyperparameters"]
    model = cirim_from_atommic(
        {k.removeprefix("sd/"): torch.from_numpy(data[k]) for k in data.files if k.startswith("sd/")},
        settings,
        time_steps=meta.get("time_steps_used", settings["time_steps"]),
        release=meta["peer"] + meta.get("tag", "").removeprefix("v.").replace(".", ""),
    )
    return model, measurement, complex_tensor("out/steps"), complex_tensor("out/final"), data


@pytest.mark.parametrize("case", CASES)
def test_every_estimate_equals_the_peers(case: str, golden: Path):
    model, measurement, steps, final, _ = load(golden / f"{case}.npz")
    model.train()
    with torch.no_grad():
        estimates = torch.stack(model(measurement))
        torch.testing.assert_close(estimates, steps.flatten(0, 1), rtol=0, atol=1e-5)
        (answer,) = model.eval()(measurement)
    torch.testing.assert_close(answer, final, rtol=0, atol=1e-5)


def test_explicit_checkpoints_of_the_author_are_refused():
    with pytest.raises(ValueError, match="explicit data consistency"):
        cirim_from_atommic({}, {"no_dc": False}, time_steps=8, release="atommic")
