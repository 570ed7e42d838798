"""Partial Fourier: what is told about it, and what each way of completing it does to an image of smooth phase."""

from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor

from mrirecon.acquisition.scan import Box
from mrirecon.conditioning.partial_fourier import PartialFourier, complete, fraction_text, unmeasured_side
from mrirecon.errors import UsageError
from mrirecon.physics.fourier import fftc, ifftc
from mrirecon.simulation.phantom import head_phantom
from mrirecon.simulation.phase import smooth_phase


@cache
def object_of(shape: tuple[int, int]) -> Tensor:
    """A head whose phase is smooth."""
    magnitude = torch.from_numpy(head_phantom(shape, 1, "t2", seed=1).images[0])
    phase = torch.from_numpy(smooth_phase(shape, np.random.default_rng(0), amplitude=2))
    return magnitude * torch.polar(torch.ones(shape), phase)


def measured(image: Tensor, box: Box) -> Tensor:
    """Its zero-filled image."""
    (y0, y1), (x0, x1) = box
    kspace, full = torch.zeros_like(image), fftc(image)
    kspace[y0:y1, x0:x1] = full[y0:y1, x0:x1]
    return ifftc(kspace)


def error(image: Tensor, truth: Tensor) -> float:
    return float((image - truth).norm() / truth.norm())


@pytest.mark.parametrize("shape", [(96, 80), (97, 81), (96, 81)])
@pytest.mark.parametrize("eighths", [5, 6])
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("late", [True, False], ids=["start missing", "end missing"])
def test_homodyne_and_pocs_beat_zero_filling(shape: tuple[int, int], eighths: int, axis: int, late: bool) -> None:
    lines = round(shape[axis] * eighths / 8)
    ranges = [(0, shape[0]), (0, shape[1])]
    ranges[axis] = (shape[axis] - lines, shape[axis]) if late else (0, lines)
    box = ranges[0], ranges[1]
    truth = object_of(shape)
    zero_filled = measured(truth, box)
    by_zeros = error(complete(zero_filled, box, "zero-fill"), truth)
    assert error(complete(zero_filled, box, "homodyne"), truth) < 0.5 * by_zeros
    assert error(complete(zero_filled, box, "pocs"), truth) < 0.25 * by_zeros


def test_completed_images_have_the_phase_of_the_object() -> None:
    truth, box = object_of((96, 80)), ((30, 96), (0, 80))
    bright = truth.abs() > 0.3
    for method in ("homodyne", "pocs"):
        turned = complete(measured(truth, box), box, method) * truth.conj()
        assert turned[bright].angle().abs().mean() < 0.05


def test_pocs_keeps_the_measured_samples() -> None:
    truth, box = object_of((96, 80)), ((30, 96), (0, 80))
    completed = fftc(complete(measured(truth, box), box, "pocs"))
    torch.testing.assert_close(completed[30:], fftc(truth)[30:], rtol=1e-4, atol=1e-4)
    assert completed[:30].abs().sum() > 0


def test_samples_outside_the_measured_range_do_not_matter() -> None:
    truth, box = object_of((96, 80)), ((30, 96), (0, 80))
    for method in ("homodyne", "pocs"):
        # The phase of voxels without signal is that of rounding errors.
        assert error(complete(truth, box, method), complete(measured(truth, box), box, method)) < 1e-3


@pytest.mark.parametrize("method", ["zero-fill", "homodyne", "pocs"])
@pytest.mark.parametrize("box", [((0, 96), (0, 81)), ((20, 76), (0, 81)), ((21, 78), (2, 81))])
def test_symmetric_k_space_leaves_the_image_as_it_is(method: PartialFourier, box: Box) -> None:
    image = object_of((96, 81))
    assert complete(image, box, method) is image


def test_two_partial_axes_are_for_pocs_alone() -> None:
    truth, box = object_of((96, 80)), ((26, 96), (0, 60))
    zero_filled = measured(truth, box)
    assert error(complete(zero_filled, box, "pocs"), truth) < 0.5 * error(zero_filled, truth)
    with pytest.raises(UsageError, match="pocs"):
        complete(zero_filled, box, "homodyne")


def test_an_empty_image_stays_empty() -> None:
    empty, box = torch.zeros(32, 32, dtype=torch.complex64), ((10, 32), (0, 32))
    for method in ("homodyne", "pocs"):
        assert not complete(empty, box, method).any()


def test_the_fraction_is_told_of_each_axis() -> None:
    assert unmeasured_side(((32, 256), (0, 192)), (256, 192)) == {"y": 224 / 256}
    assert unmeasured_side(((0, 160), (48, 192)), (256, 192)) == {"y": 160 / 256, "x": 144 / 192}
    assert fraction_text(((0, 160), (48, 192)), (256, 192)) == "62% of y and 75% of x measured"


def test_a_range_symmetric_but_for_a_few_samples_is_not_partial() -> None:
    for box in (((0, 255), (0, 193)), ((3, 256), (0, 193)), ((60, 196), (20, 172))):
        assert unmeasured_side(box, (256, 193)) == {}
        assert fraction_text(box, (256, 193)) is None
