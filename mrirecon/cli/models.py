"""`mrirecon models`: what is shipped, what can be trained, what can be imported."""

import inspect
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from mrirecon.cli.configs import shipped_configs
from mrirecon.cli.parser import ArgumentParser
from mrirecon.errors import UsageError
from mrirecon.weights import shipped_models
from mrirecon.weights.intended import card_text, intended_ranges

if TYPE_CHECKING:
    from torch import nn

#: Networks of the CIRIM paper, as its author's toolboxes call them.
AUTHORS = ["CIRIM", "RIM", "IRIM", "VN", "CascadeNet", "KIKINet", "LPDNet", "UNet"]
#: Toolbox (the TOOLBOX of `mrirecon import-checkpoint --from TOOLBOX`) → its networks that have a counterpart here.
IMPORTABLE = {
    "fastmri": ["VarNet", "Unet"],
    "atommic": AUTHORS,
    "mridc": AUTHORS,
    "direct": ["RIM", "LPDNet", "KIKINet", "EndToEndVarNet", "RecurrentVarNet"],
}


def run(argv: list[str]) -> int:
    """List the models, or print the card of the one that `argv` names; returns the exit code."""
    options = _parser().parse_args(argv)
    if options.name is not None:
        model = _one(options.name)
        print(json.dumps(model) if options.json else model["card"].rstrip())
        return 0
    facts = {"shipped": _shipped(), "configs": _configs(), "importable": IMPORTABLE}
    print(json.dumps(facts) if options.json else _text(facts))
    return 0


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="mrirecon models",
        description="List the models that are shipped, the configurations that networks can be trained with and how "
        "many parameters each network has, and the networks of other toolboxes whose weights can be imported. With a "
        "NAME, print that model's card: what it was trained on, and when not to trust it.",
    )
    add = parser.add_argument
    add("name", type=str | None, nargs="?", metavar="NAME", help="a shipped model, or a checkpoint file")
    add("--json", action="store_true", help="print one JSON object on stdout instead of text")
    return parser


def _one(name: str) -> dict[str, Any]:
    from mrirecon.weights.checkpoint import load_checkpoint

    shipped = shipped_models()
    path = shipped.get(name, Path(name))
    if not path.is_file():
        raise UsageError(f"there is no model '{name}'; shipped are {', '.join(shipped)}; or give a checkpoint file.")
    checkpoint = load_checkpoint(path)
    return {
        "name": path.stem,
        "file": str(path),
        "bytes": path.stat().st_size,
        "sha256": checkpoint.sha256,
        **checkpoint.config,
        "parameters": _parameters(checkpoint.model),
        "intended": intended_ranges(checkpoint.card),
        "card": card_text(checkpoint.card),
    }


def _shipped() -> list[dict[str, Any]]:
    models = [_one(name) for name in shipped_models()]
    return [{key: value for key, value in model.items() if key != "card"} for model in models]


def _configs() -> list[dict[str, Any]]:
    """The shipped configs that train a network; it is built without memory for its weights to count them."""
    import torch

    from mrirecon.models.build import build

    found = []
    for name, path in shipped_configs().items():
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
        if not isinstance(config := document.get("model"), dict):
            continue
        network = config["model"]
        with torch.device("meta"):
            built = build(network)
        found.append(
            {
                "name": name,
                **network,
                "data_consistency": _data_consistency(network, built),
                "parameters": _parameters(built),
            }
        )
    return found


def _data_consistency(config: dict[str, Any], network: "nn.Module") -> str | None:
    """The form that a network was given, or has by default; that of the inner one where a network holds another."""
    arguments = config.get("init_args") or {}
    if "data_consistency" in arguments:
        return str(arguments["data_consistency"])
    if isinstance(arguments.get("reconstructor"), dict):
        return _data_consistency(arguments["reconstructor"], network.reconstructor)  # type: ignore[arg-type]
    parameter = inspect.signature(type(network)).parameters.get("data_consistency")
    return None if parameter is None else str(parameter.default)


def _parameters(network: "nn.Module") -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def _text(facts: dict[str, Any]) -> str:
    shipped = [
        (model["name"], _class(model), f"{model['parameters']:,}", f"{model['bytes'] / 1000:,.0f} kB", model["file"])
        for model in facts["shipped"]
    ]
    configs = [
        (config["name"], _class(config), config["data_consistency"] or "–", f"{config['parameters']:,}")
        for config in facts["configs"]
    ]
    imports = [(toolbox, ", ".join(networks)) for toolbox, networks in facts["importable"].items()]
    return "\n\n".join(
        [
            "shipped (mrirecon models NAME prints the card; mrirecon reconstruct SCAN --method NAME uses it)\n"
            + _table(("name", "network", "parameters", "size", "file"), shipped),
            "to train (mrirecon train --config NAME)\n"
            + _table(("name", "network", "data consistency", "parameters"), configs),
            "to import (mrirecon import-checkpoint FILE --from TOOLBOX -o OUT.safetensors)\n"
            + _table(("toolbox", "networks"), imports),
        ]
    )


def _class(config: dict[str, Any]) -> str:
    """The class's name; that of the inner network too where one holds another."""
    name = str(config["class_path"].rpartition(".")[2])
    inner = (config.get("init_args") or {}).get("reconstructor")
    return f"{name}({_class(inner)})" if isinstance(inner, dict) else name


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """Columns two spaces apart; parameters and sizes are aligned to the right."""
    table = [head, *rows]
    widths = [max(len(row[column]) for row in table) for column in range(len(head))]
    right = [name in ("parameters", "size") for name in head]
    lines = [
        "  " + "  ".join(cell.rjust(w) if r else cell.ljust(w) for cell, w, r in zip(row, widths, right, strict=True))
        for row in table
    ]
    return "\n".join(line.rstrip() for line in lines)
