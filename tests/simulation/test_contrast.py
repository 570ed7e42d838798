from itertools import pairwise

import numpy as np
import pytest

from mrirecon.errors import UsageError
from mrirecon.simulation.contrast import PROTOCOLS, Protocol, protocol_of, signal
from mrirecon.simulation.tissues import PARAMETERS, Tissue


def test_every_tissue_has_parameters() -> None:
    assert set(PARAMETERS) == set(Tissue)


def test_spin_echo_follows_its_equation() -> None:
    white = PARAMETERS[Tissue.WHITE]
    expected = white.proton_density * (1 - np.exp(-700 / white.t1_ms)) * np.exp(-20 / white.t2_ms)
    assert signal(Tissue.WHITE, Protocol("spin echo", 700, 20)) == pytest.approx(expected, rel=1e-5)


def test_the_ernst_angle_is_the_brightest() -> None:
    ernst = np.rad2deg(np.arccos(np.exp(-20 / PARAMETERS[Tissue.GREY].t1_ms)))
    at = [float(signal(Tissue.GREY, Protocol("spoiled gradient echo", 20, 3, None, ernst + d))) for d in (-2, 0, 2)]
    assert at[1] > max(at[0], at[2])


@pytest.mark.parametrize(
    ("contrast", "order"),
    [
        ("t1", (Tissue.WHITE, Tissue.THALAMUS, Tissue.GREY, Tissue.CSF)),
        ("t2", (Tissue.CSF, Tissue.LESION, Tissue.GREY, Tissue.WHITE, Tissue.BONE)),
        ("flair", (Tissue.LESION, Tissue.GREY, Tissue.WHITE, Tissue.CSF)),
        ("pd", (Tissue.GREY, Tissue.WHITE, Tissue.CSF, Tissue.AIR)),
    ],
)
def test_default_protocols_rank_tissues_as_radiologists_know_them(contrast: str, order: tuple[Tissue, ...]) -> None:
    signals = [float(signal(tissue, PROTOCOLS[contrast])) for tissue in order]
    assert signals == sorted(signals, reverse=True)
    assert all(a > 1.05 * b for a, b in pairwise(signals))


def test_flair_nulls_cerebrospinal_fluid() -> None:
    assert signal(Tissue.CSF, PROTOCOLS["flair"]) < 0.05 * signal(Tissue.WHITE, PROTOCOLS["flair"])


def test_an_unknown_contrast_is_refused_with_the_choices() -> None:
    with pytest.raises(UsageError, match="t1, t2, flair, pd"):
        protocol_of("dwi")
