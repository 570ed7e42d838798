import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrirecon.weights.intended import card_text, departures, intended_ranges

CARD = """---
intended:
  coils: [1, 32]
  acceleration: [2, 12]
  matrix: [64, 512]
---

# A model

What it is for.
"""


def test_the_ranges_are_at_the_top_of_the_card():
    assert intended_ranges(CARD) == {"coils": (1, 32), "acceleration": (2, 12), "matrix": (64, 512)}
    assert card_text(CARD).startswith("# A model\n\nWhat")


@pytest.mark.parametrize(
    "card",
    [
        "# A model\n---\nintended: {coils: [1, 2]}\n---\n",
        "---\nintended: {coils: [1]}\n---\n",
        "---\nintended: {coils: [a, b]}\n---\n",
        "---\nintended: 3\n---\n",
        "---\n[\n---\n",
        "---\nother: 3\n---\n",
        "---\n!!python/object/apply:os.system ['true']\n---\n",
        "",
    ],
)
def test_a_card_without_sound_ranges_states_none(card):
    assert intended_ranges(card) == {}


@given(st.text(max_size=200))
def test_no_card_stops_a_reconstruction(text):
    intended_ranges(f"---\n{text}\n---\n# A model")
    intended_ranges(text)


def test_only_what_is_outside_is_named():
    ranges = intended_ranges(CARD)
    assert departures(ranges, {"coils": (1,), "acceleration": (12.0,), "matrix": (64, 512), "snr": (0.1,)}) == []
    found = departures(ranges, {"coils": (33,), "acceleration": (1.5,), "matrix": (640, 368)})
    assert found == [
        "number of coils 33 (meant for 1 to 32)",
        "acceleration 1.5× (meant for 2 to 12)",
        "matrix 640 × 368 (meant for 64 to 512)",
    ]
