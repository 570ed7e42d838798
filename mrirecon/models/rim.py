"""Recurrent inference machine (Lønning et al., MedIA 53:64, 2019; arXiv 2012.07819).

    g_t = A^H (A x_t − y),   Δx_t, h_{t+1} = network([x_t, g_t], h_t),   x_{t+1} = x_t + Δx_t        t = 0 … T−1

One small network learns the inverse problem: it sees the image and the likelihood's gradient at every time step, and
remembers in its recurrent states h. With IndRNN units it is the IRIM of the CIRIM paper.
"""

import torch
from torch import Tensor, nn

from mrirecon.models.blocks.channels import to_channels, to_image
from mrirecon.models.blocks.checkpointing import repeated
from mrirecon.models.blocks.convolution import ReplicateConv2d
from mrirecon.models.blocks.data_consistency import RECURRENT_FORMS, STEPS, DataConsistency, split_consistency
from mrirecon.models.blocks.recurrent import CELLS, Unit, identity_, recurrent_layer
from mrirecon.physics.measurement import Measurement, Reconstructor
from mrirecon.physics.phase import low_resolution_phase, without_phase
from mrirecon.physics.sense import SenseOperator

Hidden = tuple[Tensor, Tensor]


class RIMCascade(nn.Module):
    """T time steps of one RIM, then an explicit data consistency step if there is one.

    conv 5×5 → ReLU → recurrent → conv 3×3 dilation 2 → ReLU → recurrent → conv 3×3 → Δx. Arguments as in `RIM`.
    """

    def __init__(
        self,
        unit: Unit = "gru",
        channels: int = 64,
        time_steps: int = 8,
        recurrent_kernel: int = 1,
        data_consistency: DataConsistency = "implicit",
    ):
        super().__init__()
        self.implicit, explicit = split_consistency(data_consistency, RECURRENT_FORMS, "a RIM has no such form")
        self.channels = channels
        self.time_steps = time_steps
        inputs = 4 if self.implicit else 2
        self.conv1 = ReplicateConv2d(inputs, channels, 5)
        self.cell1 = CELLS[unit](channels, recurrent_kernel)
        self.conv2 = ReplicateConv2d(channels, channels, 3, dilation=2)
        self.cell2 = CELLS[unit](channels, recurrent_kernel)
        self.conv3 = ReplicateConv2d(channels, 2, 3, bias=False)
        self.consistency = STEPS[explicit]()
        nn.init.normal_(self.conv3.weight, std=1e-3)
        if self.implicit:
            self._start_as_gradient_descent()

    def _start_as_gradient_descent(self) -> None:
        """Untrained, a time step is x ← x − g: four features carry the parts of ±Re g and ±Im g through all layers.

        Many steps in a row then neither blow up nor do nothing, and training begins at an iterative SENSE image.
        """
        carriers = [(part, sign) for part in (0, 1) for sign in (1, -1)]
        if self.channels < len(carriers):
            raise ValueError(f"a RIM needs at least {len(carriers)} channels, not {self.channels}")
        with torch.no_grad():
            self.conv1.weight[: len(carriers)] = 0
            self.conv3.weight[:, : len(carriers)] = 0
            for feature, (part, sign) in enumerate(carriers):
                self.conv1.weight[feature, 2 + part, 2, 2] = sign
                self.conv3.weight[part, feature, 1, 1] = -sign
        identity_(self.conv2.weight, self.conv2.bias, len(carriers))
        for cell in (self.cell1, self.cell2):
            cell.hand_on(len(carriers))

    def forward(self, image: Tensor, operator: SenseOperator, hidden: Hidden | None) -> tuple[list[Tensor], Hidden]:
        """From `image` (batch, y, x) to the estimates of all time steps (in eval mode the last only) and the states."""
        if hidden is None:
            size = (image.shape[0], self.channels, *image.shape[-2:])
            device = image.device.type
            autocast = torch.is_autocast_enabled(device)
            dtype = torch.get_autocast_dtype(device) if autocast else image.real.dtype
            zeros = torch.empty(size, dtype=dtype, device=image.device, memory_format=torch.channels_last).zero_()
            hidden = zeros, zeros.clone()
        estimates = []
        for step in range(self.time_steps):
            gradient = operator.gradient(image) if self.implicit else None
            update, *states = repeated(self._update, image, gradient, *hidden)
            image, hidden = image + update, (states[0], states[1])
            if step == self.time_steps - 1:
                image = self.consistency(image, operator)
            if self.training or step == self.time_steps - 1:
                estimates.append(image)
        return estimates, hidden

    def _update(self, image: Tensor, gradient: Tensor | None, h1: Tensor, h2: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        inputs = to_channels(image) if gradient is None else to_channels(image, gradient)
        h1 = recurrent_layer(self.conv1, self.cell1, inputs, h1)
        h2 = recurrent_layer(self.conv2, self.cell2, h1, h2)
        return to_image(self.conv3(h2)), h1, h2


class RIM(Reconstructor):
    """One recurrent inference machine.

    unit: recurrent cell, gru, mgu or indrnn. channels: features of every layer. time_steps: T. recurrent_kernel: side
    of the recurrent convolutions. data_consistency: `implicit` gives the network the gradient; an explicit form is a
    step after the last time step; `implicit+soft` and the like are both. remove_phase: the network sees images without
    their smooth phase (`physics.phase`), nearly real whatever the scan; estimates have it again.
    """

    def __init__(
        self,
        unit: Unit = "gru",
        channels: int = 64,
        time_steps: int = 8,
        recurrent_kernel: int = 1,
        data_consistency: DataConsistency = "implicit",
        remove_phase: bool = False,
    ):
        super().__init__()
        self.remove_phase = remove_phase
        self.steps_per_cascade = time_steps
        self.cascade = RIMCascade(unit, channels, time_steps, recurrent_kernel, data_consistency)

    def forward(self, measurement: Measurement) -> list[Tensor]:
        if self.remove_phase:
            phase = low_resolution_phase(measurement)
            measurement = without_phase(measurement, phase)
        operator = SenseOperator(measurement)
        image = operator.adjoint_data if measurement.initial_image is None else measurement.initial_image
        estimates, _ = self.cascade(image, operator, None)
        return [estimate * phase for estimate in estimates] if self.remove_phase else estimates


class IRIM(RIM):
    """Independently recurrent inference machine: the RIM with IndRNN units (arXiv 2012.07819); see `RIM`."""

    def __init__(
        self,
        channels: int = 64,
        time_steps: int = 8,
        recurrent_kernel: int = 1,
        data_consistency: DataConsistency = "implicit",
        remove_phase: bool = False,
    ):
        super().__init__("indrnn", channels, time_steps, recurrent_kernel, data_consistency, remove_phase)
