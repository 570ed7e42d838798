"""`mrirecon benchmark` from the command line."""

import json
import math
from pathlib import Path

import pytest

from mrirecon.benchmark.run import SECTIONS
from mrirecon.benchmark.targets import TARGETS
from mrirecon.cli.main import main


def test_a_run_from_the_command_line(tmp_path: Path, capsys) -> None:
    new, old = tmp_path / "new.json", tmp_path / "old.json"
    tiny = ["--quick", "--rounds", "1", "--coils", "2", "--matrix", "32", "--threads", "1", "--device", "cpu"]
    assert main(["benchmark", "--only", "espirit,cs,fastmri", *tiny, "--json", str(old)]) == 0
    assert main(["benchmark", "--only", "espirit", *tiny, "--compare", str(old), "--markdown", str(new)]) == 0
    text, progress = capsys.readouterr()
    assert progress.splitlines()[:3] == ["measuring espirit …", "measuring cs …", "measuring fastmri …"]
    assert "Compressed sensing" in text
    assert "name an environment" in " ".join(text.split())
    assert "beside the run of" in text
    assert new.read_text(encoding="utf-8").startswith("Measured 20")
    stored = json.loads(old.read_text(encoding="utf-8"))
    keys = [f"{r['section']}/{r['name']}" for r in stored["rows"]]
    assert len(keys) == len(set(keys))
    assert all(math.isfinite(sample) for r in stored["rows"] for sample in r["samples"])
    assert stored["machine"]["threads"] == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--only", "physics,cooking"], "no section 'cooking'; there are machine, physics"),
        (["--only", ","], "names nothing"),
        (["--networks", "evaluate"], "no 'evaluate'; there are cascadenet"),
        (["--networks", ""], "there are"),
        (["--matrix", "8"], "at least 32"),
        (["--coils", "1"], "at least 2"),
        (["--peers", "/nowhere/python"], "benchmark_peers.sh"),
        (["--device", "tpu"], "choose auto, cpu or cuda"),
        (["--rounds", "0"], "--rounds 0"),
    ],
)
def test_wrong_options_are_explained(arguments: list[str], said: str, capsys) -> None:
    assert main(["benchmark", *arguments]) == 2
    assert said in capsys.readouterr().err


def test_an_output_that_cannot_be_written_is_refused_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert main(["benchmark", "--json", str(tmp_path / "file" / "r.json")]) == 8
    assert main(["benchmark", "--markdown", str(tmp_path)]) == 2


def test_sections_have_names_that_targets_use() -> None:
    assert {key.partition("/")[0] for key in TARGETS} <= SECTIONS.keys()
