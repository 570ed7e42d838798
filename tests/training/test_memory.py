"""The memory that is told before a run is what a training step takes."""

from copy import deepcopy
from types import SimpleNamespace

import pytest
import torch

from mrirecon.data.batch import make_example
from mrirecon.data.datamodule import ScanData, SimulatedData
from mrirecon.data.index import Volume
from mrirecon.data.simulated import Scanner
from mrirecon.memory import peak_bytes
from mrirecon.models.cirim import CIRIM
from mrirecon.models.e2evn import E2EVN
from mrirecon.models.sensitivity import LearnedSensitivities
from mrirecon.training.memory import MemoryReport, step_bytes
from mrirecon.training.module import ReconstructionModule

SHAPE = 2, 2, 80, 64


def small_cirim():
    return CIRIM(2, channels=16, time_steps=3), {}


def small_e2evn():
    return LearnedSensitivities(E2EVN(2, 4, 1), 4, 1), {"ssim_share": 1.0}


def bytes_of_two_steps(module: ReconstructionModule, shape: tuple[int, int, int, int]) -> int:
    kspace = torch.randn(shape, dtype=torch.complex64)
    mask = torch.ones(shape[0], 1, *shape[2:], dtype=torch.bool)
    mask[..., ::3, ::2] = False
    mask[..., shape[2] // 2 - 12 : shape[2] // 2 + 12, shape[3] // 2 - 12 : shape[3] // 2 + 12] = True

    def two_steps() -> None:
        model = deepcopy(module.model).train()
        optimiser = torch.optim.Adam(model.parameters(), fused=True)
        for _ in range(2):
            batch = {"kspace": kspace.clone(), "mask": mask.clone(), "volume": torch.zeros(shape[0])}
            loss = module.loss_of(model, make_example(batch))
            optimiser.zero_grad()
            with torch.autocast("cpu", enabled=False):
                loss.backward()
            optimiser.step()

    return peak_bytes(two_steps)


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("checkpoint", [False, True])
@pytest.mark.parametrize("make", [small_cirim, small_e2evn])
def test_the_estimate_from_small_slices_is_close_to_the_truth(make, checkpoint, half):
    model, options = make()
    module = ReconstructionModule(model, checkpoint=checkpoint, **options)
    with torch.autocast("cpu", torch.bfloat16, enabled=half, cache_enabled=False):
        assert step_bytes(module, SHAPE) == pytest.approx(bytes_of_two_steps(module, SHAPE), rel=0.15)


def test_estimating_leaves_no_traces():
    module = ReconstructionModule(CIRIM(1, channels=8, time_steps=2))
    module.model.tally = torch.nn.BatchNorm2d(2)
    before, state = deepcopy(module.state_dict()), torch.get_rng_state()
    step_bytes(module, SHAPE)
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
    assert all(parameter.grad is None for parameter in module.parameters())
    assert torch.equal(torch.get_rng_state(), state)


def test_the_largest_slice_is_that_of_the_scanner_or_of_the_scans(tmp_path, monkeypatch):
    data = SimulatedData(scanner=Scanner(matrix=(64, 48), coils=(2, 7)))
    assert data.largest_slice() == (7, 64, 48)

    def volume(*shape):
        return Volume(tmp_path, 0, shape, None, 1.0, ((0, 1), (0, 1)), False)

    volumes = [volume(9, 4, 64, 48), volume(2, 8, 64, 32), volume(99, 2, 64, 64)], []
    monkeypatch.setattr(ScanData, "_volumes", volumes)
    assert ScanData([], []).largest_slice() == (8, 64, 32)
    assert ScanData([], [], matrix=(32, 32)).largest_slice() == (8, 32, 32)


@pytest.mark.parametrize(
    ("checkpoint", "cure"),
    [(False, "try --model.checkpoint true, a smaller --data.batch_size"), (True, "try a smaller --data.batch_size")],
)
def test_what_does_not_fit_is_told_with_the_cure(checkpoint, cure, monkeypatch, capsys):
    module = ReconstructionModule(CIRIM(1, channels=8, time_steps=2), checkpoint=checkpoint)
    data = SimulatedData(scanner=Scanner(matrix=(48, 32), coils=(2, 3)), batch_size=2)
    plugin = SimpleNamespace(forward_context=torch.no_grad)
    trainer = SimpleNamespace(datamodule=data, is_global_zero=True, precision_plugin=plugin)
    MemoryReport().on_fit_start(trainer, module)
    assert "GB for a batch of 2 × 3 coils × 48 × 32; there are" in capsys.readouterr().err
    monkeypatch.setattr("mrirecon.training.memory.device_bytes", lambda device: 10**6)
    MemoryReport().on_fit_start(trainer, module)
    assert f"too little: {cure}" in capsys.readouterr().err
