import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mrirecon.batch import supervise

#: A batch whose reconstruction is that of a text file into capitals, so that it starts in a moment.
STAND_IN = """
import os, sys, time
from pathlib import Path
from mrirecon.batch import supervise
from mrirecon.batch.child import Failure
from mrirecon.batch.engine import Child, LocalEngine
from mrirecon.batch.folder import finish
from mrirecon.batch.inputs import find_inputs
from mrirecon.batch.ledger import Ledger
from mrirecon.batch.run import Batch
from mrirecon.batch.scan import Settings
from mrirecon.errors import InputError

def ready():
    return None

def reconstruct(one, work, key, signature, attempt):
    text = one.path.read_text()
    work.mkdir()
    (work / "image.txt").write_text(text.upper())
    time.sleep(0.1)
    if "growing" in text and attempt == 0:
        one.path.write_text(text.replace("growing", "grown"))
    if "vanishing" in text and not one.path.with_name("back.txt").exists():
        one.path.unlink()
        raise InputError(f"{one.path}: there is no such file.")
    if one.signature() != signature:
        raise Failure(5, "changed", passing="input/output", spoilt=False)
    if "bad" in text:
        raise InputError(f"{one.path}: is bad.")
    if "crash" in text:
        os.abort()
    if "hang" in text:
        time.sleep(1000)
    if "greedy" in text:
        raise MemoryError
    if "killed once" in text and attempt == 0:
        os.kill(os.getpid(), 9)
    volumes = [{"slices": 1}]
    facts = {"key": key, "verdict": "OK", "reasons": [], "volumes": volumes, "seconds": {"all": 0.02}}
    return finish(work, facts)

supervise.reconstruct = reconstruct

def main(source, out, seconds=60.0, workers=2):
    engine = LocalEngine([Child(ready, seconds=seconds) for _ in range(workers)])
    with Ledger(Path(out)) as ledger:
        batch = Batch(ledger, Settings("cs"), engine, lambda entry: print(entry, flush=True))
        try:
            batch.run(find_inputs([str(source)], None, None))
        finally:
            engine.close()
    return batch
"""


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The module of STAND_IN, which children can import, too."""
    folder = tmp_path / "modules"
    folder.mkdir()
    (folder / "batch_stand_in.py").write_text(STAND_IN)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("PYTHONPATH", str(folder))
    sys.modules.pop("batch_stand_in", None)
    monkeypatch.setattr(supervise, "reconstruct", supervise.reconstruct)  # put back afterwards: the import replaces it
    import batch_stand_in

    return batch_stand_in


@pytest.fixture
def start_stand_in(stand_in) -> Callable[[Path, Path], subprocess.Popen[bytes]]:
    """Starts that batch as a program of its own: arguments are the folder of scans, and the output."""

    def start(source: Path, out: Path) -> subprocess.Popen[bytes]:
        code = "import sys, batch_stand_in; batch_stand_in.main(*sys.argv[1:])"
        command = [sys.executable, "-c", code, str(source), str(out)]
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    return start


@pytest.fixture
def texts(tmp_path: Path) -> Callable[..., Path]:
    """Writes a folder of text files, name → text, and returns it."""

    def write(**files: str) -> Path:
        folder = tmp_path / "in"
        folder.mkdir(exist_ok=True)
        for name, text in files.items():
            (folder / f"{name}.dat").write_text(text)
        return folder

    return write
