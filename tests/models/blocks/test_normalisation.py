import pytest
import torch
import torch.nn.functional as F

from mrirecon.memory import peak_bytes
from mrirecon.models.blocks import normalisation
from mrirecon.models.blocks.normalisation import SLOPE, NormLeakyReLU


@pytest.mark.parametrize("size", [(1, 3, 7, 5), (2, 4, 8, 8), (1, 18, 33, 31)])
def test_it_is_instance_norm_and_leaky_relu(size: tuple[int, ...]):
    x = 3 + torch.randn(size)
    expected = F.leaky_relu(F.instance_norm(x), SLOPE)
    for memory in (torch.contiguous_format, torch.channels_last):
        torch.testing.assert_close(NormLeakyReLU()(x.to(memory_format=memory)), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
def test_bfloat16_is_computed_in_single_precision_and_rounded_once(memory):
    x = (3 + torch.randn(2, 18, 33, 31)).bfloat16().to(memory_format=memory)
    expected = F.leaky_relu(F.instance_norm(x.float()), SLOPE)
    found = NormLeakyReLU()(x)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), expected, rtol=2**-8, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_threads_that_share_an_image_give_what_one_does(dtype, monkeypatch):
    x = torch.randn(2, 6, 24, 20).to(dtype)
    before, alone = torch.get_num_threads(), NormLeakyReLU()(x)
    rounding = 2**-8 if dtype == torch.bfloat16 else 1e-6
    monkeypatch.setattr(normalisation, "SHARED", 0)
    try:
        torch.set_num_threads(3)
        torch.testing.assert_close(NormLeakyReLU()(x), alone, rtol=rounding, atol=1e-6)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_is_no_number_spoils_its_channel_and_no_other(dtype):
    x = torch.randn(1, 3, 8, 8).to(dtype)
    x[0, 1, 2, 3] = torch.nan
    y = NormLeakyReLU()(x)
    assert y[0, 1].isnan().all()
    assert y[0, [0, 2]].isfinite().all()


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
