"""What an importer says about foreign weights: which network they are, and what each of them is called here."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from mrirecon.errors import CheckpointError
from mrirecon.models.build import build
from mrirecon.physics.measurement import Reconstructor


@dataclass(frozen=True)
class Translation:
    """Foreign weights, understood.

    config: {"class_path", "init_args"} of the network that computes what the other toolbox computes; plain JSON values.
    names: foreign key → key of that network's `state_dict()`, for every foreign key that has a place here. Values are
    reshaped where the number of elements agrees, and never changed.
    ignored: foreign keys that the other toolbox itself does not use to reconstruct, or that repeat tied weights.
    notes: sentences about what was assumed because neither shapes nor settings say it.
    """

    config: dict[str, Any]
    names: dict[str, str]
    ignored: frozenset[str] = frozenset()
    notes: tuple[str, ...] = field(default=())

    def load(self, state_dict: Mapping[str, Tensor], partial: bool = False) -> tuple[Reconstructor, "Matching"]:
        """The network with the weights, in eval mode, and how their keys matched.

        Raises CheckpointError if shapes differ, and, unless `partial`, if weights are missing or have no place.
        """
        try:
            network = build(self.config)
        except (TypeError, ValueError, RuntimeError) as error:
            raise CheckpointError(f"the settings do not make a network: {error}") from error
        assert isinstance(network, Reconstructor)
        own = network.state_dict()
        placed = {foreign: name for foreign, name in self.names.items() if foreign in state_dict and name in own}
        matching = Matching(
            matched=placed,
            missing=tuple(sorted(own.keys() - placed.values())),
            unexpected=tuple(sorted(state_dict.keys() - placed.keys() - self.ignored)),
        )
        if len(set(placed.values())) < len(placed):
            raise CheckpointError("several of these weights stand for the same one here; leave one copy of them.")
        if not partial:
            matching.check()
        weights = {}
        for foreign, name in placed.items():
            value, target = state_dict[foreign], own[name]
            if value.numel() != target.numel():
                raise CheckpointError(
                    f"'{foreign}' has shape {tuple(value.shape)}, and {tuple(target.shape)} is needed; "
                    "the settings do not belong to these weights."
                )
            if not torch.isfinite(value).all():
                raise CheckpointError(f"'{foreign}' holds NaN or infinite values.")
            weights[name] = value.detach().reshape(target.shape).to(target.dtype)
        network.load_state_dict(weights, strict=not partial)
        return network.eval(), matching


@dataclass(frozen=True)
class Matching:
    """matched: foreign key → ours. missing: our keys without one. unexpected: foreign keys without a place here."""

    matched: dict[str, str]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]

    def check(self) -> None:
        """Raise CheckpointError unless everything matched."""
        if self.missing or self.unexpected:
            raise CheckpointError(
                f"only {len(self.matched)} weights match: missing {_few(self.missing)}; unexpected "
                f"{_few(self.unexpected)}."
            )


def _few(names: tuple[str, ...]) -> str:
    listed = ", ".join(names[:3])
    return f"{listed} and {len(names) - 3} more" if len(names) > 3 else listed or "none"
