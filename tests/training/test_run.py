"""Training as a user runs it: resuming, several devices, starting from a checkpoint."""

import os
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch

from mrirecon.data.sampler import EpochSampler
from mrirecon.errors import CheckpointError, UsageError
from mrirecon.training.run import train
from mrirecon.weights.checkpoint import load_checkpoint

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
