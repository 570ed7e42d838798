"""Invertible layers, and training through them without keeping their activations (Putzky & Welling, arXiv 1911.10914).

A coupling reads a part P s of a state s, and adds to s what leaves that part as it is:

    r = s + u(P s),   P r = P s      so      s = r − u(P r)

The backward pass needs the last state only. Layer by layer it takes the part from the output and evaluates u once, for
the input and for the derivatives. A state is real (batch, y, x, channels): Re and Im of the image, then latents.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from mrirecon.physics.measurement import Measurement
from mrirecon.physics.sense import SenseOperator

#: Time steps, each a chain of couplings; in an nn.Module an nn.ModuleList of them.
Steps = Sequence[Sequence["Coupling"]]
#: Reflections per orthogonal mixing, the authors' number.
REFLECTIONS = 3


class Coupling(nn.Module):
    """s + u(P s); a subclass gives P as `read` and u as `change`, with read(s + change(…)) = read(s)."""

    def read(self, state: Tensor) -> Tensor:
        """P s: a part, in a wide sense, of the state."""
        raise NotImplementedError

    def change(self, part: Tensor, operator: SenseOperator) -> Tensor:
        """u of that part: of the state's shape and dtype."""
        raise NotImplementedError

    def forward(self, state: Tensor, operator: SenseOperator) -> Tensor:
        return state + self.change(self.read(state), operator)

    def inverse(self, state: Tensor, operator: SenseOperator) -> Tensor:
        """The state that `forward` turns into `state`, up to rounding."""
        return state - self.change(self.read(state), operator)


class MixedCoupling(Coupling):
    """s + Q₂ᵀ f(Q₁ s), where Q₁ and Q₂ are the two halves of an orthogonal matrix Q that mixes the channels.

    This is Qᵀ C(Q s) with the additive coupling C(a, b) = (a, b + f(a)), written without turning the whole state:
    Q₁ Q₂ᵀ = 0 keeps f's input as it is. Q is a product of Householder reflections 1 − 2 v vᵀ / vᵀv with learned v.
    """

    def __init__(self, channels: int, hidden: int, stride: int):
        super().__init__()
        self.v = nn.Parameter(torch.randn(REFLECTIONS, channels))
        self.f = GatedBlock(channels // 2, hidden, stride)

    def mixing(self) -> Tensor:
        """Q, real (channels, channels)."""
        q = torch.eye(self.v.shape[1], dtype=self.v.dtype, device=self.v.device)
        for v in self.v:
            q = q - 2 / v.dot(v) * torch.outer(q @ v, v)
        return q

    def read(self, state: Tensor) -> Tensor:
        # In half precision Q₁ Q₂ᵀ would not be zero. f may be as coarse as it likes: it is evaluated twice alike.
        with torch.autocast(state.device.type, enabled=False):
            return state @ self.mixing().chunk(2)[0].T

    def change(self, part: Tensor, operator: SenseOperator) -> Tensor:
        right = self.f(part.movedim(-1, 1)).movedim(1, -1)
        with torch.autocast(part.device.type, enabled=False):
            return right.to(part.dtype) @ self.mixing().chunk(2)[1]


class GatedBlock(nn.Module):
    """f: convolution s×s of stride s → ReLU → 3×3 → ReLU → transposed s×s of stride s → a·σ(b).

    Real (batch, channels, y, x) → the same shape; sizes that s does not divide are zero-padded on the way. Starts near
    zero.
    """

    def __init__(self, channels: int, hidden: int, stride: int):
        super().__init__()
        self.stride = stride
        self.down = nn.Conv2d(channels, hidden, stride, stride)
        self.conv = nn.Conv2d(hidden, hidden, 3, padding=1)
        self.up = nn.ConvTranspose2d(hidden, 2 * channels, stride, stride)
        nn.init.kaiming_normal_(self.down.weight, nonlinearity="relu")
        nn.init.kaiming_normal_(self.conv.weight, nonlinearity="relu")
        nn.init.normal_(self.up.weight, std=1e-3)
        for layer in (self.down, self.conv, self.up):
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        padded = F.pad(x, (0, -width % self.stride, 0, -height % self.stride))
        features = self.conv(self.down(padded).relu_()).relu_()
        return F.glu(self.up(features), dim=1)[..., :height, :width]


def apply_steps(steps: Steps, state: Tensor, operator: SenseOperator) -> tuple[list[Tensor], Tensor]:
    """The complex image (batch, y, x) after every step, and the last state."""
    estimates = []
    for step in steps:
        for coupling in step:
            state = coupling(state, operator)
        estimates.append(torch.view_as_complex(state[..., :2].contiguous()))
    return estimates, state


def apply_memory_free(steps: Steps, state: Tensor, measurement: Measurement) -> list[Tensor]:
    """The images of `apply_steps`, with gradients that need no memory for the layers between; once differentiable.

    Gradients reach the state, the measurement's k-space and sensitivities, and the parameters of the steps.
    """
    data = measurement.kspace, measurement.sensitivities
    return list(_MemoryFree.apply(steps, measurement.mask, state, *data, *_parameters(steps)))


def _parameters(steps: Steps) -> list[nn.Parameter]:
    """All parameters of the steps, each once."""
    return list(dict.fromkeys(p for step in steps for coupling in step for p in coupling.parameters()))


class _MemoryFree(torch.autograd.Function):
    """`apply_steps` as one function of the state, k-space, maps and parameters."""

    @staticmethod
    def forward(
        ctx: Any, steps: Steps, mask: Tensor, state: Tensor, kspace: Tensor, maps: Tensor, *parameters: nn.Parameter
    ) -> tuple[Tensor, ...]:
        estimates, state = apply_steps(steps, state, SenseOperator(Measurement(kspace, mask, maps)))
        device = state.device.type
        # Weights that autocast has cached in this pass know nothing of gradients.
        ctx.autocast = {
            "device_type": device,
            "enabled": torch.is_autocast_enabled(device),
            "dtype": torch.get_autocast_dtype(device),
            "cache_enabled": False,
        }
        ctx.steps = steps
        # The parameters take no memory here; saved, they are guarded against a change before the backward pass.
        ctx.save_for_backward(state, mask, kspace, maps, *parameters)
        return tuple(estimates)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_estimates: Tensor) -> tuple[Tensor | None, ...]:
        state, mask, *data = ctx.saved_tensors[:4]
        kspace, maps = (t.detach().requires_grad_(n) for t, n in zip(data, ctx.needs_input_grad[3:5], strict=True))
        with torch.enable_grad():
            operator = SenseOperator(Measurement(kspace, mask, maps))
        gradients: dict[Tensor, Tensor] = {}
        grad_state = torch.zeros_like(state)
        for step, grad_estimate in zip(reversed(ctx.steps), reversed(grad_estimates), strict=True):
            grad_state[..., :2] += torch.view_as_real(grad_estimate)
            for coupling in reversed(step):
                leaves = [leaf for leaf in (kspace, maps, *coupling.parameters()) if leaf.requires_grad]
                with torch.autocast(**ctx.autocast):
                    state, grad_state, grad_leaves = _back(coupling, state, operator, grad_state, leaves)
                for leaf, gradient in grad_leaves:
                    gradients[leaf] = gradients[leaf] + gradient if leaf in gradients else gradient
        return None, None, grad_state, *(gradients.get(leaf) for leaf in (kspace, maps, *_parameters(ctx.steps)))


def _back(
    coupling: Coupling, state: Tensor, operator: SenseOperator, grad_state: Tensor, leaves: list[Tensor]
) -> tuple[Tensor, Tensor, list[tuple[Tensor, Tensor]]]:
    """From a coupling's output and the gradient there to its input, the gradient there, and those of the leaves.

    P is differentiated at the input: where its own weights move, P of input and output are no longer equal.
    """
    with torch.enable_grad():
        part = coupling.read(state).detach().requires_grad_()
        change = coupling.change(part, operator)
        state = (state - change).detach().requires_grad_()
        read = coupling.read(state)
    # The operator's own graph, from the maps on, serves all steps.
    grad_part, *of_change = torch.autograd.grad(
        change, [part, *leaves], grad_state, retain_graph=True, allow_unused=True
    )
    grad_read, *of_read = torch.autograd.grad(read, [state, *leaves], grad_part, allow_unused=True)
    terms = zip(2 * leaves, of_change + of_read, strict=True)
    return state.detach(), grad_state + grad_read, [(leaf, term) for leaf, term in terms if term is not None]
