"""fastMRI's networks beside ours."""

from collections.abc import Iterator
from functools import partial

from mrirecon.benchmark.measure import Row, Settings
from mrirecon.benchmark.side_by_side import Case, side_by_side
from mrirecon.benchmark.subjects import ACCELERATION, CENTRE, head
from mrirecon.physics.measurement import Measurement
from mrirecon.physics.sampling import mask_by_name

#: Their names there → what they are.
NETWORKS = {"VarNet": "VarNet 12 × 18", "Unet": "U-Net 32 × 4"}


def measure_fastmri(settings: Settings) -> Iterator[Row]:
    """Inference, training and memory; nothing without `settings.peers`."""
    case = partial(Case, "fastmri", "fastMRI")
    small = partial(_data, settings.coils, settings.matrix, settings)
    cases = [case(kind, name, small, training=not settings.quick) for kind, name in NETWORKS.items()]
    if not settings.quick:
        coils, height, width = settings.knee
        large = partial(_data, coils, (height, width), settings)
        name = f"{NETWORKS['VarNet']}, {coils} × {height} × {width}"
        cases.append(case("VarNet", name, large, training=False))
    yield from side_by_side(cases, settings)


def _data(coils: int, matrix: tuple[int, int], settings: Settings) -> Measurement:
    """One undersampled slice; fastMRI's networks make its maps."""
    acs = min(CENTRE, min(matrix) // (ACCELERATION * 3 // 2))
    mask = mask_by_name("equispaced", ACCELERATION, acs).mask(matrix, 0, "y")[None, None, :1]
    return Measurement(head(settings, coils, matrix).kspace.cpu() * mask, mask)
