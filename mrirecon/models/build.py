"""A network from its configuration, the form in which checkpoints describe it."""

import importlib
from collections.abc import Mapping
from typing import Any

from torch import nn


def build(config: Mapping[str, Any]) -> nn.Module:
    """The network of {"class_path": …, "init_args": {…}}; arguments of that form are built first.

    Imports what the configuration names: one that comes from outside must be checked before. Raises what the import
    and the constructors raise, and TypeError if the class is not a network.
    """
    module, _, name = config["class_path"].rpartition(".")
    network = getattr(importlib.import_module(module), name)
    if not (isinstance(network, type) and issubclass(network, nn.Module)):
        raise TypeError("it is not a network")
    arguments = {
        key: build(value) if isinstance(value, Mapping) and "class_path" in value else value
        for key, value in (config.get("init_args") or {}).items()
    }
    return network(**arguments)
