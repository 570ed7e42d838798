"""What DIRECT's networks are made of where it differs from `models.blocks`: recurrent layers and normalisation."""

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mrirecon.models.blocks.convolution import ReplicateConv2d


def normalise_halves(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Real (batch, channels, y, x) with zero mean and unit deviation in each half of the channels; mean; deviation.

    Mean and deviation are (batch, 2, 1). A constant half's deviation counts as 1.
    """
    halves = x.reshape(x.shape[0], 2, -1)
    mean, std = halves.mean(dim=2, keepdim=True), halves.std(dim=2, keepdim=True)
    std = torch.where(std > 0, std, 1)
    return ((halves - mean) / std).reshape(x.shape), mean, std


def restore_halves(x: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Real (batch, channels, y, x) with that mean and deviation, (batch, 2, 1), given to the halves of its channels."""
    return (x.reshape(x.shape[0], 2, -1) * std + mean).reshape(x.shape)


class OneByOne(nn.Module):
    """A network applied to one item (coil) of the batch after the other, as in DIRECT, in its memory and rounding."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        # Small U-Nets over k-space amplify rounding, which depends on the layout in memory, beyond what is tolerated.
        return torch.cat([self.network(item) for item in x.contiguous(memory_format=torch.channels_last).split(1)])


class RecurrentStack(nn.Module):
    """Convolutions with a gated recurrent unit after each but the last; i is a layer's input, h its state:

        x = ReLU(C*i)       z = σ(W_z*[x, h])       r = σ(W_r*[x, h])       n = tanh(W_n*[x, r.h])
        h' = (1−z).h + z.n                          the next layer's input is ReLU(h')

    Real (batch, inputs, y, x) and a list of `layers` states (batch, hidden, y, x) → (batch, outputs, y, x) and the new
    states; None = zero states. The convolutions C are 5×5, then 3×3, the second dilated by 2.
    gate_kernel: size of the W. dense: layers also see the x of so many layers before them. instance_norm: it comes
    before every W. normalised: inputs pass `normalise_halves`, which is undone on the outputs.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        hidden: int,
        layers: int,
        gate_kernel: int = 1,
        dense: int = 0,
        instance_norm: bool = False,
        normalised: bool = False,
    ):
        super().__init__()
        self.hidden = hidden
        self.layers = layers
        self.dense = dense
        self.instance_norm = instance_norm
        self.normalised = normalised
        widths = [inputs, *(hidden * (1 + min(layer, dense)) for layer in range(1, layers + 1))]
        self.convolutions = nn.ModuleList(
            ReplicateConv2d(width, hidden if i < layers else outputs, 3 if i else 5, dilation=2 if i == 1 else 1)
            for i, width in enumerate(widths)
        )

        def gates() -> nn.ModuleList:
            padding = gate_kernel // 2
            return nn.ModuleList(nn.Conv2d(2 * hidden, hidden, gate_kernel, padding=padding) for _ in range(layers))

        self.reset, self.update, self.candidate = gates(), gates(), gates()

    def forward(self, x: Tensor, states: Sequence[Tensor] | None) -> tuple[Tensor, list[Tensor]]:
        if self.normalised:
            x, mean, std = normalise_halves(x)
        if states is None:
            states = self.layers * [x.new_zeros(x.shape[0], self.hidden, *x.shape[-2:])]
        seen: list[Tensor] = []
        new = []
        for layer, h in enumerate(states):
            x = self._convolution(layer, seen, x).relu()
            seen.append(x)
            both = torch.cat([x, h], dim=1)
            update = self._gate(self.update[layer], both).sigmoid()
            reset = self._gate(self.reset[layer], both).sigmoid()
            candidate = self._gate(self.candidate[layer], torch.cat([x, h * reset], dim=1)).tanh()
            h = h * (1 - update) + candidate * update
            new.append(h)
            x = h.relu()
        out = self._convolution(self.layers, seen, x)
        return restore_halves(out, mean, std) if self.normalised else out, new

    def _convolution(self, layer: int, seen: list[Tensor], x: Tensor) -> Tensor:
        earlier = seen[-self.dense :] if self.dense else []
        out: Tensor = self.convolutions[layer](torch.cat([*earlier, x], dim=1))
        return out

    def _gate(self, gate: nn.Module, x: Tensor) -> Tensor:
        out: Tensor = gate(F.instance_norm(x) if self.instance_norm else x)
        return out


class StateInitializer(nn.Module):
    """First states from an image: real (batch, 2, y, x) → `layers` states (batch, hidden, y, x).

    Convolutions 3×3 of these `channels` and `dilations` with ReLU; a state is ReLU of a 1×1 convolution of the last
    `scales` of their outputs.
    """

    def __init__(self, channels: Sequence[int], dilations: Sequence[int], scales: int, hidden: int, layers: int):
        super().__init__()
        self.scales = scales
        widths = pairwise([2, *channels])
        self.convolutions = nn.ModuleList(
            ReplicateConv2d(i, o, 3, dilation=d) for (i, o), d in zip(widths, dilations, strict=True)
        )
        self.outputs = nn.ModuleList(nn.Conv2d(sum(channels[-scales:]), hidden, 1) for _ in range(layers))

    def forward(self, x: Tensor) -> list[Tensor]:
        features = []
        for convolution in self.convolutions:
            x = convolution(x).relu()
            features.append(x)
        combined = torch.cat(features[-self.scales :], dim=1)
        return [output(combined).relu() for output in self.outputs]
