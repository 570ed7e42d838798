import pytest
import torch
import torch.nn.functional as F

from mrirecon.memory import peak_bytes
from mrirecon.models.blocks.normalisation import SLOPE, NormLeakyReLU


@pytest.mark.parametrize("size", [(1, 3, 7, 5), (2, 4, 8, 8), (1, 18, 33, 31)])
def test_it_is_instance_norm_and_leaky_relu(size: tuple[int, ...]):
    x = 3 + torch.randn(size)
    expected = F.leaky_relu(F.instance_norm(x), SLOPE)
    for memory in (torch.contiguous_format, torch.channels_last):
        torch.testing.assert_close(NormLeakyReLU()(x.to(memory_format=memory)), expected, rtol=1e-5, atol=1e-5)


def test_a_large_mean_costs_no_precision():
    x = 1000 + torch.randn(1, 2, 32, 32)
    expected = F.leaky_relu(F.instance_norm(x.double()), SLOPE)
    torch.testing.assert_close(NormLeakyReLU()(x).double(), expected, rtol=0, atol=1e-3)


def test_gradients_are_right():
    x = torch.randn(2, 3, 5, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(NormLeakyReLU(), (x,))


def test_a_constant_image_becomes_zero_with_finite_gradients():
    x = torch.ones(1, 2, 4, 4, requires_grad=True)
    y = NormLeakyReLU()(x)
    y.sum().backward()
    assert y.abs().max() == 0
    assert torch.isfinite(x.grad).all()


def test_for_the_gradient_only_the_output_is_kept():
    x = torch.randn(1, 8, 64, 64, requires_grad=True)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.nbytes) or t, lambda t: t):
        y = NormLeakyReLU()(x)
    assert sum(kept) < 1.1 * y.nbytes
    assert peak_bytes(lambda: NormLeakyReLU()(x.detach())) < 3.1 * y.nbytes
