"""Weights and settings of another toolbox while they are read: do they agree, and of which network are they?"""

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from mrirecon.errors import CheckpointError
from mrirecon.models.importers.translation import Translation

PACKAGE = "mrirecon.models.importers"
#: Modules that training puts around a network; no name of a network that is imported begins like this.
WRAPPERS = ("module", "model", "_orig_mod")


def unwrapped(keys: Collection[str], *wrappers: str) -> dict[str, str]:
    """Name in the bare network → key, without `WRAPPERS` and these; CheckpointError if two keys become one name."""
    wrapper = rf"^(?:(?:{'|'.join((*WRAPPERS, *wrappers))})\.)+"
    names = {re.sub(wrapper, "", key): key for key in keys}
    if len(names) < len(keys):
        raise CheckpointError("these weights hold a network several times, behind different prefixes; leave one.")
    return names


def rewrapped(translation: Translation, keys: Mapping[str, str]) -> Translation:
    """A translation of the bare network's names as one of the `keys` that `unwrapped` took them from."""
    return replace(
        translation,
        names={keys[name]: own for name, own in translation.names.items() if name in keys},
        ignored=frozenset(keys[name] for name in translation.ignored if name in keys),
    )


@dataclass
class Foreign:
    """Weights and settings while they are read; what had to be assumed gathers in `notes`."""

    weights: Mapping[str, Tensor]
    settings: Mapping[str, Any]
    notes: list[str] = field(default_factory=list)

    def given(self, *names: str) -> Any:
        """The first of these settings that is there, else None.

        The toolboxes also write None as a word, and lists as tuples or, on command lines, of words.
        """
        value = next((self.settings[name] for name in names if self.settings.get(name) not in (None, "None")), None)
        if not isinstance(value, list | tuple):
            return value
        return [int(entry) if isinstance(entry, str) and entry.isdecimal() else entry for entry in value]

    def assumed(self, name: str, default: Any) -> Any:
        """The setting, or else the default with a note; CheckpointError for another type than the default's."""
        value = self.given(name)
        if value is None:
            self.notes.append(f"`{name}` is not given and is not in the weights; {default} is assumed.")
            return default
        if not isinstance(value, type(default)):
            raise CheckpointError(f"{name} = {value!r} is not understood; {default!r} would be.")
        return value

    def check(self, name: str, found: Any) -> None:
        """Raise CheckpointError if the setting contradicts what the weights say."""
        given = self.given(name)
        same = given.lower() == found.lower() if isinstance(given, str) and isinstance(found, str) else given == found
        if given is not None and not same:
            raise CheckpointError(
                f"the settings say {name} = {given} and the weights {found}; they do not belong together."
            )

    def only(self, name: str, possible: Any, why: str) -> None:
        """Raise CheckpointError if the setting is another than the one that is possible here."""
        given = self.given(name)
        if given is not None and given != possible:
            raise CheckpointError(f"{name} = {given} cannot be imported: {why}; only {possible} can.")

    def has(self, prefix: str) -> bool:
        """Whether names of weights begin so."""
        return any(key.startswith(prefix) for key in self.weights)

    def tensor(self, name: str) -> Tensor:
        """One of the weights; CheckpointError if it is missing."""
        if name not in self.weights:
            raise CheckpointError(f"'{name}' is missing, so these weights are not understood.")
        return self.weights[name]

    def shape(self, name: str) -> tuple[int, int, int]:
        """(outputs, inputs, kernel size) of a convolution; CheckpointError if it is missing or no square 2D one."""
        shape = tuple(self.tensor(name).shape)
        if len(shape) != 4 or 0 in shape or shape[2] != shape[3]:
            raise CheckpointError(f"'{name}' has shape {shape} and is no 2D convolution with a square kernel.")
        return shape[0], shape[1], shape[3]

    def count(self, pattern: str) -> int:
        """How many numbers, from 0 on, the pattern's group takes at the start of names; CheckpointError for gaps."""
        found = {int(match[1]) for key in self.weights if (match := re.match(pattern, key))}
        if not found or found != set(range(len(found))):
            raise CheckpointError(f"parts '{pattern}' are missing: those numbered {sorted(found)} are there.")
        return len(found)

    def tied(self, names: list[str]) -> set[str]:
        """All these names but the first, whose weights they must repeat, or else CheckpointError."""
        for name in names[1:]:
            if not torch.equal(self.tensor(names[0]), self.tensor(name)):
                raise CheckpointError(
                    f"'{name}' differs from '{names[0]}', and the toolbox uses the same weights at both places; a "
                    "network that was changed there cannot be imported."
                )
        return set(names[1:])

    def tied_iterations(self, part: str) -> set[str]:
        """Names `part`.1.*, `part`.2.*, …, whose weights must repeat those of `part`.0.*."""
        iterations = self.count(rf"{part}\.(\d+)\.")
        inside = [key.removeprefix(f"{part}.0.") for key in self.weights if key.startswith(f"{part}.0.")]
        return {name for key in inside for name in self.tied([f"{part}.{i}.{key}" for i in range(iterations)])}


@dataclass(frozen=True)
class Network:
    """What can be imported of a toolbox.

    aliases: its names in lower case. pattern: at the start of names of its weights only. read: from the toolbox's
    `Foreign` to a translation of the bare network's names.
    """

    aliases: tuple[str, ...]
    pattern: str
    read: Callable[[Any], Translation]


def identify(foreign: Foreign, networks: Mapping[str, Network], model: str | None) -> str:
    """Which of a toolbox's networks the weights are of; CheckpointError if none, several or another than `model`."""
    known = ", ".join(networks)
    found = [name for name, n in networks.items() if any(re.match(n.pattern, key) for key in foreign.weights)]
    model = model or foreign.given("model_name", "target")
    wanted = None
    if model:
        short = str(model).rpartition(".")[2].lower()
        wanted = next((name for name, network in networks.items() if short in network.aliases), None)
        if wanted is None:
            raise CheckpointError(f"'{model}' cannot be imported; what can is {known}.")
    if len(found) != 1 or wanted not in (None, found[0]):
        what = f"of {' or '.join(found)}" if found else "of no network known here"
        told = f", not of {model}" if model else ""
        first = ", ".join(sorted(foreign.weights)[:3]) or "none"
        raise CheckpointError(
            f"these weights are {what}{told} (they begin with {first}); what can be imported is {known}."
        )
    return found[0]
