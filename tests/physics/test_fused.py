"""A^H A in compiled loops: equal to the textbook in double precision, for any size, mask and number of threads."""

import multiprocessing

import numba
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numba.core.caching import FunctionCache

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


@pytest.fixture
def double_in(tmp_path, monkeypatch):
    """A function that doubles an array, compiled and kept in `tmp_path`, as a fresh process would find it."""
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))

    def make():
        @cached()
        def double(array):
            for k in range(len(array)):
                array[k] *= 2

        return double

    return make


def doubled(function):
    array = torch.ones(3).numpy()
    function(array)
    return array.tolist()


def test_compiled_code_is_kept_for_the_next_process(double_in, tmp_path):
    assert doubled(double_in()) == [2, 2, 2]
    again = double_in()
    assert doubled(again) == [2, 2, 2]
    assert sum(again.stats.cache_hits.values()) == 1


@pytest.mark.parametrize("suffix", ["nbi", "nbc"])
def test_damaged_files_of_compiled_code_are_made_anew(double_in, tmp_path, suffix):
    doubled(double_in())
    (file,) = tmp_path.rglob(f"*.{suffix}")
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    assert doubled(double_in()) == [2, 2, 2]


def test_without_a_folder_or_on_a_full_disk_it_is_compiled_in_memory(double_in, monkeypatch):
    def fails(*arguments, **options):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(FunctionCache, "save_overload", fails)
        assert doubled(double_in()) == [2, 2, 2]

    def no_folder(cache, function):
        raise RuntimeError("cannot cache function: no locator available")

    monkeypatch.setattr(FunctionCache, "__init__", no_folder)
    assert doubled(double_in()) == [2, 2, 2]
