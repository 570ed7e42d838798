"""The example in docs/models.md of a network of one's own works as it stands there."""

import os
import re
import subprocess
import sys
from pathlib import Path

DOCS = (Path(__file__).resolve().parents[2] / "docs" / "models.md").read_text(encoding="utf-8")


def block(language: str) -> str:
    (text,) = re.findall(rf"```{language}\n(.*?)```", DOCS, re.DOTALL)
    return text


def commands() -> list[list[str]]:
    """The indented commands at the end of the page, without PYTHONPATH."""
    text = DOCS.rpartition("```")[2].replace("\\\n", " ")
    return [line.split()[2:] for line in text.splitlines() if line.strip().startswith("PYTHONPATH=. mrirecon")]


def test_the_documented_example_trains_and_reconstructs(tmp_path: Path):
    (tmp_path / "my_networks").mkdir()
    (tmp_path / "my_networks" / "learned_descent.py").write_text(block("python"), encoding="utf-8")
    (tmp_path / "learned_descent.yaml").write_text(block("yaml"), encoding="utf-8")

    def mrirecon(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "mrirecon", *arguments],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": "."},
            capture_output=True,
            text=True,
        )

    made = mrirecon("simulate", "scan.h5", "--slices", "1", "--matrix", "64,64", "--coils", "4")
    assert made.returncode == 0, made.stderr
    train, reconstruct = commands()
    assert (train[0], reconstruct[0]) == ("train", "reconstruct")
    for arguments in (train, reconstruct):
        result = mrirecon(*arguments)
        assert result.returncode == 0, result.stderr
    assert (tmp_path / "image.h5").is_file()
    refused = mrirecon(*reconstruct[:-2])
    assert refused.returncode == 7
    assert "--allow-package my_networks" in refused.stderr
