"""What the checks of a scan add up to, by the limits in thresholds.json (scripts/calibrate_checks.py)."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.resources import files
from typing import Any, Literal

Word = Literal["OK", "REVIEW", "REJECT"]
#: From good to bad.
WORDS: tuple[Word, ...] = ("OK", "REVIEW", "REJECT")
#: Measurement → what a value above the threshold says.
MEANING = {
    "residual": "the image explains the measured samples worse than noise does: a residual of {value:.2f} times the "
    "noise (at most {limit:.2f})",
    "misfit": "the image contradicts the measured samples: {value:.1%} of their signal is unexplained (at most "
    "{limit:.1%})",
    "spike": "a sample of k-space is {value:.0f} times as large as those around it (at most {limit:.0f}): spike noise?",
    "dead_coils": "{value:.0%} of the coils are without signal (at most {limit:.0%})",
    "empty_slices": "{value:.0%} of the slices are without samples (at most {limit:.0%})",
    "region": "the image differs from {second} in a connected region of {value:.2%} of the object (at most "
    "{limit:.2%}; slice {slice})",
}


@dataclass(frozen=True)
class Verdict:
    """OK, REVIEW (a person should look, for these reasons), or REJECT (not to be used)."""

    word: Word
    reasons: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def thresholds() -> dict[str, dict[str, float]]:
    """Measurement → {"review": limit, "reject": limit}; what has no limit of a kind is never judged so."""
    content = json.loads((files("mrirecon.batch") / "thresholds.json").read_text())
    limits: dict[str, dict[str, float]] = content["limits"]
    return limits


def judge(measured: Mapping[str, Any], outside: Sequence[str]) -> Verdict:
    """The verdict on a scan with these measurements (names as in MEANING, others are ignored).

    outside: what of the scan the method is not meant for, in words.
    """
    word: Word = "REVIEW" if outside else "OK"
    reasons = [f"outside what the method is meant for: {what}" for what in outside]
    for name, limits in thresholds().items():
        value = measured.get(name)
        exceeded = [kind for kind in WORDS[1:] if value is not None and value > limits.get(kind.lower(), value)]
        if exceeded:
            word = worst([word, exceeded[-1]])
            limit = limits[exceeded[-1].lower()]
            facts = {"second": measured.get("second"), "slice": measured.get("slice")}
            reasons.append(MEANING[name].format(value=value, limit=limit, **facts))
    return Verdict(word, tuple(reasons))


def worst(words: Sequence[str]) -> Word:
    """The worst of some verdicts; OK of none."""
    return WORDS[max((WORDS.index(word) for word in words), default=0)]
