"""Is this scan of the kind that the method is meant for? What can be measured of it, against the method's ranges."""

import logging
from collections.abc import Mapping

import torch

from mrirecon.acquisition.sampling import Sampling
from mrirecon.acquisition.scan import Scan
from mrirecon.physics.calibration import calibration_width
from mrirecon.physics.noise import estimate_noise_std
from mrirecon.reconstruction.methods import Method
from mrirecon.weights.intended import departures

log = logging.getLogger("mrirecon")


Ranges = Mapping[str, tuple[float, ...]]


def outside_range(
    scan: Scan, sampling: Sampling, method: Method, *, maps_given: bool, ranges: Ranges | None = None
) -> list[str]:
    """What of the scan is outside the ranges that the method's card states, in words; warned about, too.

    maps_given: the coil maps do not come from the fully sampled centre. ranges: of the scan, if they were measured.
    """
    if not method.intended:
        return []
    found = departures(method.intended, ranges or measured_ranges(scan, sampling, maps_given=maps_given))
    if found:
        log.warning(
            "%s is outside what %s is meant for: %s. Do not trust the image without comparing it with --method cs.",
            scan.path.name,
            method.name,
            "; ".join(found),
        )
    return found


def measured_ranges(scan: Scan, sampling: Sampling, *, maps_given: bool) -> Ranges:
    """Coils with signal, matrix (y, x), achieved acceleration, side of the fully sampled centre, SNR.

    The centre counts where maps are estimated from it, of a scan with several coils. SNR: the scan's scale over the
    standard deviation of the noise, stated or estimated from the outermost samples of the middle slice; on small
    matrices the estimate holds some detail of the image.
    """
    coils = scan.coils - len(scan.survey.dead_coils)
    facts: dict[str, tuple[float, ...]] = {
        "coils": (coils,),
        "matrix": scan.shape[2:],
        "acceleration": (sampling.acceleration,),
    }
    middle = scan.slices // 2
    mask = sampling.mask[middle % len(sampling.mask)]
    if coils > 1 and not maps_given and not scan.read_calibration and mask.any():
        facts["acs"] = (min(calibration_width(mask)),)
    noise = scan.noise_std
    if noise is None:
        kspace = torch.from_numpy(scan.kspace(middle))[None]
        noise = float(estimate_noise_std(kspace, torch.from_numpy(mask)[None, None]))
    if noise > 0:
        facts["snr"] = (scan.survey.scale / noise,)
    return facts
