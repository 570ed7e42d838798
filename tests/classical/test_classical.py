"""Claims about zero-filled, CG-SENSE and compressed sensing, on SigPy's and BART's own results and on small scans."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from mrirecon.classical.cg_sense import CGSense
from mrirecon.classical.compressed_sensing import CompressedSensing
from mrirecon.classical.sigpy_compressed_sensing import SigpyCompressedSensing
from mrirecon.classical.zero_filled import ZeroFilled
from mrirecon.metrics import psnr
from mrirecon.physics.fourier import fftc, ifftc
from mrirecon.physics.measurement import Measurement

RECONSTRUCTIONS = ("64x64x8_equi3", "64x64x8_gauss4", "63x50x6_gauss3")
METHODS = [
    ZeroFilled(),
    CGSense(),
    CGSense(regularization=0.01),
    CompressedSensing(iterations=8),
    CompressedSensing(iterations=4, total_variation=0.002),
    SigpyCompressedSensing(iterations=8),
]


def arrays(path: Path) -> dict[str, Tensor]:
    with np.load(path) as file:
        return {key: torch.from_numpy(file[key]) for key in file.files if file[key].dtype.kind in "fcb"}


def measurement_of(file: Mapping[str, Tensor]) -> Measurement:
    kspace = file["ksp"] * file["mask"]
    return Measurement(kspace[None], file["mask"][None, None], file["maps"][None])


def relative(image: Tensor, expected: Tensor, support: Tensor) -> float:
    return float((image - expected)[support].norm() / expected[support].norm())


def support_of(maps: Tensor) -> Tensor:
    return (maps != 0).any(dim=0)


@pytest.fixture(params=RECONSTRUCTIONS)
def problem(request: pytest.FixtureRequest, golden: Path) -> dict[str, Tensor]:
    return arrays(golden / f"classical_recon_{request.param}.npz")


def test_zero_filled_is_sigpys_adjoint(problem):
    image = ZeroFilled()(measurement_of(problem))[-1][0]
    assert relative(image, problem["zerofilled"], support_of(problem["maps"])) < 1e-5


def test_cg_sense_agrees_with_sigpy_and_bart(problem):
    image = CGSense(iterations=100, regularization=0.01)(measurement_of(problem))[-1][0]
    for key in ("sigpy_sense_l2", "bart_sense_l2"):
        if key in problem:
            assert relative(image, problem[key], support_of(problem["maps"])) < 1e-4


def test_sigpys_compressed_sensing_is_what_sigpy_gives_at_equal_weight_and_iterations(problem):
    method = SigpyCompressedSensing(float(problem["lam"]), iterations=60)
    image = method(measurement_of(problem))[-1][0]
    support = support_of(problem["maps"])
    assert relative(image, problem["sigpy_it60"], support) < 1e-4
    assert not image[~support].any()


def test_sigpys_compressed_sensing_comes_close_to_an_exact_prox(problem):
    """SigPy's wavelets are not quite orthogonal at the border; that may cost half a decibel."""
    if "periodic_db4_all_it60" not in problem:
        pytest.skip("no exact solution of this problem is on file")
    image = SigpyCompressedSensing(float(problem["lam"]), iterations=60)(measurement_of(problem))[-1][0]
    reference, support = problem["reference"].abs()[None].numpy(), support_of(problem["maps"])[None].numpy()
    ours, exact = (x.abs()[None].numpy() for x in (image, problem["periodic_db4_all_it60"]))
    assert psnr(reference, ours, support) > psnr(reference, exact, support) - 0.5


def scan(batch: int = 3, coils: int = 4, height: int = 32, width: int = 30) -> Measurement:
    """Random smooth objects seen by random smooth coils, every second line and a centre of 8 measured."""
    generator = torch.Generator().manual_seed(1)

    def smooth(*shape: int) -> Tensor:
        noise = fftc(torch.randn(*shape, dtype=torch.complex64, generator=generator))
        y, x = torch.arange(height)[:, None] - height // 2, torch.arange(width) - width // 2
        return ifftc(noise * torch.exp(-(y**2 + x**2) / 8))

    maps = smooth(batch, coils, height, width)
    maps = maps / maps.abs().square().sum(dim=1, keepdim=True).sqrt()
    image = smooth(batch, height, width) * 5
    mask = torch.zeros(batch, 1, 1, width, dtype=torch.bool)
    mask[..., ::2] = True
    mask[..., width // 2 - 4 : width // 2 + 4] = True
    return Measurement(fftc(maps * image[:, None]) * mask, mask, maps)


def part(measurement: Measurement, index: slice) -> Measurement:
    assert measurement.sensitivities is not None
    return Measurement(measurement.kspace[index], measurement.mask[index], measurement.sensitivities[index])


@pytest.mark.parametrize("method", METHODS)
def test_a_batch_gives_what_its_slices_give_alone(method):
    measurement = scan()
    (together,) = method(measurement)
    assert together.shape == (3, 32, 30)
    assert together.dtype == torch.complex64
    for i in range(3):
        (alone,) = method(part(measurement, slice(i, i + 1)))
        torch.testing.assert_close(together[i], alone[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_an_empty_slice_and_a_dead_coil_stay_finite(method):
    measurement = scan()
    assert measurement.sensitivities is not None
    kspace, maps = measurement.kspace.clone(), measurement.sensitivities.clone()
    kspace[1] = maps[1] = 0  # empty slice
    kspace[2, 0] = maps[2, 0] = 0  # dead coil
    (images,) = method(Measurement(kspace, measurement.mask, maps))
    assert images.isfinite().all()
    assert not images[1].any()


@pytest.mark.parametrize("method", METHODS)
def test_one_mask_may_serve_the_whole_batch(method):
    measurement = scan()
    shared_mask = Measurement(measurement.kspace, measurement.mask[:1], measurement.sensitivities)
    torch.testing.assert_close(method(shared_mask), method(measurement))


def test_cg_sense_gets_closer_with_each_step_and_converges_to_the_object_without_noise():
    measurement = scan()
    reference = CGSense(iterations=60)(measurement)[-1]
    errors = [(CGSense(n)(measurement)[-1] - reference).norm() for n in (1, 3, 9, 27)]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.02 * reference.norm()


@pytest.mark.parametrize("kind", [CompressedSensing, SigpyCompressedSensing])
def test_compressed_sensing_lets_no_gradient_through(kind):
    measurement = scan(batch=1)
    assert measurement.sensitivities is not None
    measurement.sensitivities.requires_grad_()
    assert not kind(iterations=2)(measurement)[-1].requires_grad


@pytest.mark.parametrize("kind", [CompressedSensing, SigpyCompressedSensing])
def test_compressed_sensing_knows_measured_zeros_from_unmeasured_samples(kind):
    measurement = scan(batch=1)
    kspace = measurement.kspace.clone()
    kspace[..., 2] = 0  # measured, and zero in all coils
    zero_measured = kind()(Measurement(kspace, measurement.mask, measurement.sensitivities))[-1]
    mask = measurement.mask.clone()
    mask[..., 2] = False
    not_measured = kind()(Measurement(kspace, mask, measurement.sensitivities))[-1]
    assert (zero_measured - not_measured).norm() > 1e-3 * not_measured.norm()
