"""Explicit data consistency: a step after a network that ties its image x to the measured data.

On the coil-combined image, with g(x) = A^H (A x − y):

    soft      x ← x − λ g(x), λ learned, 1 at the start        hard      λ = 1, fixed
    proximal  x ← argmin_z ‖A z − y‖² + μ ‖z − x‖², μ learned, by conjugate gradient
    none      x ← x

The calibrated forms know the noise level σ of the scan (`SenseOperator.noise_std`): calibrated_proximal has μ = a σ²
and calibrated_soft λ = 1 / (1 + a σ²) with a learned, so that clean data bind harder than noisy data.

Implicit consistency is no step: the network is given g as an input and has to make use of it itself.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from mrirecon.physics.conjugate_gradient import conjugate_gradient
from mrirecon.physics.sense import SenseOperator

#: Every form there is; which of them a network admits is said by the groups below.
DataConsistency = Literal[
    "implicit",
    "soft",
    "hard",
    "proximal",
    "calibrated_soft",
    "calibrated_proximal",
    "none",
    "implicit+soft",
    "implicit+hard",
    "implicit+proximal",
    "implicit+calibrated_soft",
    "implicit+calibrated_proximal",
]
CG_ITERATIONS = 8
#: a at the start: at a noise level of 5 % of the image's scale, μ = a σ² is then 0.1, as in the form without σ.
CALIBRATION = 40.0


class GradientStep(nn.Module):
    """x − λ g(x); `length` is λ."""

    def length(self, operator: SenseOperator) -> Tensor | float:
        """λ, a scalar or to broadcast against an image (batch, y, x)."""
        raise NotImplementedError

    def forward(self, image: Tensor, operator: SenseOperator) -> Tensor:
        return image - self.length(operator) * operator.gradient(image)


class SoftConsistency(GradientStep):
    """A gradient step of learned length."""

    def __init__(self) -> None:
        super().__init__()
        self.step = nn.Parameter(torch.ones(()))

    def length(self, operator: SenseOperator) -> Tensor:
        return self.step


class HardConsistency(GradientStep):
    """A full gradient step."""

    def length(self, operator: SenseOperator) -> float:
        return 1.0


class CalibratedSoftConsistency(GradientStep):
    """A gradient step that the noise shortens."""

    def __init__(self) -> None:
        super().__init__()
        self.log_a = nn.Parameter(torch.tensor(CALIBRATION).log())

    def length(self, operator: SenseOperator) -> Tensor:
        return 1 / (1 + self.log_a.exp() * operator.noise_std.square()[:, None, None])


class ProximalStep(nn.Module):
    """argmin_z ‖A z − y‖² + μ ‖z − x‖², that is (A^H A + μ) z = A^H y + μ x; `mu` is μ > 0."""

    def mu(self, operator: SenseOperator) -> Tensor:
        """μ, a scalar or to broadcast against an image (batch, y, x)."""
        raise NotImplementedError

    def forward(self, image: Tensor, operator: SenseOperator) -> Tensor:
        mu = self.mu(operator)
        rhs = operator.adjoint_data + mu * image
        return conjugate_gradient(lambda z: operator.normal(z) + mu * z, rhs, CG_ITERATIONS, start=image)


class ProximalConsistency(ProximalStep):
    """The proximal step with learned μ."""

    def __init__(self) -> None:
        super().__init__()
        self.log_mu = nn.Parameter(torch.tensor(0.1).log())

    def mu(self, operator: SenseOperator) -> Tensor:
        return self.log_mu.exp()


class CalibratedProximalConsistency(ProximalStep):
    """The proximal step with μ in proportion to the noise's variance."""

    def __init__(self) -> None:
        super().__init__()
        self.log_a = nn.Parameter(torch.tensor(CALIBRATION).log())

    def mu(self, operator: SenseOperator) -> Tensor:
        return self.log_a.exp() * operator.noise_std.square()[:, None, None]


class NoConsistency(nn.Module):
    """x."""

    def forward(self, image: Tensor, operator: SenseOperator) -> Tensor:
        return image


STEPS: dict[str, type[nn.Module]] = {
    "soft": SoftConsistency,
    "hard": HardConsistency,
    "proximal": ProximalConsistency,
    "calibrated_soft": CalibratedSoftConsistency,
    "calibrated_proximal": CalibratedProximalConsistency,
    "none": NoConsistency,
}

#: What a network admits that has an explicit step on its output and is never given the gradient.
OUTPUT_FORMS = tuple(STEPS)
#: What an unrolled network admits that takes an explicit step in every cascade, or is given the gradient instead.
UNROLLED_FORMS = ("implicit", *STEPS)
#: What a recurrent inference machine admits: the gradient as input, a step after every cascade, both, or nothing.
RECURRENT_FORMS = (*UNROLLED_FORMS, *(f"implicit+{name}" for name in STEPS if name != "none"))


def split_consistency(form: str, admitted: Sequence[str], reason: str) -> tuple[bool, str]:
    """(gradient as input?, name of the explicit step in `STEPS`) of a form such as "implicit+soft".

    Raises ValueError, with `reason` (a sentence about the network) and the forms that are `admitted`, for any other.
    """
    if form not in admitted:
        raise ValueError(f"data consistency '{form}' is not possible here: {reason}; choose {', '.join(admitted)}")
    implicit = form.startswith("implicit")
    return implicit, "none" if form == "implicit" else form.removeprefix("implicit+")
