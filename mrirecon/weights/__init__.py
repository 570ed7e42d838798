"""Models for use: safetensors files that carry their own config and model card, and the ones shipped with the package.

Checkpoint archives are opened here and nowhere else. Nothing that arrives from outside is unpickled.
"""

from pathlib import Path


def shipped_models() -> dict[str, Path]:
    """Name → file of the models that come with the package; the first is the default."""
    return {path.stem: path for path in sorted(Path(__file__).parent.glob("*.safetensors"))}
