from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data and golden files beside the project; tests that need it are skipped without it."""
    folder = ROOT.parent / "shared"
    if not folder.is_dir():
        pytest.skip("the folder of real data beside the project is absent")
    return folder


@pytest.fixture(scope="session")
def golden() -> Path:
    """Inputs, weights and outputs of other implementations (see tests/data/golden/README.md)."""
    return ROOT / "tests" / "data" / "golden"
