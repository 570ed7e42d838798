"""Finished work of a run: facts as JSON under the hash of all that decides them."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mrirecon import __version__
from mrirecon.atomic import atomic_path

#: Numbers of another version are other numbers.
VERSIONS = {"mrirecon": __version__, "torch": torch.__version__, "numpy": np.__version__}


def key_of(*facts: Any) -> str:
    """The first 20 hexadecimal digits of the SHA-256 of facts, plain values as of JSON, and of the versions."""
    text = json.dumps([VERSIONS, *facts], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def finished(path: Path) -> dict[str, Any] | None:
    """The facts in a file; None if the work has not been done, or the file is damaged, so that it is done again."""
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return facts if isinstance(facts, dict) else None


def keep(path: Path, facts: Mapping[str, Any]) -> None:
    """Write facts; the file appears whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(facts, indent=1), encoding="utf-8")
