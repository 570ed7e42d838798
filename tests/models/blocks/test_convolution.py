import pytest
import torch
import torch.nn.functional as F

from mrirecon.models.blocks.convolution import ReplicateConv2d


@pytest.mark.parametrize("outputs", [1, 2, 16])
@pytest.mark.parametrize(("kernel", "dilation"), [(3, 1), (5, 1), (3, 2)])
@pytest.mark.parametrize("bias", [True, False])
def test_it_is_a_convolution_with_repeated_borders(outputs: int, kernel: int, dilation: int, bias: bool):
    """Also where few outputs make it a matrix product and shifts; with the same gradients."""
    layer = ReplicateConv2d(6, outputs, kernel, dilation, bias).double()
    if bias:
        torch.nn.init.normal_(layer.bias)
    x = torch.randn(2, 6, 9, 11, dtype=torch.float64, requires_grad=True)
    halo = dilation * (kernel // 2)
    expected = F.conv2d(F.pad(x, 4 * [halo], mode="replicate"), layer.weight, layer.bias, dilation=dilation)
    torch.testing.assert_close(layer(x), expected)
    with torch.no_grad():
        torch.testing.assert_close(layer(x), expected)
    leaves = [x, *layer.parameters()]
    grad = torch.randn_like(expected)
    actual = torch.autograd.grad(layer(x), leaves, grad)
    torch.testing.assert_close(actual, torch.autograd.grad(expected, leaves, grad))


@torch.no_grad()
@pytest.mark.parametrize(("kernel", "dilation"), [(3, 1), (5, 1), (3, 2)])
def test_few_outputs_in_bfloat16_round_once(kernel: int, dilation: int):
    layer = ReplicateConv2d(6, 2, kernel, dilation).bfloat16()
    x = torch.randn(2, 6, 9, 11).bfloat16()
    halo = dilation * (kernel // 2)
    padded = F.pad(x.float(), 4 * [halo], mode="replicate")
    expected = F.conv2d(padded, layer.weight.float(), layer.bias.float(), dilation=dilation)
    found = layer(x)
    assert found.dtype == torch.float32
    assert (found - expected).abs().max() < 0.01 * expected.abs().max()


def test_rows_are_those_of_the_whole():
    layer = ReplicateConv2d(3, 8, 3, dilation=2)
    x = torch.randn(1, 3, 10, 7)
    for start, stop in ((0, 1), (1, 4), (4, 10), (0, 10)):
        torch.testing.assert_close(layer.rows(x, start, stop), layer(x)[..., start:stop, :])
