"""What a model is meant for: the ranges of scans that it was trained and tested on, as its model card states them.

A card is Markdown; it may begin with the ranges, as YAML between two lines of three dashes:

    ---
    intended:
      coils: [1, 32]
      matrix: [64, 512]
      acceleration: [1, 12]
      acs: [8, 64]
      snr: [5, 1000]
    ---
"""

from collections.abc import Mapping

import yaml

#: Name → what it is called in a sentence, and its unit.
MEASURES = {
    "coils": ("number of coils", ""),
    "matrix": ("matrix", ""),
    "acceleration": ("acceleration", "×"),
    "acs": ("fully sampled centre", " lines"),
    "snr": ("signal-to-noise ratio", ""),
}
FENCE = "---\n"

Ranges = Mapping[str, tuple[float, float]]


def intended_ranges(card: str) -> Ranges:
    """Name (of MEASURES) → (least, most); empty for a card that states none. Ranges that make no sense are left out.

    A card comes with the weights, from anywhere, so nothing in it may stop a reconstruction.
    """
    if not card.startswith(FENCE):
        return {}
    try:
        stated = yaml.safe_load(card[len(FENCE) :].partition(f"\n{FENCE}")[0])["intended"]
        return {name: (float(stated[name][0]), float(stated[name][1])) for name in MEASURES if name in stated}
    except (yaml.YAMLError, KeyError, IndexError, TypeError, ValueError, RecursionError):
        return {}


def card_text(card: str) -> str:
    """The card without its ranges: what people read."""
    if not card.startswith(FENCE):
        return card
    return card[len(FENCE) :].partition(f"\n{FENCE}")[2].lstrip("\n")


def departures(ranges: Ranges, measured: Mapping[str, tuple[float, ...]]) -> list[str]:
    """Sentence fragments about the measured values that are outside their ranges; names as in MEASURES.

    Each name has one or several values, such as both sides of the matrix.
    """
    found = []
    for name, values in measured.items():
        least, most = ranges.get(name, (-float("inf"), float("inf")))
        if min(values) < least or max(values) > most:
            what, unit = MEASURES[name]
            found.append(f"{what} {' × '.join(f'{v:.3g}' for v in values)}{unit} (meant for {least:g} to {most:g})")
    return found
