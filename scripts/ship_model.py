"""Put a trained model into the package: weights and config of a checkpoint, with its model card.

python scripts/ship_model.py runs/shipped_cirim/best.safetensors docs/model_cards/cirim.md
"""

import sys
from pathlib import Path

import mrirecon.weights
from mrirecon.weights.checkpoint import load_checkpoint, save_checkpoint


def main() -> None:
    """Write mrirecon/weights/NAME.safetensors, NAME being the card's file name."""
    checkpoint_path, card_path = map(Path, sys.argv[1:3])
    checkpoint = load_checkpoint(checkpoint_path)
    shipped = Path(mrirecon.weights.__file__).parent / f"{card_path.stem}.safetensors"
    save_checkpoint(shipped, checkpoint.model, checkpoint.config, card_path.read_text(encoding="utf-8"))
    print(f"{shipped}: {shipped.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
