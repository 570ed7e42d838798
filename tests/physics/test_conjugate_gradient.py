import pytest
import torch
from torch import Tensor

from mrirecon.physics.conjugate_gradient import conjugate_gradient


def systems(dtype: torch.dtype, batch: int = 3, n: int = 12) -> tuple[Tensor, Tensor]:
    """Well-conditioned Hermitian matrices (batch, n, n) and right-hand sides (batch, n)."""
    generator = torch.Generator().manual_seed(0)
    root = torch.randn(batch, n, n, dtype=dtype, generator=generator)
    return root @ root.mH + torch.eye(n, dtype=dtype), torch.randn(batch, n, dtype=dtype, generator=generator)


def apply(matrices: Tensor, x: Tensor) -> Tensor:
    return (matrices @ x[..., None])[..., 0]


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_as_many_steps_as_unknowns_solve_the_systems(dtype):
    matrices, rhs = systems(dtype)
    x = conjugate_gradient(lambda v: apply(matrices, v), rhs, iterations=14)
    torch.testing.assert_close(x, torch.linalg.solve(matrices, rhs), rtol=1e-6, atol=1e-8)


def test_a_batch_gives_what_its_entries_give_alone():
    matrices, rhs = systems(torch.complex64)
    together = conjugate_gradient(lambda v: apply(matrices, v), rhs, 5)
    for i in range(len(rhs)):
        alone = conjugate_gradient(lambda v, i=i: apply(matrices[i : i + 1], v), rhs[i : i + 1], 5)
        torch.testing.assert_close(together[i : i + 1], alone)


def test_zero_and_solved_entries_stay_finite_in_value_and_gradient():
    matrices, rhs = systems(torch.complex128)
    rhs = rhs.clone()
    rhs[0] = 0
    rhs.requires_grad_()
    x = conjugate_gradient(lambda v: apply(matrices, v), rhs, iterations=40)
    assert torch.equal(x[0], torch.zeros_like(x[0]))
    assert x.isfinite().all()
    x.abs().square().sum().backward()
    assert rhs.grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])
def test_steps_after_the_solution_do_not_blow_up_in_a_null_space(dtype):
    """A single coil: A^H A is a projection onto the sampled frequencies, solved in one step."""
    from mrirecon.physics.fourier import fftc, ifftc

    mask = torch.arange(64) % 3 == 0
    image = torch.randn(1, 64, 64, dtype=dtype, generator=torch.Generator().manual_seed(0))
    sampled = ifftc(fftc(image) * mask)
    solved = conjugate_gradient(lambda x: ifftc(fftc(x) * mask), sampled, 60)
    torch.testing.assert_close(solved, sampled, rtol=0, atol=1e-4 if dtype == torch.complex64 else 1e-12)


def test_the_solution_as_start_is_kept():
    matrices, rhs = systems(torch.complex128)
    solution = torch.linalg.solve(matrices, rhs)
    torch.testing.assert_close(conjugate_gradient(lambda v: apply(matrices, v), rhs, 1, start=solution), solution)


def test_gradients_pass_through_the_steps():
    matrices, rhs = systems(torch.float64, batch=2, n=4)
    start = torch.zeros_like(rhs)

    def solve(matrices: Tensor, rhs: Tensor, start: Tensor) -> Tensor:
        return conjugate_gradient(lambda v: apply(matrices, v), rhs, 3, start)

    assert torch.autograd.gradcheck(solve, (matrices.requires_grad_(), rhs.requires_grad_(), start.requires_grad_()))
