"""What is to be reached, and what ATOMMIC took, for where it cannot be run. All as in docs/performance.md."""

from dataclasses import dataclass
from typing import Literal

from mrirecon.benchmark.measure import Row, Settings


@dataclass(frozen=True)
class Target:
    """A limit on a row's ratio to ours (at least), on its multiple of the floor, or on its median (at most).

    Of rows in another unit than seconds `value` is what `Row.median` is. device: on which it holds; None = on any.
    """

    of: Literal["ratio", "floor", "value"]
    limit: float
    device: str | None = "cpu"

    @property
    def text(self) -> str:
        return {
            "ratio": f"≥ {self.limit:g}×",
            "floor": f"≤ {self.limit:g}× floor",
            "value": f"≤ {self.limit:g}",
        }[self.of]

    def met(self, row: Row) -> bool | None:
        """Whether the row reaches it; None where it could not be measured."""
        if self.of == "ratio":
            return None if row.ratio is None else row.ratio >= self.limit
        value = row.over_floor if self.of == "floor" else row.median if row.samples else None
        return None if value is None else value <= self.limit


#: Key of a row → what is to be reached. With the standard sizes only.
TARGETS: dict[str, Target] = {
    **{
        f"physics/gradient, {mask}, {threads}: textbook": Target("ratio", limit)
        for mask, limit in (("2D mask", 4), ("lines along y", 5), ("lines along x", 5))
        for threads in ("1 thread", "2 threads")
    },
    "espirit/maps: bart ecalib": Target("ratio", 2.5),
    "espirit/maps: sigpy EspiritCalib": Target("ratio", 12),
    "cs/60 iterations: bart pics": Target("ratio", 3.5),
    "cs/60 iterations: sigpy L1WaveletRecon": Target("ratio", 5),
    "cs/to the best of bart pics: bart pics": Target("ratio", 8),
    "cs/to the best of sigpy L1WaveletRecon: sigpy L1WaveletRecon": Target("ratio", 10),
    # 75 % of the matrix-product rate over the convolutions.
    "networks/cirim, inference fp32": Target("floor", round(1 / 0.75, 2)),
    "networks/cirim, inference fp32: ATOMMIC (recorded)": Target("ratio", 1.6),
    "networks/cirim, inference bf16: ATOMMIC (recorded)": Target("ratio", 4),
    "networks/cirim, training step bf16: ATOMMIC (recorded)": Target("ratio", 2.5),
    "networks/cirim, training step bf16, resident memory: ATOMMIC (recorded)": Target("ratio", 2),
    "networks/cirim, training step bf16 checkpointed, resident memory: ATOMMIC (recorded)": Target("ratio", 3),
    "atommic/CIRIM 5 × 8 × 64, inference fp32: ATOMMIC fp32": Target("ratio", 1.6),
    "atommic/CIRIM 5 × 8 × 64, inference bf16: ATOMMIC fp32": Target("ratio", 4),
    "atommic/CIRIM 5 × 8 × 64, training step bf16: ATOMMIC fp32": Target("ratio", 2.5),
    "atommic/CIRIM 5 × 8 × 64, training step bf16, resident memory: ATOMMIC fp32": Target("ratio", 2),
    "atommic/CIRIM 5 × 8 × 64, training step bf16 checkpointed, resident memory: ATOMMIC fp32": Target("ratio", 3),
    "networks/cirim, inference bf16, per slice of 16": Target("value", 0.004, "cuda"),
    "quality/bf16 changes PSNR by": Target("value", 0.05, None),
    "quality/bf16 changes SSIM by": Target("value", 0.0005, None),
    "fastmri/VarNet 12 × 18, inference fp32: fastMRI fp32": Target("ratio", 1.5),
    "fastmri/VarNet 12 × 18, inference bf16: fastMRI fp32": Target("ratio", 3),
    "fastmri/VarNet 12 × 18, 15 × 640 × 368, tensors: fastMRI": Target("ratio", 2),
    "loading/one slice of 15 × 640 × 368: fastMRI": Target("ratio", 3),
    "loading/1,000 headers again": Target("value", 1.0),
    "scan/file to file": Target("floor", 1.15, None),
    "scan/resident memory with 4 times as many slices": Target("floor", 1.05),
}

#: Seconds, and bytes of peak resident memory, of ATOMMIC's networks in fp32 on a 12 × 256² slice, with random weights
#: and two threads of the development machine: (inference s, inference B, training step s, training step B).
ATOMMIC: dict[str, tuple[float, float, float, float]] = {
    "cirim": (5.3, 0.75e9, 13.4, 6.8e9),
    "rim_gru": (1.9, 1.0e9, 6.9, 5.0e9),
    "e2evn": (2.0, 0.71e9, 3.9, 1.8e9),
    "unet": (0.86, 0.84e9, 2.1, 1.3e9),
}
#: FLOP/s of a large fp32 matrix product on that machine, at that time.
ATOMMIC_RATE = 110e9


def target_of(row: Row, settings: Settings) -> Target | None:
    """The target that holds for this row in a run with these settings."""
    target = TARGETS.get(row.key)
    if target is None or not settings.standard or target.device not in (None, settings.device.type):
        return None
    return target
