"""From fully sampled slices to what a network is trained on: a Measurement and its target, with one set of maps."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mrirecon.errors import InputError
from mrirecon.physics.coils import espirit
from mrirecon.physics.fourier import ifftc
from mrirecon.physics.measurement import Measurement


@dataclass(frozen=True)
class Slice:
    """One fully sampled slice and the mask that undersamples it.

    kspace: complex64 (coils, y, x), divided by its scan's scale. mask: bool (1, y, x). volume: which volume it is from.
    """

    kspace: Tensor
    mask: Tensor
    volume: int = 0


@dataclass(frozen=True)
class Example:
    """measurement: what the network sees. target: complex (batch, y, x), Σ conj(S) F⁻¹ y_full. volumes: (batch,)."""

    measurement: Measurement
    target: Tensor
    volumes: Tensor


def collate(slices: Sequence[Slice]) -> dict[str, Tensor]:
    """Stack slices: tensors kspace (batch, coils, y, x), mask (batch, 1, y, x), volume (batch,).

    Where numbers of coils differ, empty coils fill up, which change nothing. Slices that lie across the first one are
    turned: their y becomes x. InputError if matrix sizes differ otherwise.
    """
    shape = slices[0].kspace.shape[-2:]
    slices = [s if s.kspace.shape[-2:] == shape else replace(s, kspace=s.kspace.mT, mask=s.mask.mT) for s in slices]
    if any(s.kspace.shape[-2:] != shape for s in slices):
        raise InputError(
            "slices of different matrix sizes do not fit into one batch; use a batch size of 1, or a matrix."
        )
    if len(slices) == 1:
        kspace = slices[0].kspace[None]  # without a copy
    else:
        coils = max(s.kspace.shape[0] for s in slices)
        kspace = slices[0].kspace.new_zeros(len(slices), coils, *shape)
        for row, s in zip(kspace, slices, strict=True):
            row[: s.kspace.shape[0]] = s.kspace
    masks = torch.stack([s.mask for s in slices])
    return {"kspace": kspace, "mask": masks, "volume": torch.tensor([s.volume for s in slices])}


def make_example(batch: dict[str, Tensor]) -> Example:
    """Undersample a collated batch and estimate its maps, on the batch's device.

    The maps come from what is left after masking, as they do at use, never from samples that the mask hides.
    """
    kspace, mask = batch["kspace"], batch["mask"]
    measured = torch.where(mask, kspace, 0)
    maps = espirit(measured, mask)
    target = (maps.conj() * ifftc(kspace)).sum(dim=1)
    return Example(Measurement(measured, mask, maps), target, batch["volume"])
