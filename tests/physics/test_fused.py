"""A^H A in compiled loops: equal to the textbook in double precision, for any size, mask and number of threads."""

import multiprocessing

import numba
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mrirecon.physics.compiled import cached
from mrirecon.physics.fourier import fftc, ifftc
from mrirecon.physics.kernels import Plan
from mrirecon.physics.measurement import Measurement
from mrirecon.physics.sense import SenseOperator


@pytest.fixture(autouse=True)
def same_threads_afterwards():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def problem(batch, coils, height, width, kind, seed=0):
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(*shape, dtype=torch.complex64, generator=generator)

    mask_shape = {"2d": (height, width), "y": (height, 1), "x": (1, width)}[kind]
    mask = torch.rand(batch, 1, *mask_shape, generator=generator) < 0.4
    mask[..., 0, 0], mask[..., -1, -1] = True, False  # neither full nor empty
    maps = draw(batch, coils, height, width)
    return Measurement(draw(batch, coils, height, width) * mask, mask, maps), draw(batch, height, width)


def textbook(measurement, image):
    maps, image = measurement.sensitivities.to(torch.complex128), image.to(torch.complex128)
    return (maps.conj() * ifftc(measurement.mask * fftc(maps * image[:, None]))).sum(dim=1)


def assert_equal(measurement, image):
    operator = SenseOperator(measurement)
    expected = textbook(measurement, image)
    found = operator.normal(image)
    assert operator._fused is not None
    assert found.is_contiguous()
    assert (found - expected).abs().max() <= 1e-6 * expected.abs().max()
    torch.testing.assert_close(
        operator.forward(image), fftc(measurement.sensitivities * image[:, None]) * measurement.mask
    )


@given(
    st.integers(1, 2), st.integers(1, 3), st.integers(16, 75), st.integers(16, 75),
    st.sampled_from(["2d", "y", "x"]), st.integers(1, 3),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_any_size_equals_the_textbook(batch, coils, height, width, kind, threads):
    torch.set_num_threads(threads)
    assert_equal(*problem(batch, coils, height, width, kind, seed=height))


@pytest.mark.parametrize("shape", [(256, 256), (640, 368), (320, 372), (218, 170), (16, 251), (1, 20), (3, 16)])
def test_sizes_of_scanners_equal_the_textbook(shape):
    for kind in ("2d", "y") if shape[0] > 1 else ("x",):
        if kind == "x" and shape[0] < 16:
            continue
        assert_equal(*problem(1, 2, *shape, kind))


@pytest.mark.parametrize(("shape", "kind"), [((20, 15), "2d"), ((20, 15), "y"), ((15, 20), "x")])
def test_images_narrower_than_the_vectors_take_the_plain_path(shape, kind):
    measurement, image = problem(1, 2, *shape, kind)
    operator = SenseOperator(measurement)
    found, expected = operator.normal(image), textbook(measurement, image)
    assert operator._fused is None
    assert (found - expected).abs().max() <= 1e-6 * expected.abs().max()


@pytest.mark.parametrize("n", [1, 2, 16, 30, 64, 77, 109, 256])
def test_a_plan_visits_each_frequency_once_and_its_radices_make_n(n):
    plan = Plan.of(n)
    assert sorted(plan.order) == list(range(n))
    assert plan.radices.prod() == n


def test_an_image_of_any_layout_is_left_as_it_is():
    measurement, image = problem(1, 2, 24, 24, "2d")
    operator = SenseOperator(measurement)
    expected = operator.normal(image)
    for same in (image.mT.contiguous().mT, image.conj().resolve_conj().conj(), torch.stack((image, image))[1:][0]):
        before = same.clone()
        torch.testing.assert_close(operator.normal(same), expected, rtol=0, atol=0)
        assert torch.equal(same, before)


def test_maps_are_held_once():
    measurement, image = problem(1, 2, 24, 24, "x")
    operator = SenseOperator(measurement)
    operator.normal(image)
    assert operator._maps.data_ptr() == operator._fused._maps.ctypes.data


def _child(operator, image, queue):
    queue.put(float(operator.normal(image).abs().sum()))


@pytest.mark.filterwarnings("ignore:.*fork.*")
def test_a_forked_process_makes_threads_of_its_own():
    torch.set_num_threads(2)
    measurement, image = problem(1, 2, 24, 24, "2d")
    operator = SenseOperator(measurement)
    expected = float(operator.normal(image).abs().sum())
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    process = context.Process(target=_child, args=(operator, image, queue))
    process.start()
    try:
        assert queue.get(timeout=60) == pytest.approx(expected, rel=1e-6)
    finally:
        process.kill()


def test_without_a_folder_for_compiled_code_it_is_compiled_in_memory(monkeypatch):
    njit = numba.njit

    def without_folder(*arguments, cache=False, **options):
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return njit(*arguments, **options)

    monkeypatch.setattr(numba, "njit", without_folder)
    filled = []

    @cached()
    def fill(array):
        array[:] = 3

    filled = torch.zeros(2).numpy()
    fill(filled)
    assert filled.tolist() == [3, 3]
