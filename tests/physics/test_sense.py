import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mrirecon.memory import peak_bytes
from mrirecon.physics import sense
from mrirecon.physics.fourier import fftc, ifftc
from mrirecon.physics.measurement import Measurement
from mrirecon.physics.sense import SenseOperator

TOLERANCE = {torch.complex64: 1e-5, torch.complex128: 1e-12}


def random_measurement(batch, coils, height, width, kind="2d", dtype=torch.complex64, seed=0):
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(*shape, dtype=dtype, generator=generator)

    mask_shape = {"2d": (height, width), "y": (height, 1), "x": (1, width), "full": (1, 1)}[kind]
    mask = torch.rand(batch, 1, *mask_shape, generator=generator) < (2 if kind == "full" else 0.4)
    if kind != "full" and seed % 2:
        mask = mask.expand(batch, 1, height, width)
    kspace = draw(batch, coils, height, width) * mask
    return Measurement(kspace, mask, draw(batch, coils, height, width) / coils**0.5), draw(batch, height, width)


def textbook_forward(measurement, image):
    return fftc(measurement.sensitivities * image[:, None]) * measurement.mask


@given(
    st.integers(1, 3),
    st.integers(1, 5),
    st.integers(1, 12),
    st.integers(1, 12),
    st.sampled_from(["2d", "y", "x", "full"]),
    st.sampled_from([torch.complex64, torch.complex128]),
    st.integers(0, 10),
)
@settings(max_examples=60, deadline=None)
def test_operator_is_adjoint_and_equals_the_textbook(batch, coils, height, width, kind, dtype, seed):
    measurement, image = random_measurement(batch, coils, height, width, kind, dtype, seed)
    operator = SenseOperator(measurement)
    kspace = torch.randn(batch, coils, height, width, dtype=dtype, generator=torch.Generator().manual_seed(seed + 99))
    forward = operator.forward(image)
    scale = max(forward.norm() * kspace.norm(), torch.tensor(1e-6))
    left, right = (
        torch.vdot(kspace.flatten(), forward.flatten()),
        torch.vdot(operator.adjoint(kspace).flatten(), image.flatten()),
    )
    assert (left - right).abs() <= TOLERANCE[dtype] * scale

    tolerance = {"rtol": 1e-4, "atol": 1e-4} if dtype == torch.complex64 else {"rtol": 1e-10, "atol": 1e-10}
    torch.testing.assert_close(forward, textbook_forward(measurement, image), **tolerance)
    textbook_adjoint = (measurement.sensitivities.conj() * ifftc(kspace * measurement.mask)).sum(dim=1)
    torch.testing.assert_close(operator.adjoint(kspace), textbook_adjoint, **tolerance)
    torch.testing.assert_close(operator.normal(image), operator.adjoint(forward), **tolerance)
    gradient = operator.adjoint(forward - measurement.kspace)
    torch.testing.assert_close(operator.gradient(image), gradient, **tolerance)


@pytest.mark.parametrize("kind", ["2d", "y", "x", "full"])
@pytest.mark.parametrize("shape", [(4, 5), (5, 4)])
def test_gradients_flow_through_image_and_maps(kind, shape):
    measurement, image = random_measurement(2, 2, *shape, kind, torch.complex128)
    maps = measurement.sensitivities.clone().requires_grad_()
    image = image.clone().requires_grad_()

    def gradient(image, maps):
        return SenseOperator(measurement.with_sensitivities(maps)).gradient(image)

    assert torch.autograd.gradcheck(gradient, (image, maps))


def test_the_gradient_is_that_of_the_data_misfit():
    measurement, image = random_measurement(1, 3, 6, 7, dtype=torch.complex128)
    image = image.requires_grad_()
    operator = SenseOperator(measurement)
    misfit = 0.5 * (operator.forward(image) - measurement.kspace).abs().square().sum()
    (expected,) = torch.autograd.grad(misfit, image)
    torch.testing.assert_close(operator.gradient(image), expected)


@pytest.mark.parametrize("kind", ["2d", "y", "x", "full"])
@pytest.mark.parametrize("shape", [(2, 5, 8, 6), (1, 4, 7, 9), (3, 1, 5, 5)])
@pytest.mark.parametrize("coils_together", [1, 2, 100])
def test_coil_groups_give_what_the_tracked_path_gives(kind, shape, coils_together, monkeypatch):
    monkeypatch.setattr(sense, "GROUP_BYTES", coils_together * shape[-2] * shape[-1] * 8)
    measurement, image = random_measurement(*shape, kind)
    operator = SenseOperator(measurement)
    kspace = torch.randn_like(measurement.kspace)
    for apply, source in [(operator.normal, image), (operator.adjoint, kspace), (operator.reduce, kspace)]:
        tracked = apply(source.clone().requires_grad_())
        assert tracked.requires_grad
        untouched = source.clone()
        torch.testing.assert_close(apply(source), tracked.detach(), rtol=1e-6, atol=3e-6)
        assert torch.equal(source, untouched)
        with torch.no_grad():
            torch.testing.assert_close(apply(source), apply(source.clone().requires_grad_()), rtol=0, atol=0)


@pytest.mark.parametrize("kind", ["2d", "y", "x"])
def test_a_batch_is_treated_slice_by_slice(kind):
    measurement, image = random_measurement(3, 2, 6, 7, kind, seed=1)
    together = SenseOperator(measurement).gradient(image)
    for i in range(3):
        one = Measurement(*(t[i : i + 1] for t in (measurement.kspace, measurement.mask, measurement.sensitivities)))
        torch.testing.assert_close(
            together[i : i + 1], SenseOperator(one).gradient(image[i : i + 1]), rtol=1e-6, atol=3e-6
        )


@pytest.mark.parametrize("kind", ["2d", "y", "full"])
def test_forward_and_adjoint_pass_gradcheck(kind):
    measurement, image = random_measurement(2, 2, 4, 5, kind, torch.complex128)
    maps, kspace = measurement.sensitivities.clone().requires_grad_(), torch.randn_like(measurement.kspace)

    def both(image, kspace, maps):
        operator = SenseOperator(measurement.with_sensitivities(maps))
        return operator.forward(image), operator.adjoint(kspace)

    assert torch.autograd.gradcheck(both, (image.requires_grad_(), kspace.requires_grad_(), maps))


def test_a_line_mask_leaves_one_transform_in_the_loop(monkeypatch):
    measurement, image = random_measurement(1, 2, 8, 8, "x")
    operator = SenseOperator(measurement)
    operator.adjoint_data  # noqa: B018 (computed before the loop)
    transformed = []
    fftn = torch.fft.fftn
    monkeypatch.setattr(torch.fft, "fftn", lambda x, dim, norm: transformed.append(dim) or fftn(x, dim=dim, norm=norm))
    monkeypatch.setattr(torch.fft, "fftshift", None)
    monkeypatch.setattr(torch.fft, "ifftshift", None)
    operator.gradient(image)
    assert transformed == [(-1,), (-1,)]


def test_missing_or_misshapen_maps_are_named():
    measurement, _ = random_measurement(1, 2, 4, 4)
    with pytest.raises(ValueError, match="estimate them first"):
        SenseOperator(Measurement(measurement.kspace, measurement.mask))
    with pytest.raises(ValueError, match="differ in shape"):
        SenseOperator(measurement.with_sensitivities(measurement.sensitivities[:, :1]))


@pytest.mark.parametrize("kind", ["2d", "y", "x", "full"])
@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (1, 2, 5, 4)])
def test_with_constant_maps_gradients_of_any_order_are_right(kind, shape):
    measurement, image = random_measurement(*shape, kind, torch.complex128, seed=1)
    operator = SenseOperator(measurement)
    image.requires_grad_()
    assert torch.autograd.gradcheck(operator.gradient, image)
    assert torch.autograd.gradgradcheck(operator.gradient, image)


@pytest.mark.parametrize("kind", ["2d", "y", "x"])
def test_with_constant_maps_training_keeps_and_makes_nothing_of_the_coils_size(kind, monkeypatch):
    monkeypatch.setattr(sense, "GROUP_BYTES", 1)  # coil by coil
    measurement, image = random_measurement(1, 16, 24, 20, kind)
    operator = SenseOperator(measurement)
    operator.gradient(image)
    image.requires_grad_()

    def steps():
        estimate = image
        for _ in range(4):
            estimate = estimate - operator.gradient(estimate)
        estimate.abs().square().sum().backward()

    assert peak_bytes(steps) < measurement.kspace.nbytes


@pytest.mark.parametrize("kind", ["2d", "y", "x"])
def test_with_maps_in_training_one_temporary_is_made_beside_what_autograd_keeps(kind):
    measurement, image = random_measurement(1, 16, 24, 20, kind)
    operator = SenseOperator(measurement.with_sensitivities(measurement.sensitivities.requires_grad_()))
    operator.gradient(image)
    whole = measurement.kspace.nbytes
    # Kept: the coil images, for the gradient of the maps. Beside them their product with the maps, to be summed.
    assert peak_bytes(lambda: operator.gradient(image)) < 2.5 * whole


def test_the_order_in_memory_of_results_is_that_of_the_image():
    """Line masks along y have the maps turned round in memory; nothing of it is seen outside."""
    measurement, image = random_measurement(2, 3, 6, 8, "y")
    operator = SenseOperator(measurement)
    expected = operator.forward(image)
    assert operator.gradient(image).is_contiguous()
    torch.testing.assert_close(operator.forward(image), expected)
    assert operator.forward(image).is_contiguous()
    assert operator.adjoint(expected).is_contiguous()
