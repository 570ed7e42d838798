"""A command loads what it needs and no more: PyTorch alone takes seconds. Never timed, but seen in sys.modules."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
#: Of these, a command may load only what is said below.
HEAVY = [
    "matplotlib",
    "nibabel",
    "numba",
    "PIL",
    "pydicom",
    "pytorch_lightning",
    "pywt",
    "scipy",
    "sigpy",
    "torch",
    "torch._dynamo",
    "torchmetrics",
    "twixtools",
]


def loaded_by(*commands: list[str]) -> list[tuple[int, set[str]]]:
    """Of each command, run one after the other in a fresh Python: exit code, and what of HEAVY is loaded after it."""
    code = f"""
import json, sys
from mrirecon.cli.main import main
results = []
for argv in {commands!r}:
    exit_code = main(argv)
    results.append((exit_code, [name for name in {HEAVY!r} if name in sys.modules]))
print("\\n" + json.dumps(results))
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    return [(exit_code, set(names)) for exit_code, names in json.loads(result.stdout.splitlines()[-1])]


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    """Fully sampled k-space of four coils."""
    rng = np.random.default_rng(0)
    image = np.zeros((1, 4, 32, 32), np.complex64)
    image[..., 8:24, 8:24] = rng.uniform(1, 2, (1, 4, 16, 16)) + 1j * rng.uniform(1, 2, (1, 4, 1, 1))
    kspace = np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(image, axes=(2, 3))), axes=(2, 3))
    np.save(tmp_path / "scan.npy", kspace.astype(np.complex64))
    return tmp_path / "scan.npy"


def test_help_loads_nothing_heavy() -> None:
    names = ["demo", "evaluate", "info", "manifest", "models", "reconstruct", "simulate"]
    for name, result in zip(names, loaded_by(*([name, "--help"] for name in names)), strict=True):
        assert (name, result) == (name, (0, set()))


def test_info_loads_nothing_heavy(scan: Path) -> None:
    kspace = np.load(scan)
    kspace[..., 1::2] = 0
    kspace[..., 12:20] = np.load(scan)[..., 12:20]
    undersampled = scan.with_name("undersampled.npy")
    np.save(undersampled, kspace)
    axes = ["--axes", "slice,coil,y,x"]
    assert loaded_by(["info", str(scan), *axes], ["info", str(undersampled), *axes]) == [(0, set())] * 2


def test_a_wrong_option_is_refused_before_pytorch_is_loaded(scan: Path) -> None:
    commands = [
        ["reconstruct", str(scan), "-o", str(scan.with_suffix(".h5")), "--undersample", "nonsense"],
        ["reconstruct", str(scan)],
        ["evaluate", str(scan), "-o", str(scan.parent / "out"), "--threads", "none"],
    ]
    assert loaded_by(*commands) == [(2, set())] * 3


def test_a_reconstruction_loads_its_own_method_and_writers_only(scan: Path) -> None:
    command = ["reconstruct", str(scan), "--axes", "slice,coil,y,x", "-o", str(scan.with_suffix(".h5")), "--method"]
    needed = {"torch", "PIL"}
    assert loaded_by([*command, "zero-filled"], [*command, "cs"]) == [
        (0, needed),
        (0, needed | {"numba", "pywt", "scipy"}),
    ]


def test_the_readers_do_without_pytorch() -> None:
    paths = (path.relative_to(ROOT) for path in (ROOT / "mrirecon" / "acquisition").glob("*.py"))
    names = [".".join(path.with_suffix("").parts).removesuffix(".__init__") for path in paths]
    code = f"import sys, {', '.join(names)}\nprint([name for name in {HEAVY!r} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert result.stdout.strip() == "[]"
