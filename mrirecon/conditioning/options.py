"""Which corrections are made between a file and the k-space that methods see."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from mrirecon.errors import UsageError

#: The steps that can be left out, in the order in which they are done; docs/conditioning.md describes each.
SkippableStep = Literal[
    "flags",
    "readout-ends",
    "averages",
    "centring",
    "calibration",
    "slice-order",
    "prewhitening",
    "oversampling",
    "scale",
]
SKIPPABLE: tuple[str, ...] = get_args(SkippableStep)
#: What a step that was left out is recorded to have done.
SKIPPED = "skipped as asked"
Compression = Literal["svd", "geometric"]
Directions = Literal["auto", "mrd", "siemens"]


@dataclass(frozen=True)
class Conditioning:
    """What is done to a scan before it is reconstructed; the defaults are what its scanner would do.

    skip: steps to leave out. noise: file of a noise scan measured with the same coils. background_noise: estimate the
    noise from the scan's own background even where that is not the default (files of sorted k-space).
    coils: compress to so many virtual coils (whole number), or to so many as hold this share of the energy (below 1);
    None = keep all. compression: one matrix for the scan (svd), or one per position along the readout, aligned
    (geometric). directions: how raw data's direction cosines relate to the image: as the vendor has it (auto), or as
    mrd or siemens have it whatever the vendor.
    """

    skip: tuple[SkippableStep, ...] = ()
    noise: Path | None = None
    background_noise: bool = False
    coils: float | None = None
    compression: Compression = "svd"
    directions: Directions = "auto"

    def __post_init__(self) -> None:
        if unknown := [step for step in self.skip if step not in SKIPPABLE]:
            raise UsageError(f"there is no step '{unknown[0]}' to skip; there are {', '.join(SKIPPABLE)}.")
        if self.noise and not self.does("prewhitening"):
            raise UsageError(f"{self.noise}: a noise scan is for prewhitening, which is to be skipped; leave one out.")
        if self.background_noise and (self.noise or not self.does("prewhitening")):
            raise UsageError("the background's noise is for prewhitening without a noise scan; leave one option out.")
        for name, value in (("compression", Compression), ("directions", Directions)):
            if getattr(self, name) not in get_args(value):
                choices = ", ".join(get_args(value))
                raise UsageError(f"{name} '{getattr(self, name)}': choose one of {choices}.")
        if self.coils is None and self.compression != "svd":
            raise UsageError(f"compression '{self.compression}' is for --compress-coils; say to how many coils.")
        if self.coils is not None and not (0 < self.coils < 1 or (self.coils >= 1 and float(self.coils).is_integer())):
            raise UsageError(f"compressing to {self.coils:g} coils: give a whole number, or a share of energy below 1.")

    def does(self, step: SkippableStep) -> bool:
        """Whether the step is done."""
        return step not in self.skip
