"""Memory: what a slice takes, what fits, and that neither budget nor block changes an image."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from mrirecon.acquisition.sampling import Sampling
from mrirecon.acquisition.scan import Scan
from mrirecon.classical.compressed_sensing import CompressedSensing
from mrirecon.classical.zero_filled import ZeroFilled
from mrirecon.errors import RejectedError, ResourceError, UsageError
from mrirecon.memory import available_bytes, peak_bytes
from mrirecon.models.cirim import CIRIM
from mrirecon.physics.measurement import Measurement, Reconstructor
from mrirecon.physics.sense import SenseOperator
from mrirecon.reconstruction.budget import LATE_BYTES, resident_bytes, slice_bytes, slices_that_fit
from mrirecon.reconstruction.methods import Method
from mrirecon.reconstruction.pipeline import measure_blocks, reconstruct_block
from mrirecon.reconstruction.precision import chosen_precision
from mrirecon.reconstruction.volume import Job

CPU = torch.device("cpu")
Make = Callable[..., Scan]


def undersampled(acs: int = 24) -> Sampling:
    """Another mask for each of four slices."""
    mask = np.random.default_rng(0).random((4, 48, 40)) < 0.4
    mask[:, :, 20 - acs // 2 : 20 + acs // 2] = True
    return Sampling(mask=mask, source="test", acceleration=2.0, retrospective=True)


def images(scan: Scan, method: Reconstructor, size: int, sampling: Sampling | None = None) -> Tensor:
    blocks = measure_blocks(scan, sampling or undersampled(), device=CPU, size=size)
    return torch.cat([reconstruct_block(method, block) for block in blocks])


def small_network() -> CIRIM:
    torch.manual_seed(0)
    return CIRIM(cascades=2, channels=8, time_steps=2).eval()


@pytest.mark.parametrize("method", [ZeroFilled(), CompressedSensing(iterations=5), small_network()])
@pytest.mark.parametrize("size", [2, 3, 16])
def test_images_do_not_depend_on_the_block(make_scan: Make, method: Reconstructor, size: int) -> None:
    def empty_one(kspace, index) -> None:
        kspace *= index != 2

    scan = make_scan(slices=4, edit=empty_one)
    one, many = images(scan, method, 1), images(scan, method, size)
    assert many.shape == (4, 48, 40)
    assert not many[2].any()
    torch.testing.assert_close(many, one, rtol=0, atol=1e-5 * float(one.abs().max()))


def test_references_and_supports_do_not_depend_on_the_block(make_scan: Make) -> None:
    singles = list(measure_blocks(make_scan(slices=4), undersampled(), device=CPU))
    (block,) = measure_blocks(make_scan(slices=4), undersampled(), device=CPU, size=4)
    for single, data in zip(singles, block.slices(), strict=True):
        assert single.first == data.index
        torch.testing.assert_close(data.measurement.kspace, single.measurement.kspace, rtol=0, atol=0)
        torch.testing.assert_close(data.support, single.support[0])
        torch.testing.assert_close(data.reference, single.reference[0], rtol=1e-4, atol=1e-5)


def test_the_slice_that_cannot_be_calibrated_is_named(make_scan: Make) -> None:
    sampling = undersampled()
    sampling.mask[2, :, 18:22] = False
    with pytest.raises(UsageError, match="slice 2"):
        images(make_scan(slices=4), ZeroFilled(), 4, sampling)


def test_the_slice_that_diverges_is_named(make_scan: Make) -> None:
    class Diverging(Reconstructor):
        def forward(self, measurement: Measurement) -> list[Tensor]:
            image = SenseOperator(measurement).adjoint_data
            image[1] /= 0
            return [image]

    with pytest.raises(RejectedError, match="slice 1"):
        images(make_scan(slices=4), Diverging(), 4)


@pytest.mark.parametrize("method", [ZeroFilled(), CompressedSensing(iterations=2), small_network()])
def test_what_is_estimated_is_enough_and_not_far_too_much(make_scan: Make, method: Reconstructor) -> None:
    rng = np.random.default_rng(0)
    kspace = (rng.standard_normal((8, 160, 128)) + 1j * rng.standard_normal((8, 160, 128))).astype(np.complex64)
    scan = replace(make_scan(slices=1), shape=(1, 8, 160, 128), read_slice=lambda index: kspace)
    sampling = Sampling(np.ones((1, 160, 128), bool), "test", 1.0, retrospective=True)
    assert scan.survey.scale > 0
    taken = peak_bytes(lambda: images(scan, method, 1, sampling)) + kspace.nbytes
    estimated = slice_bytes(scan, method, "fp32", CPU)
    assert 0.9 * taken < estimated < 2.5 * taken


def job(method: Reconstructor) -> Job:
    return Job(Method("test", method, {}), CPU)


def test_a_budget_that_is_too_small_says_what_is_needed(make_scan: Make) -> None:
    with pytest.raises(ResourceError, match=r"4 × 48 × 40.* MB .*--memory"):
        slices_that_fit(make_scan(), job(ZeroFilled()), 1000, 1)


def test_as_many_slices_as_fit(make_scan: Make) -> None:
    scan = make_scan(slices=40)
    assert slices_that_fit(scan, job(ZeroFilled()), 1 << 40, 16)[0] == 16
    assert slices_that_fit(make_scan(slices=3), job(ZeroFilled()), 1 << 40, 16)[0] == 3
    each = slice_bytes(scan, ZeroFilled(), "fp32", CPU)
    count, left = slices_that_fit(scan, job(ZeroFilled()), resident_bytes() + LATE_BYTES + 5 * each, 16)
    assert 1 <= count <= 5
    assert left < 2 * each


def test_the_machines_memory_is_known() -> None:
    assert 0 < resident_bytes() < available_bytes()


def test_classical_methods_compute_in_fp32_whatever_is_asked() -> None:
    assert chosen_precision("bf16", CompressedSensing(), CPU) == "fp32"
    assert chosen_precision("auto", ZeroFilled(), CPU) == "fp32"
    assert chosen_precision("bf16", small_network(), CPU) == "bf16"
    assert chosen_precision("fp32", small_network(), CPU) == "fp32"


def test_bf16_gives_nearly_the_same_image_and_not_the_same(make_scan: Make) -> None:
    (block,) = measure_blocks(make_scan(), undersampled(), device=CPU, size=2)
    exact, fast = (reconstruct_block(small_network(), block, precision) for precision in ("fp32", "bf16"))
    assert fast.dtype == torch.complex64
    assert not torch.equal(exact, fast)
    assert float((exact - fast).norm() / exact.norm()) < 0.02
