"""Explicit data consistency: a step after a network that ties its image x to the measured data.

On the coil-combined image, with g(x) = A^H (A x − y):

    soft      x ← x − λ g(x), λ learned, 1 at the start        hard      λ = 1, fixed
    proximal  x ← argmin_z ‖A z − y‖² + μ ‖z − x‖², μ learned, by conjugate gradient
    none      x ← x

Implicit consistency is no step: the network is given g as an input and has to make use of it itself.
"""

from typing import Literal, get_args

import torch
from torch import Tensor, nn

from mrirecon.physics.conjugate_gradient import conjugate_gradient
from mrirecon.physics.sense import SenseOperator

Explicit = Literal["soft", "hard", "proximal", "none"]
#: What a recurrent inference machine admits: the gradient as input, a step after every cascade, both, or nothing.
DataConsistency = Literal[
    "implicit", "implicit+soft", "implicit+hard", "implicit+proximal", "soft", "hard", "proximal", "none"
]
CG_ITERATIONS = 8


class SoftConsistency(nn.Module):
    """x − λ g(x) with learned λ."""

    def __init__(self) -> None:
        super().__init__()
        self.step = nn.Parameter(torch.ones(()))

    def forward(self, image: Tensor, operator: SenseOperator) -> Tensor:
        return image - self.step * operator.gradient(image)


class HardConsistency(nn.Module):
    """x − g(x): a full gradient step."""

    def forward(self, image: Tensor, operator: SenseOperator) -> Tensor:
        return image - operator.gradient(image)


class ProximalConsistency(nn.Module):
    """argmin_z ‖A z − y‖² + μ ‖z − x‖², that is (A^H A + μ) z = A^H y + μ x, with learned μ > 0."""

    def __init__(self) -> None:
        super().__init__()
        self.log_mu = nn.Parameter(torch.tensor(0.1).log())

    def forward(self, image: Tensor, operator: SenseOperator) -> Tensor:
        mu = self.log_mu.exp()
        rhs = operator.adjoint_data + mu * image
        return conjugate_gradient(lambda z: operator.normal(z) + mu * z, rhs, CG_ITERATIONS, start=image)


class NoConsistency(nn.Module):
    """x."""

    def forward(self, image: Tensor, operator: SenseOperator) -> Tensor:
        return image


STEPS: dict[str, type[nn.Module]] = {
    "soft": SoftConsistency,
    "hard": HardConsistency,
    "proximal": ProximalConsistency,
    "none": NoConsistency,
}


def split_consistency(form: DataConsistency) -> tuple[bool, str]:
    """(implicit?, explicit step's name) of a form such as "implicit+soft". ValueError names the forms there are."""
    if form not in get_args(DataConsistency):
        raise ValueError(f"data consistency '{form}' is not one of {', '.join(get_args(DataConsistency))}")
    parts = form.split("+")
    implicit = parts[0] == "implicit"
    return implicit, "none" if form == "implicit" else parts[-1]
