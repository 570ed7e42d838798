"""Training as a user runs it: resuming, several devices, starting from a checkpoint."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import nibabel
import numpy as np
import pytest
import torch
import yaml

from mrirecon.data.batch import Example
from mrirecon.data.sampler import EpochSampler
from mrirecon.errors import CheckpointError, UsageError
from mrirecon.models.cirim import CIRIM
from mrirecon.models.rim import IRIM, RIM
from mrirecon.physics.measurement import Measurement
from mrirecon.training.module import ReconstructionModule
from mrirecon.training.run import as_cascades, train
from mrirecon.weights.checkpoint import load_checkpoint, save_checkpoint

pytestmark = pytest.mark.filterwarnings("ignore")

CONFIG = Path(__file__).resolve().parents[2] / "configs" / "cirim.yaml"


@pytest.fixture(scope="module")
def volume(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("images") / "head.nii.gz"
    y, x, z = np.mgrid[-1:1:56j, -1:1:56j, -1:1:4j]
    image = 1000 * (y**2 + x**2 < 0.8) * (1 + 0.4 * np.sin(9 * x + 3 * z) * np.cos(7 * y))
    nibabel.save(nibabel.Nifti1Image(image.astype(np.int16), np.eye(4)), path)
    return path


def arguments(volume: Path, output: Path, *more: str) -> list[str]:
    small = {
        "model.model.channels": 4,
        "model.model.cascades": 1,
        "model.model.time_steps": 2,
        "data.images": f"[{volume}]",
        "data.val_images": f"[{volume}]",
        "data.scanner.matrix": "[48, 48]",
        "data.scanner.coils": "[2, 3]",
        "data.scanner.undersampling.acceleration": "[2, 3]",
        "data.scanner.undersampling.acs": "[10, 12]",
        "data.val_matrix": "[48, 48]",
        "data.examples": 4,
        "data.val_examples": 2,
        "trainer.max_epochs": 4,
        "trainer.precision": "32-true",
        "trainer.accelerator": "cpu",
        "trainer.enable_progress_bar": "false",
        "trainer.enable_model_summary": "false",
        "trainer.log_every_n_steps": 1,
        "output": output,
    }
    return ["--config", str(CONFIG), *(f"--{name}={value}" for name, value in small.items()), *more]


def weights(checkpoint: Path) -> dict[str, torch.Tensor]:
    return load_checkpoint(checkpoint).model.state_dict()


def test_a_resumed_run_ends_bit_for_bit_like_an_uninterrupted_one(volume, tmp_path, monkeypatch):
    torch.set_num_threads(1)
    train(arguments(volume, tmp_path / "whole"))

    set_epoch = EpochSampler.set_epoch

    def interrupt(self, epoch):
        if epoch == 2:
            raise KeyboardInterrupt
        set_epoch(self, epoch)

    with monkeypatch.context() as patch:
        patch.setattr(EpochSampler, "set_epoch", interrupt)
        with pytest.raises(KeyboardInterrupt):
            train(arguments(volume, tmp_path / "halves"))
    halfway = weights(tmp_path / "halves" / "last.ckpt")
    train(arguments(volume, tmp_path / "halves", f"--ckpt_path={tmp_path / 'halves' / 'last.ckpt'}"))

    whole, resumed = weights(tmp_path / "whole" / "last.ckpt"), weights(tmp_path / "halves" / "last.ckpt")
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert not all(torch.equal(whole[name], halfway[name]) for name in whole)
    assert (tmp_path / "whole" / "config.yaml").is_file()
    assert list((tmp_path / "whole").glob("events.out.tfevents*"))


def test_the_best_model_is_kept_when_later_ones_are_worse(volume, tmp_path):
    best = train(arguments(volume, tmp_path, "--model.learning_rate=10"))
    assert "ssim" in load_checkpoint(best).card
    last = weights(tmp_path / "last.ckpt")
    assert not all(torch.equal(tensor, last[name]) for name, tensor in weights(best).items())


def test_init_starts_from_another_models_weights(volume, tmp_path):
    first = train(arguments(volume, tmp_path / "first", "--trainer.max_epochs=1"))
    frozen = ["--trainer.max_epochs=1", "--model.learning_rate=0", f"--init={first}"]
    second = train(arguments(volume, tmp_path / "second", *frozen))
    assert all(torch.equal(tensor, weights(second)[name]) for name, tensor in weights(first).items())
    assert "init: null" in (tmp_path / "second" / "config.yaml").read_text()
    with pytest.raises(UsageError, match="one of them"):
        train(arguments(volume, tmp_path / "third", f"--init={first}", f"--ckpt_path={first}"))
    with pytest.raises(CheckpointError, match="another network"):
        train(arguments(volume, tmp_path / "third", "--model.model.channels=8", f"--init={first}"))


def test_a_share_of_the_start_stays_in_the_model_that_is_kept(volume, tmp_path):
    first = train(arguments(volume, tmp_path / "first", "--trainer.max_epochs=1"))
    output = tmp_path / "second"

    def mixed_as_told(epochs: int, *more: str) -> None:
        kept = weights(train(arguments(volume, output, f"--trainer.max_epochs={epochs}", "--init_share=0.75", *more)))
        trained = weights(output / "last.ckpt")
        for name, start in weights(first).items():
            torch.testing.assert_close(kept[name], 0.75 * start + 0.25 * trained[name])
        assert any(not torch.equal(trained[name], start) for name, start in weights(first).items())

    mixed_as_told(1, f"--init={first}")
    checkpoint = torch.load(output / "last.ckpt", weights_only=True)
    checkpoint["callbacks"]["BestModel"]["best"] = -1.0  # so that the resumed run keeps a model
    torch.save(checkpoint, tmp_path / "resumed.ckpt")
    mixed_as_told(2, f"--ckpt_path={tmp_path / 'resumed.ckpt'}")
    with pytest.raises(UsageError, match="--init_share"):
        train(arguments(volume, tmp_path / "fourth", "--init_share=0.5"))


def test_a_cirim_starts_from_a_shorter_one_or_from_an_irim(volume, tmp_path):
    shape = {"channels": 4, "time_steps": 2}
    cirim = CIRIM(cascades=2, **shape)
    irim = IRIM(**shape)
    config = {"class_path": "mrirecon.models.rim.IRIM", "init_args": shape}
    save_checkpoint(tmp_path / "irim.safetensors", irim, config, "")
    more = ["--model.model.cascades=3", "--trainer.max_epochs=1", "--model.learning_rate=0"]
    grown = train(arguments(volume, tmp_path / "grown", *more, f"--init={tmp_path / 'irim.safetensors'}"))
    for name, tensor in weights(grown).items():
        assert torch.equal(tensor, irim.state_dict()["cascade." + name.split(".", 2)[2]])
    longer = as_cascades(cirim.state_dict(), 4)
    assert torch.equal(longer["cascades.0.conv1.weight"], cirim.cascades[0].conv1.weight)
    assert all(torch.equal(longer[f"cascades.{k}.conv1.weight"], cirim.cascades[1].conv1.weight) for k in (1, 2, 3))


def test_frozen_cascades_stay_and_the_others_learn_what_they_would(volume, tmp_path):
    more = ["--model.model.cascades=2", "--trainer.max_epochs=1", "--model.warmup_steps=0"]
    start = train(arguments(volume, tmp_path / "start", *more))
    trained = weights(
        train(arguments(volume, tmp_path / "next", *more, f"--init={start}", "--model.frozen_cascades=1"))
    )
    for name, tensor in weights(start).items():
        assert torch.equal(tensor, trained[name]) == name.startswith("cascades.0."), name
    with pytest.raises(UsageError, match="one must be left to train"):
        train(arguments(volume, tmp_path / "none", *more, "--model.frozen_cascades=2"))


def test_the_loss_of_frozen_cascades_does_not_count(volume, tmp_path):
    torch.manual_seed(0)
    whole = CIRIM(cascades=2, channels=4, time_steps=2)
    kspace = torch.randn(1, 2, 16, 16, dtype=torch.complex64)
    maps = torch.full_like(kspace, 0.5**0.5)
    batch = Example(Measurement(kspace, torch.ones(1, 1, 16, 16, dtype=torch.bool), maps), kspace[:, 0], torch.zeros(1))
    last_two = whole.train()(batch.measurement)[2:]
    module = ReconstructionModule(whole, frozen_cascades=1)
    torch.testing.assert_close(module.loss_of(whole, batch), module.total_loss(last_two, batch.target))


@pytest.mark.slow
@pytest.mark.smoke
def test_two_processes_train_like_one_with_the_same_global_batch(volume, tmp_path):
    def run(output: Path, devices: int, batch_size: int) -> dict[str, torch.Tensor]:
        more = [f"--trainer.devices={devices}", f"--data.batch_size={batch_size}", "--trainer.strategy=ddp"]
        # Adam makes whole steps of the rounding noise in gradients that vanish; they are kept below the tolerance.
        more += ["--model.learning_rate=1e-4", "--model.warmup_steps=0", "--trainer.max_epochs=2"]
        command = [sys.executable, "-m", "mrirecon", "train", *arguments(volume, output, *more)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        return weights(output / "last.ckpt")

    one, two = run(tmp_path / "one", 1, 2), run(tmp_path / "two", 2, 1)
    started = train(arguments(volume, tmp_path / "start", "--model.learning_rate=0", "--trainer.max_epochs=1"))
    for name, start in weights(started).items():
        torch.testing.assert_close(two[name], one[name], rtol=0, atol=1e-5)
        assert (one[name] - start).abs().max() > 1e-4


def older(tmp_path, told) -> Path:
    """A config file as they were when checkpointing was an argument of the network."""
    config = yaml.safe_load(CONFIG.read_text())
    config["model"]["model"]["init_args"]["checkpoint_steps"] = told
    (tmp_path / "older.yaml").write_text(yaml.safe_dump(config))
    return tmp_path / "older.yaml"


@pytest.mark.parametrize("told", [True, False])
def test_older_configs_still_say_whether_to_checkpoint(volume, tmp_path, told):
    _, _, *rest = arguments(volume, tmp_path / "run", "--trainer.max_epochs=1")
    train([f"--config={older(tmp_path, told)}", *rest])
    model = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["model"]
    assert model["checkpoint"] is told
    assert "checkpoint_steps" not in model["model"]["init_args"]


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_every_precision_trains_with_clipped_gradients(volume, tmp_path, precision):
    more = [f"--trainer.precision={precision}", "--trainer.max_epochs=1", "--model.checkpoint=true"]
    best = train(arguments(volume, tmp_path, *more))
    assert all(tensor.isfinite().all() and tensor.dtype == torch.float32 for tensor in weights(best).values())
    (group,) = torch.load(tmp_path / "last.ckpt", weights_only=True)["optimizer_states"][0]["param_groups"]
    assert group["fused"] is True


def test_with_a_loss_scaler_the_optimiser_is_not_fused(monkeypatch):
    # On a CPU Lightning makes bf16-mixed of 16-mixed.
    trainer = SimpleNamespace(precision="16-mixed", estimated_stepping_batches=10)
    monkeypatch.setattr(ReconstructionModule, "trainer", trainer)
    optimiser = ReconstructionModule(RIM(channels=4, time_steps=1)).configure_optimizers()["optimizer"]
    assert optimiser.defaults["fused"] is False


def test_a_fused_step_is_the_plain_one():
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(1000, generator=generator)
    plain, fused = (torch.nn.Parameter(start.clone()) for _ in range(2))
    optimisers = [torch.optim.Adam([plain], lr=1e-2), torch.optim.Adam([fused], lr=1e-2, fused=True)]
    for _ in range(5):
        gradient = torch.randn(1000, generator=generator)
        for parameter, optimiser in zip((plain, fused), optimisers, strict=True):
            parameter.grad = gradient.clone()
            optimiser.step()
    torch.testing.assert_close(fused, plain, rtol=1e-5, atol=1e-6)
