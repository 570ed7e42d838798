"""`mrirecon import-checkpoint`: another toolbox's weights, made a checkpoint of ours."""

import json
import textwrap
from collections import defaultdict
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import Namespace

from mrirecon import __version__
from mrirecon.cli.options import check_writable
from mrirecon.cli.parser import ArgumentParser
from mrirecon.errors import CheckpointError, UsageError
from mrirecon.export.hdf5 import DISCLAIMER
from mrirecon.models.importers import SOURCES, translate
from mrirecon.models.importers.translation import Matching, Translation
from mrirecon.physics.measurement import Reconstructor
from mrirecon.weights.checkpoint import save_checkpoint
from mrirecon.weights.foreign import ForeignCheckpoint, read_foreign

TOOLBOXES = {"fastmri": "fastMRI", "atommic": "ATOMMIC", "mridc": "mridc", "direct": "DIRECT"}


def run(argv: list[str]) -> int:
    """Import the checkpoint that `argv` names; returns the exit code."""
    options = _parser().parse_args(argv)
    source = _checked_source(options)
    foreign = read_foreign(options.file, options.config)
    given = dict(_setting(text) for text in options.set)
    if "time_steps" in given:  # that many are run; a stored configuration says how many were asked for
        given["time_steps_used"] = given["time_steps"]
    settings = foreign.settings | given
    made_by = str(settings.get("target")).split(".")[0]
    if made_by in SOURCES and made_by != source:
        raise CheckpointError(f"{options.file}: says that it is from {made_by}; give --from {made_by}.")
    version = options.version or foreign.version
    try:
        translation = translate(source, foreign.state_dict, settings, options.model or foreign.model, version)
        network, matching = translation.load(foreign.state_dict, partial=True)
    except CheckpointError as error:
        raise CheckpointError(f"{options.file}: {error}") from error
    facts = _facts(options, foreign, translation, matching, network, version)
    complete = not (matching.missing or matching.unexpected)
    if complete or options.partial:
        save_checkpoint(options.output, network, translation.config, _card(facts, settings))
        facts["output"] = str(options.output)
    print(json.dumps(facts) if options.json else _text(facts, options.verbose))
    if not facts["output"]:
        raise CheckpointError(
            f"{options.file}: {len(matching.missing)} weights are missing and {len(matching.unexpected)} have no "
            "place, so nothing was written; check --from, --model and --set, or accept it with --partial."
        )
    return 0


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="mrirecon import-checkpoint",
        description="Read the trained weights of another toolbox and write them as a checkpoint for 'mrirecon "
        "reconstruct --method OUT'. Weights are renamed and never changed. That toolbox is not needed, and nothing in "
        "the file is executed. What the weights' shapes do not tell is taken from --set, --config, the file, and else "
        f"from the toolbox's defaults, which is then said. {DISCLAIMER}",
    )
    add = parser.add_argument
    add("file", type=Path, metavar="FILE", help="torch file (.pt, .ckpt), .safetensors, or .atommic archive")
    add("--from", type=str, required=True, metavar="TOOLBOX", help=f"where it comes from: {', '.join(SOURCES)}")
    add("-o", "--output", type=Path, required=True, metavar="OUT.safetensors", help="the checkpoint to write")
    add("--model", type=str | None, help="the network's name in that toolbox, as VarNet or CIRIM (default: recognised)")
    add(
        "--version",
        type=str | None,
        help="the toolbox's version, as 0.0.1; mridc's and ATOMMIC's releases compute different things with the same "
        "weights (default: as the file says)",
    )
    add(
        "--config",
        type=Path | None,
        metavar="YAML",
        help="that toolbox's configuration file, where it lies beside the weights (as with DIRECT)",
    )
    add(
        "--set",
        type=str,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a setting of the network by that toolbox's name, as time_steps=8; can be given several times",
    )
    add("--partial", action="store_true", help="accept weights that are missing (random then) or have no place")
    add("--verbose", action="store_true", help="list every weight with its new name")
    add("--json", action="store_true", help="print one JSON object on stdout instead of text")
    return parser


def _checked_source(options: Namespace) -> str:
    """The toolbox; refuses options that cannot work before the file is read."""
    source = str(options["from"]).lower()
    if source not in SOURCES:
        raise UsageError(f"--from {options['from']}: is not known here; choose {', '.join(SOURCES)}.")
    output: Path = options.output
    if output.is_dir():
        raise UsageError(f"{output}: is a folder; give a file name.")
    if output.suffix != ".safetensors":
        raise UsageError(f"{output}: checkpoints are .safetensors; try -o {output.with_suffix('.safetensors')}.")
    if output.exists() and options.file.exists() and output.samefile(options.file):
        raise UsageError(f"{output}: is the input and would be overwritten; choose another output.")
    check_writable(output)
    return source


def _setting(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    try:
        if name and equals:
            return name, yaml.safe_load(value)
    except yaml.YAMLError:
        pass
    raise UsageError(f"--set {text}: give NAME=VALUE, such as time_steps=8 or conv_filters=[64,64,2].")


def _facts(
    options: Namespace,
    foreign: ForeignCheckpoint,
    translation: Translation,
    matching: Matching,
    network: Reconstructor,
    version: str | None,
) -> dict[str, Any]:
    """Everything that is printed and goes into the model card."""
    weights = network.state_dict()
    return {
        "output": None,
        "file": options.file.name,
        "sha256": foreign.sha256,
        "toolbox": TOOLBOXES[options["from"].lower()],
        "version": version,
        **translation.config,
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "groups": _groups({name: weights[name].numel() for name in matching.matched.values()}),
        "matched": matching.matched,
        "missing": list(matching.missing),
        "unexpected": list(matching.unexpected),
        "ignored": sorted(translation.ignored & foreign.state_dict.keys()),
        "notes": list(translation.notes),
    }


def _groups(sizes: dict[str, int]) -> dict[str, tuple[int, int]]:
    """Tensors and numbers in each part of the network. sizes: numbers by the names of the weights."""
    groups: dict[str, tuple[int, int]] = defaultdict(lambda: (0, 0))
    for name, size in sizes.items():
        part = name.removeprefix("reconstructor.").split(".")[0]
        tensors, numbers = groups[part]
        groups[part] = tensors + 1, numbers + size
    return dict(groups)


def _setting_text(name: str, value: Any) -> str:
    """A setting for reading; of a part of the network, its class and settings."""
    if isinstance(value, dict):
        value = f"{_class(value)} ({', '.join(_setting_text(*inner) for inner in value['init_args'].items())})"
    return f"{name} {value}"


def _class(config: dict[str, Any]) -> str:
    return str(config["class_path"].rpartition(".")[2])


def _text(facts: dict[str, Any], verbose: bool) -> str:
    settings = ", ".join(_setting_text(*setting) for setting in facts["init_args"].items())
    lines = [
        f"file        {facts['file']}",
        f"toolbox     {facts['toolbox']}{' ' + facts['version'] if facts['version'] else ''}",
        f"network     {_class(facts)}, {facts['parameters']:,} parameters",
        *textwrap.wrap(f"settings    {settings}", 110, subsequent_indent=" " * 12),
        "",
        f"{'weights':<28}{'tensors':>9}{'numbers':>14}",
        f"{'matched':<28}{len(facts['matched']):>9,}{sum(n for _, n in facts['groups'].values()):>14,}",
        *(f"  {part:<26}{count:>9,}{numbers:>14,}" for part, (count, numbers) in facts["groups"].items()),
        *(f"{kind:<28}{len(facts[kind]):>9,}" for kind in ("missing", "unexpected", "ignored")),
    ]
    for kind, meaning in (("missing", "not in the file"), ("unexpected", "in the file, without a place here")):
        if facts[kind]:
            lines += ["", f"{kind} ({meaning})", *(f"  {name}" for name in facts[kind])]
    if verbose:
        lines += ["", "matched", *(f"  {foreign} → {name}" for foreign, name in facts["matched"].items())]
        lines += ["", "ignored (the toolbox does not reconstruct with it)", *(f"  {name}" for name in facts["ignored"])]
    if facts["notes"]:
        lines += ["", "assumed (--config YAML or --set NAME=VALUE tells)", *(f"  - {note}" for note in facts["notes"])]
    if facts["output"]:
        lines += [
            "",
            f"written     {facts['output']}",
            f"try         mrirecon reconstruct SCAN -o image.h5 --method {facts['output']}",
            DISCLAIMER,
        ]
    return "\n".join(lines)


def _card(facts: dict[str, Any], settings: dict[str, Any]) -> str:
    """A model card of what is known; the rest is for its owner to fill in."""
    toolbox = facts["toolbox"]
    stored = {name: value for name, value in settings.items() if _short(value)}
    licence = "That of the original weights: fill it in before you pass this file on."
    if toolbox == "DIRECT":
        licence += " As far as known, DIRECT's published weights are under CC BY-SA 3.0; check."
    return "\n".join(
        [
            f"# {_class(facts)} with weights of {toolbox}",
            "",
            f"{DISCLAIMER} Imported by mrirecon {__version__}; weights are renamed, not changed.",
            "",
            "| | |",
            "| --- | --- |",
            f"| toolbox | {toolbox} {facts['version'] or '(version not known)'} |",
            f"| file | `{facts['file']}`, SHA-256 `{facts['sha256']}` |",
            f"| network | `{facts['class_path']}` |",
            f"| parameters | {facts['parameters']:,} |",
            f"| weights | {len(facts['matched'])} matched, {len(facts['missing'])} missing, "
            f"{len(facts['unexpected'])} without a place, {len(facts['ignored'])} not needed |",
            "",
            "## Settings",
            "",
            *(f"- {_setting_text(f'`{name}`', value)}" for name, value in facts["init_args"].items()),
            "",
            f"By {toolbox}'s names: "
            + (", ".join(f"`{k}` {v}" for k, v in stored.items()) or "none were stored")
            + ".",
            "",
            "## Assumed",
            "",
            *(f"- {note}" for note in facts["notes"] or ["Nothing."]),
            *(f"- `{name}` was not in the file and holds random numbers." for name in facts["missing"]),
            "",
            "## Licence",
            "",
            licence,
            "",
            "## Intended use",
            "",
            "Unknown: fill in the anatomy, contrast, field strength, coils, sampling and acceleration that it was "
            "trained on, and how it was tested. Outside of that a network's result means little.",
            "",
        ]
    )


def _short(value: object) -> bool:
    """Whether a setting can be quoted: a plain value, or a short list of them."""
    if isinstance(value, list):
        return len(value) <= 8 and all(not isinstance(entry, list) and _short(entry) for entry in value)
    return isinstance(value, bool | int | float) or (isinstance(value, str) and len(value) <= 60 and "\n" not in value)
