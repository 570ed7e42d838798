"""What a grid is: its YAML file as checked facts, its methods and its settings."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from itertools import product
from pathlib import Path
from typing import Any, TypeVar

import yaml

from mrirecon.errors import UsageError
from mrirecon.evaluation.evaluate import Setting
from mrirecon.evaluation.robustness.corruptions import WORST_CASE, Corruption
from mrirecon.evaluation.robustness.lesions import LesionStudy

T = TypeVar("T")


@dataclass(frozen=True)
class DataSet:
    """Where scans come from.

    path: a manifest of fully sampled scans or of NIfTI images, or a folder of NIfTI images; None = the built-in heads.
    All but path and seed is for the simulation, from heads or from images. train, val, test: how many heads. contrasts:
    of heads; files have their own. slices: of each volume, evenly spread; train_slices: of those trained on, None = the
    same. matrix: (y, x); None = the images' own, for heads 160 × 160. lesions: of each head. snr: as `mrirecon
    simulate` takes it. seed: of heads, coils, noise and splits.
    """

    path: Path | None = None
    train: int = 12
    val: int = 2
    test: int = 8
    contrasts: tuple[str, ...] = ("t1", "flair")
    slices: int = 4
    train_slices: int | None = None
    matrix: tuple[int, int] | None = None
    coils: int = 8
    snr: float = 30.0
    lesions: int = 8
    seed: int = 0


@dataclass(frozen=True)
class MethodSpec:
    """A method of the grid: classical, trained here, or a checkpoint.

    method: name of a classical or shipped one, or a checkpoint file. config: or a training config, by name or path,
    whose `model` is trained on the data set. data_consistency: forms to compare. arguments: for the constructor, over
    those of the config. tune: argument → values, of which the best on the validation split is taken, for each contrast,
    mask and acceleration. oracle: the same, but the best for each test volume, judged by its own fully sampled image:
    what nobody can have in practice, and its name says so.
    """

    method: str | None = None
    config: str | None = None
    data_consistency: tuple[str, ...] = ()
    arguments: Mapping[str, Any] = field(default_factory=dict)
    tune: Mapping[str, list[Any]] = field(default_factory=dict)
    oracle: Mapping[str, list[Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if (self.method is None) == (self.config is None):
            raise UsageError("a method of a grid has either 'method' (one that is there) or 'config' (one to train).")
        if len(self.tune) + len(self.oracle) > 1:
            raise UsageError("'tune' or 'oracle' takes one argument and its values; a method has one of the two.")
        if self.oracle and self.config:
            raise UsageError("'oracle' is for methods that need no training.")


@dataclass(frozen=True)
class Training:
    """How networks are trained: epochs over all training slices; matrix: crop slices to it; acs: as `Undersampling`."""

    epochs: int = 20
    batch_size: int = 1
    matrix: tuple[int, int] | None = None
    precision: str = "32-true"
    acs: tuple[int, int] = (8, 24)


@dataclass(frozen=True)
class Robustness:
    """What methods must withstand, beyond shifts and unseen masks.

    settings: each [mask, acceleration], among those of the grid. methods: whose names are given; empty = all. subjects:
    how many of the test split, None = all. corruptions: kind → levels, see `robustness.corruptions`. steps: of gradient
    ascent, for `worst_case`. lesions: which are inserted. gap: shifts on which networks are also trained, and
    compressed sensing tuned, to say how much better they would be had they known; those need train and val.
    """

    settings: tuple[tuple[str, float], ...]
    methods: tuple[str, ...] = ()
    subjects: int | None = None
    corruptions: Mapping[str, list[float]] = field(default_factory=dict)
    steps: int = 10
    lesions: LesionStudy | None = None
    gap: tuple[str, ...] = ()

    def all_corruptions(self) -> list[Corruption]:
        """Every kind at every level."""
        return [
            Corruption(kind, level, self.steps if kind == WORST_CASE else 0)
            for kind, levels in self.corruptions.items()
            for level in levels
        ]


@dataclass(frozen=True)
class Grid:
    """A grid. title: of the report; note: what its reader must know first. reference: the variant compared with.

    masks, accelerations: every combination is trained for and tested. unseen: further [mask, acceleration], only
    tested. acs: fully sampled lines in tests; None = each kind's own. seeds: of trainings. shifts: further data sets by
    name, only tested. robustness: further tests. checkpoints: folder of `NETWORK_seedN.safetensors`, used instead of
    training where they are.
    """

    title: str
    methods: Mapping[str, MethodSpec]
    reference: str
    note: str = ""
    masks: tuple[str, ...] = ("equispaced", "gaussian2d")
    accelerations: tuple[float, ...] = (4, 8)
    unseen: tuple[tuple[str, float], ...] = ()
    acs: int | None = None
    seeds: tuple[int, ...] = (0,)
    data: DataSet = field(default_factory=DataSet)
    shifts: Mapping[str, DataSet] = field(default_factory=dict)
    training: Training = field(default_factory=Training)
    robustness: Robustness | None = None
    checkpoints: Path | None = None

    def __post_init__(self) -> None:
        for setting in self.settings():
            setting.sampling_mask()
        if self.reference not in (names := [variant.name for variant in self.variants()]):
            raise UsageError(f"reference: '{self.reference}' is none of the methods: {', '.join(names)}.")
        if self.robustness:
            self.robustness.all_corruptions()
            _all_of("methods", self.robustness.methods, names)
            _all_of("gap", self.robustness.gap, list(self.shifts))
            _all_of("settings", [str(s) for s in self.robust_settings()], [str(s) for s in self.settings()])

    def settings(self) -> list[Setting]:
        """Every way to undersample, those never trained for at the end."""
        trained = product(self.masks, self.accelerations)
        return [Setting(mask, r, self.acs) for mask, r in (*trained, *self.unseen)]

    def robust_settings(self) -> list[Setting]:
        """Those of the robustness section."""
        return [Setting(mask, r, self.acs) for mask, r in self.robustness.settings] if self.robustness else []

    def variants(self) -> list["Variant"]:
        """Every method with every form of data consistency and, if it is trained here, every seed."""
        return [
            Variant(name, spec, form, seed if spec.config else None)
            for name, spec in self.methods.items()
            for form in spec.data_consistency or (None,)
            for seed in (self.seeds if spec.config else (0,))
        ]


@dataclass(frozen=True)
class Variant:
    """One method with one form of data consistency (None: it has no choice) and one seed (None: nothing is trained)."""

    method: str
    spec: MethodSpec
    consistency: str | None
    seed: int | None

    def __hash__(self) -> int:
        return hash(self.file_stem)  # what it is given has no hash

    @property
    def name(self) -> str:
        """What is compared; trainings from several seeds count as one."""
        method = f"{self.method} (oracle)" if self.spec.oracle else self.method
        return f"{method}, {self.consistency}" if self.consistency else method

    @property
    def arguments(self) -> dict[str, Any]:
        """What its constructor is given over its own defaults."""
        form = {"data_consistency": self.consistency} if self.consistency else {}
        return {**self.spec.arguments, **form}

    @property
    def file_stem(self) -> str:
        """A name for files."""
        text = "".join(letter if letter.isalnum() else "_" for letter in self.name.lower())
        return f"{text}_seed{self.seed}" if self.seed is not None else text


def is_grid(content: object) -> bool:
    """Whether the content of a YAML file is that of a grid: `methods` is a mapping."""
    return isinstance(content, dict) and isinstance(content.get("methods"), dict)


def read_grid(path: Path) -> Grid:
    """The grid of a YAML file. UsageError says which field is wrong."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        return grid_of(content)
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: cannot be read as YAML ({' '.join(str(error).split())}).") from error
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error


def grid_of(content: Mapping[str, Any]) -> Grid:
    """The grid that the content of a YAML file describes."""
    if not is_grid(content):
        raise UsageError("is not a grid: it must have the field 'methods', with a name for each.")
    values = dict(content)
    values["methods"] = {name: _made(MethodSpec, spec, f"methods: {name}") for name, spec in values["methods"].items()}
    values["data"] = _made(DataSet, values.get("data") or {}, "data")
    shifts = values.get("shifts") or {}
    values["shifts"] = {name: _made(DataSet, spec, f"shifts: {name}") for name, spec in shifts.items()}
    if robustness := dict(values.get("robustness") or {}):
        if lesions := robustness.get("lesions"):
            robustness["lesions"] = _made(LesionStudy, lesions, "robustness: lesions")
        values["robustness"] = _made(Robustness, robustness, "robustness")
    values["training"] = _made(Training, values.get("training") or {}, "training")
    return _made(Grid, values, "the grid")


def _all_of(field_name: str, given: Sequence[str], known: Sequence[str]) -> None:
    if unknown := [name for name in given if name not in known]:
        raise UsageError(f"robustness: {field_name}: '{unknown[0]}' is none of the grid's: {', '.join(known)}.")


def as_content(value: Any) -> Any:
    """A dataclass, or what is in one, as plain values for YAML and JSON."""
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: as_content(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {key: as_content(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [as_content(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def _made(kind: type[T], values: Any, where: str) -> T:
    """The dataclass of those values, lists made tuples; UsageError names a field that is not there or does not fit."""
    if not isinstance(values, Mapping):
        raise UsageError(f"{where}: must have fields.")
    known = {f.name: str(f.type) for f in fields(kind)}  # type: ignore[arg-type]
    if unknown := [name for name in values if name not in known]:
        raise UsageError(f"{where}: there is no field '{unknown[0]}'; there are {', '.join(known)}.")
    made = {name: _typed(value, known[name], f"{where}: {name}") for name, value in values.items()}
    try:
        return kind(**made)
    except TypeError as error:
        raise UsageError(f"{where}: {error}.") from error


def _typed(value: Any, kind: str, where: str) -> Any:
    """A plain value as a field of that type takes it."""
    many = "tuple" in kind
    if value is None or not isinstance(value, list | str | int | float | bool):
        return value
    if many != isinstance(value, list):
        raise UsageError(f"{where}: {value!r} must be {'a list' if many else 'one value'}.")
    if isinstance(value, list):
        return tuple(tuple(item) if isinstance(item, list) else item for item in value)
    if "Path" in kind:
        return Path(str(value)).expanduser()
    if ("int" in kind and type(value) is not int) or ("float" in kind and not isinstance(value, int | float)):
        raise UsageError(f"{where}: {value!r} must be a number.")
    return value
