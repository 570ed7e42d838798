from dataclasses import replace

import numpy as np
import pytest
import torch

from mrirecon.physics.fourier import fftc
from mrirecon.physics.measurement import Measurement
from mrirecon.physics.phase import low_resolution_phase, without_phase
from mrirecon.physics.sense import SenseOperator
from mrirecon.simulation.coils import any_coil_maps
from mrirecon.simulation.phase import smooth_phase as random_phase


def measured(shape=(60, 48), acs=16, coils=4, kind="lines"):
    """A disc with a smooth phase, 3 × undersampled; and its image."""
    rng = np.random.default_rng(3)
    y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    disc = (1.0 + 0.3 * x) * (y**2 + x**2 < 0.6)
    image = torch.from_numpy(disc * np.exp(1j * random_phase(shape, rng, 2.0))).to(torch.complex64)
    maps = torch.from_numpy(any_coil_maps(shape, coils, rng)).to(torch.complex64)
    maps = maps / maps.abs().square().sum(0, keepdim=True).sqrt()
    mask = torch.zeros(1, 1, *shape, dtype=torch.bool)
    centre = [slice(n // 2 - acs // 2, n // 2 - acs // 2 + acs) for n in shape]
    if kind == "lines":
        mask[..., ::3] = mask[..., centre[1]] = True
    else:
        mask[..., ::2, ::2] = mask[..., centre[0], centre[1]] = True
    kspace = fftc(maps * image)[None] * mask
    return Measurement(kspace, mask, maps[None]), image[None]


@pytest.mark.parametrize("kind", ["lines", "points"])
def test_what_is_left_is_nearly_real_and_positive(kind):
    measurement, image = measured(kind=kind)
    left = image * low_resolution_phase(measurement).conj()
    assert left.imag.norm() < 0.2 * left.norm() < 0.5 * image.imag.norm()
    assert left.real[image.abs() > 0.5].min() > 0


def test_phase_handed_to_the_maps_leaves_the_data_as_they_are():
    measurement, image = measured()
    phase = low_resolution_phase(measurement)
    turned = without_phase(measurement, phase)
    torch.testing.assert_close(
        SenseOperator(turned).forward(image * phase.conj()), SenseOperator(measurement).forward(image)
    )
    assert turned.kspace is measurement.kspace
    torch.testing.assert_close(phase.abs(), torch.ones_like(phase.abs()))


def test_an_image_to_start_from_is_turned_too():
    measurement, image = measured()
    phase = low_resolution_phase(measurement)
    started = without_phase(replace(measurement, initial_image=image), phase)
    torch.testing.assert_close(started.initial_image, image * phase.conj())


def test_without_a_sampled_centre_the_phase_stays():
    measurement, _ = measured()
    mask = measurement.mask.clone()
    mask[..., 24] = False
    holes = Measurement(measurement.kspace * mask, mask, measurement.sensitivities)
    assert (low_resolution_phase(holes) == 1).all()


def test_each_slice_of_a_batch_has_the_window_of_its_own_mask():
    lines, _ = measured(kind="lines")
    points, _ = measured(kind="points")
    parts = ("kspace", "mask", "sensitivities")
    both = Measurement(*(torch.cat([getattr(lines, name), getattr(points, name)]) for name in parts))
    torch.testing.assert_close(
        low_resolution_phase(both), torch.cat([low_resolution_phase(lines), low_resolution_phase(points)])
    )
