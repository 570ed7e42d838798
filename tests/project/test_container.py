"""What the container's files promise, as far as reading them can show; scripts/container_check.sh runs the image."""

import os
import re
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

import mrirecon

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
FINAL_STAGE = DOCKERFILE.rpartition("\nFROM ")[2]
LABELS = dict(re.findall(r'org\.opencontainers\.image\.([\w.]+)="([^"]*)"', FINAL_STAGE))


def test_the_image_runs_mrirecon_as_another_user_than_root() -> None:
    assert re.search(r"^USER 1000:1000$", FINAL_STAGE, re.MULTILINE)
    assert 'ENTRYPOINT ["mrirecon"]' in FINAL_STAGE


def test_every_stage_starts_from_the_base_that_the_label_names() -> None:
    stages = re.findall(r"^FROM (\S+)(?: AS (\S+))?$", DOCKERFILE, re.MULTILINE)
    named = {name for _, name in stages}
    assert {base for base, _ in stages} - named == {LABELS["base.name"].removeprefix("docker.io/library/")}


def test_labels_are_those_of_the_package() -> None:
    assert LABELS["version"] == mrirecon.__version__
    assert {"title", "description", "revision", "licenses"} <= LABELS.keys()


@pytest.fixture(scope="module")
def service() -> dict[str, Any]:
    text = (ROOT / "compose.yaml").read_text(encoding="utf-8")
    return yaml.safe_load(text)["services"]["watch"]


def test_the_watch_service_has_no_root_no_network_and_writes_nothing_but_results(service: dict[str, Any]) -> None:
    assert service["command"] == ["batch", "/in", "-o", "/out", "--watch"]
    assert "1000:1000" in service["user"]
    assert service["network_mode"] == "none"
    assert service["read_only"]
    writable = [volume["target"] for volume in service["volumes"] if not volume.get("read_only")]
    assert writable == ["/out"]
    assert service["tmpfs"] == ["/tmp"]


def health(ledger: Path, age: float) -> int:
    """Exit code of the image's health check beside a process that holds a ledger touched `age` seconds ago."""
    command = re.search(r"^HEALTHCHECK .*?CMD (.*?[^\\])$", FINAL_STAGE, re.MULTILINE | re.DOTALL)
    assert command
    with ledger.open("w") as file, subprocess.Popen(["sleep", "60"], stdout=file) as holder:
        # Not all processes of this machine: others may hold ledgers, too.
        script = command[1].replace("\\\n", "").replace("/proc/[0-9]*", f"/proc/{holder.pid}")
        os.utime(ledger, (time.time() - age,) * 2)
        code = subprocess.run(["sh", "-c", script], check=False).returncode
        holder.kill()
    return code


def test_a_batch_is_healthy_while_it_touches_its_ledger(tmp_path: Path) -> None:
    assert health(tmp_path / "ledger.jsonl", age=5) == 0
    assert health(tmp_path / "ledger.jsonl", age=300) != 0


def test_a_process_without_a_ledger_is_healthy(tmp_path: Path) -> None:
    assert health(tmp_path / "image.h5", age=300) == 0
