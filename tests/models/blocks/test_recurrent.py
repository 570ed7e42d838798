import pytest
import torch

from mrirecon.memory import peak_bytes
from mrirecon.models.blocks.convolution import ReplicateConv2d
from mrirecon.models.blocks.recurrent import CELLS, recurrent_layer, relu_, strips_of


@pytest.mark.parametrize("unit", CELLS)
@pytest.mark.parametrize(("kernel", "dilation"), [(5, 1), (3, 2)])
@torch.no_grad()
def test_strips_of_rows_give_the_whole_image_without_seams(unit: str, kernel: int, dilation: int):
    convolution, cell = ReplicateConv2d(8, 8, kernel, dilation), CELLS[unit](8)
    x, h = (torch.randn(2, 8, 13, 9).to(memory_format=torch.channels_last) for _ in range(2))
    whole = recurrent_layer(convolution, cell, x, h.clone())
    for rows in (1, 3, 12):
        with strips_of(h.nbytes // 13 * rows):
            strips = recurrent_layer(convolution, cell, x, h.clone())
        torch.testing.assert_close(strips, whole, rtol=1e-5, atol=1e-6)


@torch.no_grad()
def test_strips_bound_the_memory():
    convolution, cell = ReplicateConv2d(16, 16, 3), CELLS["indrnn"](16)
    x, h = (torch.randn(1, 16, 256, 64).to(memory_format=torch.channels_last) for _ in range(2))
    whole = peak_bytes(lambda: recurrent_layer(convolution, cell, x, h))
    with strips_of(h.nbytes // 16):
        strips = peak_bytes(lambda: recurrent_layer(convolution, cell, x, h))
    assert whole > 1.9 * h.nbytes
    assert strips < 0.3 * h.nbytes


def test_with_gradients_the_state_is_not_overwritten():
    convolution, cell = ReplicateConv2d(4, 4, 3), CELLS["indrnn"](4)
    x, h = torch.randn(1, 4, 6, 6), torch.randn(1, 4, 6, 6)
    before = h.clone()
    with strips_of(1):
        recurrent_layer(convolution, cell, x, h).sum().backward()
    assert torch.equal(h, before)


def test_a_wide_recurrent_kernel_sees_its_neighbours():
    convolution, cell = ReplicateConv2d(4, 4, 3), CELLS["gru"](4, 3)
    x, h = torch.randn(1, 4, 6, 6), torch.randn(1, 4, 6, 6)
    with torch.no_grad(), strips_of(1):
        state = recurrent_layer(convolution, cell, x, h)
        torch.testing.assert_close(state, cell(convolution(x).relu(), h))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_relu_in_place_is_relu(dtype: torch.dtype):
    x = torch.tensor([-2.0, -0.0, 0.0, 1e-30, 3.5, float("inf"), float("-inf")], dtype=dtype)
    with torch.no_grad():
        y = relu_(x.clone())
    assert torch.equal(y, torch.relu(x))
