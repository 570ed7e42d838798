import subprocess
import sys

SCRIPT = """
import torch
from mrirecon.processor import set_up_for_tensors
set_up_for_tensors()
torch.set_num_threads(2)
tiny = torch.full((2_000_000,), 1e-40)
print((tiny * 0.5).count_nonzero().item(), (torch.ones(3) * 1e-30).count_nonzero().item())
"""


def test_all_threads_take_numbers_too_small_to_be_normal_for_zero():
    """In a process of its own: it stays so."""
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["0", "3"]
