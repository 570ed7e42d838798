"""What releases of ATOMMIC and mridc compute, beyond what weights and settings say."""

import math
from dataclasses import dataclass, field
from typing import Literal

from mrirecon.models.importers.reading import Foreign


@dataclass(frozen=True)
class Release:
    """A toolbox's release.

    detach, carry, start: how the cascades of a CIRIM are joined, as in `CIRIM`; carry_explicit: the same as carry with
    explicit data consistency. keep_matters: with another `keep_prediction` (or `keep_eta`) than that of its form of
    data consistency, the release takes images for k-space. rounds: time steps are rounded up to a multiple of 8.
    fails_explicit: it cannot run explicit data consistency in several cascades. padding: of U-Nets. map_network: a
    CIRIM uses one that is there. map_magnitudes: such a network's maps are normalised as in `AtommicSensitivities`.
    """

    name: str
    detach: bool
    carry: bool
    carry_explicit: bool
    start: Literal["previous", "initial"] = "previous"
    keep_matters: bool = False
    rounds: bool = True
    fails_explicit: bool = False
    padding: int = 11
    map_network: bool = True
    map_magnitudes: bool = False


@dataclass
class Released(Foreign):
    """Weights and settings of a release."""

    release: Release = field(kw_only=True)


def configured_time_steps(configured: int) -> int:
    """The time steps that ATOMMIC, and mridc from 0.1 on, run when so many are configured: the next multiple of 8."""
    return 8 * math.ceil(configured / 8)
