"""What is measured of a scan, against what was put into it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mrirecon.acquisition.sampling import sampling_of, undersample
from mrirecon.acquisition.scan import Scan
from mrirecon.classical.zero_filled import ZeroFilled
from mrirecon.physics.sampling import Equispaced1D, Gaussian2D
from mrirecon.reconstruction.methods import Method
from mrirecon.reconstruction.suitability import measured_ranges, outside_range
from mrirecon.simulation.scan import simulate_slices


def scan_of(coils=4, snr=30.0, shape=(96, 128)):
    y, x = np.mgrid[-1 : 1 : shape[0] * 1j, -1 : 1 : shape[1] * 1j]
    image = ((y**2 + x**2 < 0.7) * (1 + 0.2 * np.sin(6 * x))).astype(np.float32)
    kspace = np.stack(list(simulate_slices(np.stack([image] * 3), coils, snr, 0)))
    return Scan(Path("disc.h5"), "simulated", kspace.shape, lambda index: kspace[index])


def test_a_scan_is_measured_as_it_is():
    scan = scan_of()
    sampling = undersample(scan, Equispaced1D(4, 20), 0)
    facts = measured_ranges(scan, sampling, maps_given=False)
    assert facts["coils"] == (4,)
    assert facts["matrix"] == (96, 128)
    assert facts["acceleration"] == (sampling.acceleration,)
    assert facts["acs"][0] in (20, 21, 22, 23)  # neighbours of the centre may be sampled, too
    assert 20 < facts["snr"][0] < 45
    assert "acs" not in measured_ranges(scan, sampling, maps_given=True)
    assert "acs" not in measured_ranges(scan_of(coils=1), sampling, maps_given=False)


@pytest.mark.parametrize("snr", [5.0, 15.0, 40.0])
def test_the_snr_follows_the_noise_whatever_the_sampling(snr):
    scan = scan_of(snr=snr, shape=(160, 160))
    for sampling in (sampling_of(scan), undersample(scan, Gaussian2D(6, 20), 0)):
        assert 0.6 < measured_ranges(scan, sampling, maps_given=False)["snr"][0] / snr < 1.6


def test_what_is_outside_is_warned_about(caplog):
    scan = scan_of()
    sampling = undersample(scan, Equispaced1D(4, 20), 0)
    ranges = {"acceleration": (5.0, 8.0), "coils": (1.0, 32.0)}
    method = Method("net", ZeroFilled(), {}, intended=ranges)
    (found,) = outside_range(scan, sampling, method, maps_given=False)
    assert found.startswith("acceleration 2.")
    assert "meant for 5 to 8" in found
    assert "disc.h5 is outside what net is meant for: acceleration 2." in caplog.text
    caplog.clear()
    assert outside_range(scan, sampling, replace(method, intended={}), maps_given=False) == []
    assert not caplog.text
