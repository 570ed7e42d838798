"""Compares methods on one real, fully sampled scan: writes real_brain.md and one figure per mask.

    python scripts/results_real_brain.py --scan kdata_8ch.mat --network cirim -o docs/results

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
from PIL import Image

from mrirecon import __version__, metrics
from mrirecon.atomic import atomic_path
from mrirecon.classical.cg_sense import CGSense
from mrirecon.conditioning.opening import open_scan
from mrirecon.evaluation.evaluate import Example, Setting, Table, evaluate
from mrirecon.evaluation.figures import label, mask_label, save_comparison
from mrirecon.export.hdf5 import DISCLAIMER
from mrirecon.physics.sampling import EquispacedFraction1D, Gaussian2D, SamplingMask
from mrirecon.reconstruction.methods import Method, method_by_name

ACS, SEED = 24, 0
MASKS = {
    "equi3": ("equispaced", EquispacedFraction1D(3, ACS)),
    "equi4": ("equispaced", EquispacedFraction1D(4, ACS)),
    "gauss4": ("gaussian2d", Gaussian2D(4, ACS)),
    "gauss8": ("gaussian2d", Gaussian2D(8, ACS)),
}
CG_STEPS = 30
ORACLE = "†"  # marks methods that know the answer
ORACLE_CS = f"CS, oracle {ORACLE}"
ORACLE_CS_NOTE = """
CS with † has the best weight for each mask and random shifts of the wavelets; its images were made before and are only
scored here.

With equispaced lines, all methods but zero-filled show a bright false spot in the temporal lobe on the right of the
picture: signal from across the edge of the field of view (probably an ear), which one set of coil maps does not
describe."""


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
    """A setting whose mask is at hand."""

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
    cg = [Method(f"CG-SENSE, {n} steps {ORACLE}", CGSense(n), {}, None) for n in range(1, CG_STEPS + 1)]
    settings = [
        MaskSetting(kind, mask.acceleration, ACS, drawn=StoredMask(stored[f"mask_{key}"]) if stored else mask)
        for key, (kind, mask) in MASKS.items()
    ]
    methods = [method_by_name("zero-filled"), method_by_name("cs"), network, *cg]
    evaluation = evaluate([arguments.scan], methods, settings, seed=SEED)
    if evaluation.failures:
        sys.exit("\n".join(evaluation.failures.values()))
    rescale = stored["scale"] / open_scan(arguments.scan).survey.scale if stored else 1
    examples = {}
    for key, example in zip(MASKS, evaluation.examples, strict=True):
        oracle_cs = rescale * np.abs(stored[f"cs_{key}"]) if stored else None
        examples[key] = shown(example, oracle_cs)
        save_small(arguments.output / f"real_brain_{key}.png", examples[key])
    with atomic_path(arguments.output / "real_brain.md") as temporary:
        temporary.write_text(page(examples, network, bool(stored)), encoding="utf-8")


def shown(example: Example, oracle_cs: NDArray[np.floating] | None) -> Example:
    """Zero-filled, only the best CG-SENSE, CS, the oracle's CS (a magnitude image in the scan's scale), the network."""
    images, rows = dict(example.images), dict(example.rows)
    zero_filled, cs, network, *cg = rows
    names = [zero_filled, max(cg, key=lambda name: rows[name].psnr), cs, network]
    if oracle_cs is not None:
        images[ORACLE_CS] = (oracle_cs * example.support).astype(np.float32)
        volumes = example.reference[None], images[ORACLE_CS][None]
        psnr, ssim = (metric(*volumes, example.support) for metric in (metrics.psnr, metrics.ssim))
        rows[ORACLE_CS] = replace(rows[cs], method=ORACLE_CS, psnr=psnr, ssim=ssim, nmse=metrics.nmse(*volumes))
        names.insert(-1, ORACLE_CS)
    return replace(example, images={n: images[n] for n in names}, rows={n: rows[n] for n in names})


def save_small(path: Path, example: Example) -> None:
    """The comparison at two thirds of its size in 256 colours: under a megabyte, for a repository."""
    save_comparison(path, example)
    with Image.open(path) as picture:
        size = (picture.width * 2 // 3, picture.height * 2 // 3)
        small = picture.convert("RGB").resize(size, Image.Resampling.LANCZOS)
    small.quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)


def results(examples: Iterable[Example]) -> Table:
    """One line per mask and method; of the methods that do not know the answer, the highest PSNR is bold."""
    lines = []
    for example in examples:
        best = max(row.psnr for name, row in example.rows.items() if ORACLE not in name)
        for name, row in example.rows.items():
            psnr = f"**{row.psnr:.2f}**" if row.psnr == best else f"{row.psnr:.2f}"
            seconds = "–" if name == ORACLE_CS else f"{row.seconds_per_slice_median:.2f}"
            setting = [mask_label(row.mask), f"{row.acceleration:.2f}×", label(name)]
            lines.append([*setting, psnr, f"{row.ssim:.3f}", f"{row.nmse:.4f}", seconds])
    return Table(["mask", "acceleration", "method", "PSNR (dB) ↑", "SSIM ↑", "NMSE ↓", "s / slice"], lines)


def page(examples: dict[str, Example], network: Method, stored: bool) -> str:
    """The Markdown page. stored: masks and oracle images came from a file."""
    row = next(iter(examples["equi4"].rows.values()))
    parameters = sum(parameter.numel() for parameter in network.reconstructor.parameters())
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "numpy", "scipy", "sigpy"))
    figures = "\n\n".join(f"![{key}](real_brain_{key}.png)" for key in examples)
    # File names alone: the folders are this machine's.
    words = [Path(word).name if Path(word).is_file() else word for word in sys.argv[1:]]
    return f"""# One real scan, undersampled afterwards

{row.volume}: measured, fully sampled k-space of one axial brain slice, 8 coils, 256 × 256 (`data/kdata_8ch.mat` of
github.com/jiawang66/mripy, MIT; its contrast and scanner are not stated). All methods see the same samples and the same
coil maps, estimated from these samples alone. Of the methods that do not know the answer, the highest PSNR is bold.

{results(examples.values()).markdown()}
† Oracle: tuned on the fully sampled image, which nobody has in practice. CG-SENSE is stopped at the step, out of 1 to
{CG_STEPS}, with the highest PSNR.{ORACLE_CS_NOTE if stored else ""}

- n = 1 slice of one person: observations, no claim that a difference between methods is significant.
- The network `{label(network.name)}` ({type(network.reconstructor).__name__}, {parameters:,} parameters, SHA-256
  {(network.sha256 or "")[:12]}…) was trained on simulated k-space only. CS without † has the default weight.
- PSNR = 20 log10(max |reference| / RMSE of the magnitudes), over the support of the coil maps; the reference is the
  coil combination of the full k-space with the same maps. SSIM: 7 × 7 window, data range max |reference|, mean over the
  support. NMSE: ‖error of the magnitudes‖² / ‖reference‖². Nothing is rescaled.
- Acceleration is what was achieved, with the {ACS} fully sampled lines (2D: {ACS} × {ACS} block) in the centre.
  {"The masks are read from the reference file." if stored else f"The masks are drawn with seed {SEED}."}
- Seconds per slice are of the method alone, without reading and coil maps, on: {row.device}.

In each figure, all images share one grey scale and all error maps the colour scale that is stated below them. The box
is where the reference has most fine structure.

{figures}

Make this page again:

    python scripts/results_real_brain.py {shlex.join(words)}

The file of --reference holds the masks and the oracle-tuned CS images; it is not part of this project. Without it the
script draws masks of the same kinds, with seed 0, and leaves the oracle CS out; its numbers then differ from these.

mrirecon {__version__}, {packages}. {DISCLAIMER}
"""


if __name__ == "__main__":
    main()
