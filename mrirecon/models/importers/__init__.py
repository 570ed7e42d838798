"""Other toolboxes' weights, mapped onto the networks here. Importers see dictionaries of tensors, never files.

One module per toolbox, each with `translate`; `reading` and `parts` are what they share. Where a toolbox computes
another equation than the paper, a network that computes the same lies beside it, used for such weights only.
"""

import importlib
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from mrirecon.errors import CheckpointError
from mrirecon.models.importers.translation import Translation
from mrirecon.physics.measurement import Reconstructor

SOURCES = ("fastmri", "atommic", "mridc", "direct")


def load_foreign(
    source: str,
    state_dict: Mapping[str, Tensor],
    hyperparameters: Mapping[str, Any] | None = None,
    model: str | None = None,
    version: str | None = None,
) -> Reconstructor:
    """The network, in eval mode, that computes what another toolbox computes with these weights.

    source: fastmri, atommic, mridc or direct. state_dict: by that toolbox's keys. hyperparameters: that toolbox's own
    names; what is not given is taken from the shapes, else from its defaults. model: the network's name there (VarNet,
    CIRIM, …), None to recognise it by the keys. version: of the toolbox, where releases compute different things.
    The result takes a Measurement as any network here does; k-space is centred and orthonormal, whatever it was there.
    Raises CheckpointError, with the reason, for weights that are not completely understood.
    """
    return translate(source, state_dict, hyperparameters, model, version).load(state_dict)[0]


def translate(
    source: str,
    state_dict: Mapping[str, Tensor],
    hyperparameters: Mapping[str, Any] | None = None,
    model: str | None = None,
    version: str | None = None,
) -> Translation:
    """What the weights are and what each of them is called here; arguments and errors as of `load_foreign`."""
    if source not in SOURCES:
        raise CheckpointError(f"weights of '{source}' are not known here; choose {', '.join(SOURCES)}.")
    importer = importlib.import_module(f"mrirecon.models.importers.{source}")
    translation: Translation = importer.translate(state_dict, dict(hyperparameters or {}), model, version)
    return translation
