"""Compares methods on one real, fully sampled scan: writes real_brain.md and one figure per mask.

    python scripts/results_real_brain.py --scan kdata_8ch.mat --network cirim_small -o docs/results

The scan is `data/kdata_8ch.mat` of github.com/jiawang66/mripy (MIT): 8 coils, axial brain, 256 × 256.
"""

import argparse
import shlex
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mrirecon import __version__, metrics
from mrirecon.acquisition.detection import open_scan
from mrirecon.atomic import atomic_path
from mrirecon.classical.cg_sense import CGSense
from mrirecon.evaluation.evaluate import Example, Setting, Table, evaluate
from mrirecon.evaluation.figures import label, mask_label, save_comparison
from mrirecon.export.hdf5 import DISCLAIMER
from mrirecon.physics.sampling import EquispacedFraction1D, Gaussian2D, SamplingMask
from mrirecon.reconstruction.methods import Method, method_by_name

ACS = 24
SEED = 0
MASKS = {
    "equi3": ("equispaced", EquispacedFraction1D(3, ACS)),
    "equi4": ("equispaced", EquispacedFraction1D(4, ACS)),
    "gauss4": ("gaussian2d", Gaussian2D(4, ACS)),
    "gauss8": ("gaussian2d", Gaussian2D(8, ACS)),
}
CG_STEPS = range(1, 31)
#: Marks methods that know the answer.
ORACLE = "†"
ORACLE_CS = f"CS, oracle {ORACLE}"
ORACLE_CS_NOTE = """ The other CS is SigPy's with the best weight for each mask, random
shifts of the wavelets and coil maps from the whole centre; its image was made elsewhere and is only scored here."""


class StoredMask(SamplingMask):
    """A mask (y, x) as it is, whatever the seed."""

    name = "stored"

    def __init__(self, mask: NDArray[np.bool_]):
        super().__init__(mask.size / mask.sum())
        self.stored = mask

    def _draw(self, shape: tuple[int, int], rng: np.random.RandomState, readout_axis: str) -> NDArray[np.bool_]:
        return self.stored


@dataclass(frozen=True)
class MaskSetting(Setting):
    """A setting whose mask is at hand. key: short name, for files."""

    key: str = field(kw_only=True)
    drawn: SamplingMask = field(kw_only=True)

    def sampling_mask(self) -> SamplingMask:
        return self.drawn


def main() -> None:
    """Reconstruct with every method in every setting, and write."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--scan", type=Path, required=True, help="fully sampled k-space of one slice")
    parser.add_argument("--network", required=True, help="a shipped model's name or a checkpoint file")
    parser.add_argument(
        "--reference",
        type=Path,
        help=f".npz with masks mask_K (y, x), oracle CS images cs_K (y, x) for K in {', '.join(MASKS)}, and the scale "
        "that the images' k-space was divided by; without it the masks are drawn here and there is no oracle CS",
    )
    parser.add_argument("-o", "--output", type=Path, default=Path("docs/results"), help="folder (default docs/results)")
    arguments = parser.parse_args()
    stored = dict(np.load(arguments.reference)) if arguments.reference else {}
    network = method_by_name(arguments.network)
    methods = [method_by_name("zero-filled"), method_by_name("cs"), network]
    methods += [Method(f"CG-SENSE, {n} steps {ORACLE}", CGSense(n), {}, None) for n in CG_STEPS]
    settings = [
        MaskSetting(
            kind, drawn.acceleration, ACS, key=key, drawn=StoredMask(stored[f"mask_{key}"]) if stored else drawn
        )
        for key, (kind, drawn) in MASKS.items()
    ]
    evaluation = evaluate([arguments.scan], methods, settings, seed=SEED)
    if evaluation.failures:
        sys.exit("\n".join(evaluation.failures.values()))
    factor = stored["scale"] / open_scan(arguments.scan).survey.scale if stored else 1
    examples = {
        setting.key: shown(example, factor * np.abs(stored[f"cs_{setting.key}"]) if stored else None)
        for setting, example in zip(settings, evaluation.examples, strict=True)
    }
    for key, example in examples.items():
        save_comparison(arguments.output / figure_name(key), example)
    with atomic_path(arguments.output / "real_brain.md") as temporary:
        temporary.write_text(page(examples, network, bool(stored)), encoding="utf-8")


def figure_name(key: str) -> str:
    """File name of the figure for a mask."""
    return f"real_brain_{key}.png"


def shown(example: Example, oracle_cs: NDArray[np.floating] | None) -> Example:
    """Zero-filled, only the best CG-SENSE, CS, the oracle's CS (a magnitude image in the scan's scale), the network."""
    zero_filled, cs, network, *cg = example.rows
    images, rows = dict(example.images), dict(example.rows)
    names = [zero_filled, max(cg, key=lambda name: rows[name].psnr), cs, network]
    if oracle_cs is not None:
        image = np.float32(oracle_cs * example.support)
        volumes = example.reference[None], image[None]
        psnr, ssim = (metric(*volumes, example.support) for metric in (metrics.psnr, metrics.ssim))
        images[ORACLE_CS] = image
        rows[ORACLE_CS] = replace(rows[cs], method=ORACLE_CS, psnr=psnr, ssim=ssim, nmse=metrics.nmse(*volumes))
        names.insert(-1, ORACLE_CS)
    return replace(example, images={n: images[n] for n in names}, rows={n: rows[n] for n in names})


def results(examples: Iterable[Example]) -> Table:
    """One line per mask and method; of the methods that do not know the answer, the highest PSNR is bold."""
    lines = []
    for example in examples:
        best = max(row.psnr for name, row in example.rows.items() if ORACLE not in name)
        for name, row in example.rows.items():
            psnr = f"**{row.psnr:.2f}**" if row.psnr == best else f"{row.psnr:.2f}"
            seconds = "–" if name == ORACLE_CS else f"{row.seconds_per_slice_median:.2f}"
            setting = [mask_label(row.mask), f"{row.acceleration:.2f}×", label(name)]
            lines.append([*setting, psnr, f"{row.ssim:.4f}", f"{row.nmse:.5f}", seconds])
    return Table(["mask", "acceleration", "method", "PSNR (dB) ↑", "SSIM ↑", "NMSE ↓", "s / slice"], lines)


def page(examples: dict[str, Example], network: Method, stored: bool) -> str:
    """The Markdown page. stored: masks and oracle images came from a file."""
    rows = [row for example in examples.values() for row in example.rows.values()]
    parameters = sum(parameter.numel() for parameter in network.reconstructor.parameters())
    weights = f", weights {network.sha256[:12]}…" if network.sha256 else ""
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "numpy", "scipy", "sigpy"))
    figures = "\n".join(f"![{key}]({figure_name(key)})\n" for key in examples)
    masks = "The masks are stored ones." if stored else f"The masks are drawn with seed {SEED}."
    # File names alone: the folders are this machine's.
    words = [Path(word).name if Path(word).is_file() else word for word in sys.argv[1:]]
    return f"""# One real scan: fully sampled, undersampled afterwards

{rows[0].volume}: k-space from a scanner, one axial slice of a brain, 8 coils, 256 × 256, proton density weighted
(github.com/jiawang66/mripy, `data/kdata_8ch.mat`, MIT). All methods see the same samples and the same coil maps, which
ESPIRiT estimates from these samples alone. The highest PSNR of the methods that do not know the answer is bold.

{results(examples.values()).markdown()}
† Oracle: tuned on the fully sampled image, which nobody has in practice. CG-SENSE is stopped at the step, out of 1 to
{CG_STEPS[-1]}, with the highest PSNR.{ORACLE_CS_NOTE if stored else ""}

- The network is `{label(network.name)}` ({type(network.reconstructor).__name__}, {parameters:,} parameters{weights}). It
  was trained on simulated k-space only: no measured k-space, and nothing of this scan.
- Compressed sensing without † has the default weight, which was chosen on simulated scans.
- n = 1 slice of one person: these are observations; differences between methods carry no claim of significance.
- PSNR = 20 log10(max |reference| / RMSE of the magnitudes), over the support of the coil maps; the reference is the coil
  combination of the full k-space with the same maps. SSIM: mean over the support, 7 × 7 window, data range max
  |reference|. NMSE: ‖error of the magnitudes‖² / ‖reference‖². Nothing is rescaled.
- Acceleration is the achieved one, with the {ACS} fully sampled lines (or the {ACS} × {ACS} block) in the centre. {masks}
- Seconds per slice are of the method alone, without reading and coil maps, on: {rows[0].device}.

{figures}
In each figure all images share one grey scale and all error maps one colour scale, stated below it. The detail (box) is
where the reference has most fine structure.

Make this page again:

    python scripts/results_real_brain.py {shlex.join(words)}

mrirecon {__version__}, {packages}. {DISCLAIMER}
"""


if __name__ == "__main__":
    main()
