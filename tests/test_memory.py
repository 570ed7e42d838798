import torch

from mrirecon import memory
from mrirecon.memory import available_bytes, peak_bytes


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


def test_a_container_has_no_more_than_its_limit_leaves(tmp_path, monkeypatch):
    limit, usage = tmp_path / "memory.max", tmp_path / "memory.current"
    usage.write_text("400000\n")
    monkeypatch.setattr(memory, "CONTROL_GROUPS", ((limit, usage),))
    limit.write_text("1000000\n")
    assert available_bytes() == 600_000
    limit.write_text("300000\n")
    assert available_bytes() == 0
    limit.write_text("max\n")
    assert available_bytes() > 10**6
