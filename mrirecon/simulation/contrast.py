"""Signal equations: from tissue parameters to T1-, T2-, FLAIR- and PD-weighted intensity.

Spin echo             PD (1 - exp(-TR/T1)) exp(-TE/T2)
Inversion recovery    PD |1 - 2 exp(-TI/T1) + exp(-TR/T1)| exp(-TE/T2)
Spoiled gradient echo PD sin(a) (1 - E1) / (1 - cos(a) E1) exp(-TE/T2*), E1 = exp(-TR/T1)   (Ernst)

Fast spin echoes are taken at their effective echo time.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mrirecon.errors import UsageError
from mrirecon.simulation.tissues import PARAMETERS, Tissue

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Protocol:
    """A pulse sequence and its times.

    fat_left: share of the signal of fat and marrow that is left by (partial) fat saturation, as is usual at 3 T.
    """

    sequence: Literal["spin echo", "inversion recovery", "spoiled gradient echo"]
    tr_ms: float
    te_ms: float
    ti_ms: float | None = None
    flip_angle_deg: float = 90.0
    fat_left: float = 0.7


#: Default protocol of each contrast. The inversion time of FLAIR nulls cerebrospinal fluid.
PROTOCOLS: dict[str, Protocol] = {
    "t1": Protocol("spoiled gradient echo", tr_ms=20, te_ms=3, flip_angle_deg=30),
    "t2": Protocol("spin echo", tr_ms=5000, te_ms=90),
    "flair": Protocol("inversion recovery", tr_ms=9000, te_ms=120, ti_ms=2480),
    "pd": Protocol("spin echo", tr_ms=3000, te_ms=15),
}


def protocol_of(contrast: str) -> Protocol:
    """The default protocol of "t1", "t2", "flair" or "pd"; UsageError for another name."""
    if contrast not in PROTOCOLS:
        raise UsageError(f"no contrast '{contrast}'; there are: {', '.join(PROTOCOLS)}.")
    return PROTOCOLS[contrast]


def signal(tissue: Tissue, protocol: Protocol, t1_scale: Array | float = 1.0, t2_scale: Array | float = 1.0) -> Array:
    """Magnitude signal of a tissue, relative to fully relaxed water; broadcasts over the scales of its T1 and T2(*)."""
    tissue_parameters = PARAMETERS[tissue]
    t1 = np.asarray(t1_scale, dtype=np.float32) * np.float32(tissue_parameters.t1_ms)
    t2 = np.asarray(t2_scale, dtype=np.float32) * np.float32(tissue_parameters.t2_ms)
    t2star = np.asarray(t2_scale, dtype=np.float32) * np.float32(tissue_parameters.t2star_ms)
    e1 = np.exp(-protocol.tr_ms / t1)
    match protocol.sequence:
        case "spin echo":
            weighting = (1 - e1) * np.exp(-protocol.te_ms / t2)
        case "inversion recovery":
            assert protocol.ti_ms is not None
            weighting = np.abs(1 - 2 * np.exp(-protocol.ti_ms / t1) + e1) * np.exp(-protocol.te_ms / t2)
        case "spoiled gradient echo":
            angle = np.deg2rad(protocol.flip_angle_deg)
            weighting = np.sin(angle) * (1 - e1) / (1 - np.cos(angle) * e1) * np.exp(-protocol.te_ms / t2star)
    density = tissue_parameters.proton_density * (protocol.fat_left if tissue in (Tissue.FAT, Tissue.MARROW) else 1)
    return (density * weighting).astype(np.float32)
