import torch

from mrirecon.memory import peak_bytes


def test_the_peak_is_what_lives_at_one_time():
    def run():
        a = torch.ones(1000)  # 4,000 bytes
        b = a + 1
        del a
        return b * 2

    assert peak_bytes(run) == 8000


def test_views_count_once():
    assert peak_bytes(lambda: torch.ones(100)[:50].reshape(5, 10).T) == 400


def test_what_autograd_keeps_counts():
    x = torch.ones(1000, requires_grad=True)

    def run():
        (x * 2).exp().sin().sum().backward()

    assert 12000 <= peak_bytes(run) <= 20100


def test_tensors_from_before_do_not_count():
    x = torch.ones(10_000)
    assert peak_bytes(lambda: x.mul_(2)) == 0
