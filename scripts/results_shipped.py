"""The shipped models against classical methods: real scans and simulated ones of the validation subjects.

    python scripts/results_shipped.py --scans brain.mat t1.mat knee.mat --images IMAGES -o docs/results

Every scan is fully sampled and undersampled afterwards, one slice of each: 2 to 10 times, by four kinds of masks, and
at 4 times also with noise added until the SNR is a half and a quarter of what it was. Writes shipped_models.csv (every
method in every setting), shipped_models.md and pictures. About half an hour on a core. IMAGES is the folder that the
model cards cite; the scans are named in the page.
"""

import argparse
import csv
import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from mrirecon import __version__, metrics
from mrirecon.acquisition.sampling import undersample
from mrirecon.acquisition.scan import Scan
from mrirecon.atomic import atomic_path
from mrirecon.classical.cg_sense import CGSense
from mrirecon.classical.compressed_sensing import CompressedSensing
from mrirecon.classical.zero_filled import ZeroFilled
from mrirecon.conditioning.opening import open_scan
from mrirecon.evaluation.evaluate import Example, Setting, Table, central_slices
from mrirecon.evaluation.figures import label, mask_label, save_comparison
from mrirecon.export.hdf5 import DISCLAIMER
from mrirecon.physics.fourier import ifftc
from mrirecon.physics.measurement import Reconstructor
from mrirecon.physics.noise import estimate_noise_std
from mrirecon.physics.sampling import SamplingMask, mask_by_name
from mrirecon.processor import set_up_for_tensors
from mrirecon.reconstruction.methods import method_by_name
from mrirecon.reconstruction.pipeline import measure, reconstruct_slice
from mrirecon.reconstruction.precision import fast_precision
from mrirecon.simulation.images import load_magnitude
from mrirecon.simulation.scan import simulate_slices
from mrirecon.weights import shipped_models

KINDS = ("equispaced_fraction", "random", "gaussian2d", "poisson2d")
ACCELERATIONS = (2.0, 3.0, 4.0, 6.0, 8.0, 10.0)
#: Where noise is added, and by how much the SNR falls.
NOISY_ACCELERATION, SNR_DIVISORS = 4.0, (2, 4)
#: Volumes of the validation subjects, below IMAGES.
VALIDATION = (
    "images/ms/patient09_study2_FLAIR.nii.gz",
    "images/ms/patient12_study1_T1W.nii.gz",
)
VALIDATION_COILS, VALIDATION_SNR, VALIDATION_ACCELERATIONS = 12, 60.0, (4.0, 8.0)
WEIGHTS = (0.0005, 0.001, 0.002, 0.004, 0.007, 0.012, 0.025)
CG_STEPS = (3, 6, 12, 24)
#: Classical methods with the best of several settings, found with the fully sampled image; nobody has that in practice.
ORACLES: dict[str, Sequence[Reconstructor]] = {
    "cg-sense (oracle)": [CGSense(steps) for steps in CG_STEPS],
    "cs (oracle)": [CompressedSensing(weight) for weight in WEIGHTS],
}
BAR = "cs (oracle)"
#: Okabe & Ito's colours, which the colour-blind can tell apart.
COLOURS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#999999", "#000000")
MARKERS = "os^Dv<>x"
#: Settings that are shown as pictures, of real scans.
PICTURES = (("equispaced_fraction", 4.0), ("poisson2d", 8.0))
SEED, CPU = 0, torch.device("cpu")


@dataclass(frozen=True)
class Result:
    """One method in one setting. snr_divisor: by how much added noise lowered the SNR. psnr in dB, inside the maps."""

    scan: str
    mask: str
    acceleration: float
    snr_divisor: int
    method: str
    psnr: float
    ssim: float
    nmse: float


def main() -> None:
    """Reconstruct, score and write."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--scans", type=Path, nargs="+", required=True, help="fully sampled scans")
    parser.add_argument("--images", type=Path, help="folder of the validation subjects' images; none = real scans only")
    parser.add_argument("--networks", nargs="+", default=list(shipped_models()), help="names or checkpoint files")
    parser.add_argument("-o", "--output", type=Path, default=Path("docs/results"), help="folder (default docs/results)")
    arguments = parser.parse_args()
    set_up_for_tensors()
    networks = {Path(name).name: method_by_name(name).reconstructor for name in arguments.networks}
    results: list[Result] = []
    for scan, accelerations in scans(arguments.scans, arguments.images):
        for mask, divisor in settings(accelerations):
            example = compare(scan, mask, divisor, networks)
            results += example.rows.values()  # type: ignore[arg-type]
            print(*("  ".join(map(str, asdict(result).values())) for result in example.rows.values()), sep="\n")
            if accelerations == ACCELERATIONS and divisor == 1 and (mask.name, mask.acceleration) in PICTURES:
                save_small(arguments.output / picture_name(scan.path.name, mask), example)
    with atomic_path(arguments.output / "shipped_models.csv") as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, [column.name for column in fields(Result)])
        writer.writeheader()
        writer.writerows(asdict(result) for result in results)
    draw(arguments.output / "shipped_models.png", results, list(networks))
    with atomic_path(arguments.output / "shipped_models.md") as temporary:
        temporary.write_text(page(results, list(networks)), encoding="utf-8")


def scans(real: Sequence[Path], images: Path | None) -> Iterator[tuple[Scan, tuple[float, ...]]]:
    """The central slice of every scan, and how it is accelerated; simulated ones only where `images` is given."""
    for path in real:
        yield central_slices(open_scan(path), 1), ACCELERATIONS
    for seed, name in enumerate(VALIDATION if images else ()):
        assert images is not None
        stack, _ = load_magnitude(images / name)
        kspace = next(simulate_slices(stack[[len(stack) // 2]], VALIDATION_COILS, VALIDATION_SNR, seed))
        path = Path(f"{Path(name).name.partition('.')[0]} (simulated)")
        yield Scan(path, "simulated", (1, *kspace.shape), partial(_only, kspace)), VALIDATION_ACCELERATIONS


def _only(kspace: NDArray[np.complex64], index: int) -> NDArray[np.complex64]:
    return kspace


def settings(accelerations: Sequence[float]) -> Iterator[tuple[SamplingMask, int]]:
    """(mask, SNR divisor) of every setting."""
    for kind in KINDS:
        for acceleration in accelerations:
            yield mask_by_name(kind, acceleration), 1
        for divisor in SNR_DIVISORS if accelerations == ACCELERATIONS else ():  # measured scans alone
            yield mask_by_name(kind, NOISY_ACCELERATION), divisor


def with_centre(mask: SamplingMask, shape: tuple[int, int]) -> SamplingMask:
    """The mask with a centre of 24 lines, at most half of those that are measured, or of 24 × 24 samples."""
    lines = 24 if mask.name.endswith("2d") else min(24, int(min(shape) / mask.acceleration / 2))
    return mask_by_name(mask.name, mask.acceleration, lines)


def noisier(scan: Scan, divisor: int) -> Scan:
    """The scan with white noise added so that its SNR falls by `divisor`."""
    if divisor == 1:
        return scan
    clean = scan.kspace(0)
    std = float(estimate_noise_std(torch.from_numpy(clean)[None], torch.ones(1, 1, 1, 1, dtype=torch.bool)))
    rng = np.random.default_rng((SEED, divisor))
    white = rng.standard_normal((*clean.shape, 2), dtype=np.float32).view(np.complex64)[..., 0]
    added = white * np.float32(std * (divisor**2 - 1) ** 0.5 / 2**0.5)
    return replace(scan, read_slice=partial(_only, clean + added))


def compare(scan: Scan, mask: SamplingMask, divisor: int, networks: dict[str, Reconstructor]) -> Example:
    """Every method in one setting; the reference never holds the added noise."""
    noisy = noisier(scan, divisor)
    sampling = undersample(noisy, with_centre(mask, scan.shape[2:]), SEED)
    (data,) = measure(noisy, sampling, device=CPU)
    assert data.measurement.sensitivities is not None
    kspace = torch.from_numpy(scan.kspace(0)) / noisy.survey.scale
    reference = (data.measurement.sensitivities[0].conj() * ifftc(kspace)).sum(dim=0)
    images = {name: reconstruct_slice(net, data, fast_precision(net, CPU)) for name, net in networks.items()}
    images["zero-filled"] = reconstruct_slice(ZeroFilled(), data)
    for name, candidates in ORACLES.items():
        tried = [reconstruct_slice(candidate, data) for candidate in candidates]
        images[name] = max(tried, key=lambda image: score(image, reference, data.support)[0])
    rows = {}
    for name, image in images.items():
        setting = scan.path.name, mask.name, round(sampling.acceleration, 2), divisor
        rows[name] = Result(*setting, name, *score(image, reference, data.support))
    return Example(
        volume=scan.path.name,
        setting=Setting(mask.name, mask.acceleration),
        slice_index=0,
        reference=reference.abs().numpy(),
        support=data.support.numpy(),
        mask=sampling.mask[0],
        images={name: image.abs().numpy() for name, image in images.items()},
        rows=rows,  # type: ignore[arg-type]  # figures look at metrics and acceleration alone
    )


def score(image: Tensor, reference: Tensor, support: Tensor) -> tuple[float, float, float]:
    """PSNR (dB), SSIM and NMSE of magnitudes inside the support."""
    target, estimate = (x.abs().numpy()[None] for x in (reference, image))
    inside = support.numpy()[None]
    return (
        metrics.psnr(target, estimate, inside),
        metrics.ssim(target, estimate, inside),
        metrics.nmse(target, estimate, inside),
    )


def picture_name(scan: str, mask: SamplingMask) -> str:
    """File name of a comparison."""
    return f"shipped_{scan.partition('.')[0]}_{mask.name}_{mask.acceleration:g}.png"


def save_small(path: Path, example: Example) -> None:
    """The comparison at half its size in 256 colours: well under a megabyte, for a repository."""
    save_comparison(path, example)
    with Image.open(path) as picture:
        small = picture.convert("RGB").resize((picture.width // 2, picture.height // 2), Image.Resampling.LANCZOS)
    small.quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)


def draw(path: Path, results: Sequence[Result], networks: Sequence[str]) -> None:
    """PSNR above that of oracle-tuned CS against the acceleration: a row for each scan, a column for each mask."""
    from matplotlib.figure import Figure

    names = list(dict.fromkeys(result.scan for result in results))
    figure = Figure(figsize=(3.2 * len(KINDS), 2.5 * len(names) + 0.8), dpi=100, layout="constrained")
    axes = figure.subplots(len(names), len(KINDS), squeeze=False, sharey="row")
    shown = [*networks, "cg-sense (oracle)", "zero-filled"]
    for row, scan in zip(axes, names, strict=True):
        gains_of_networks: list[float] = []
        for axis, kind in zip(row, KINDS, strict=True):
            some = [r for r in results if (r.scan, r.mask, r.snr_divisor) == (scan, kind, 1)]
            bar = {r.acceleration: r.psnr for r in some if r.method == BAR}
            axis.axhline(0, color="black", linewidth=1)
            for method, colour, marker in zip(shown, COLOURS, MARKERS, strict=False):
                gains = [(r.acceleration, r.psnr - bar[r.acceleration]) for r in some if r.method == method]
                gains_of_networks += [gain for _, gain in gains if method in networks]
                axis.plot(*zip(*gains, strict=True), color=colour, marker=marker, markersize=4, label=label(method))
            axis.set_title(f"{scan.partition('.')[0][:28]}\n{mask_label(kind)}", fontsize=8)
            axis.tick_params(labelsize=8)
        # All of the networks; of the others what is not far below them.
        row[0].set_ylim(min(*gains_of_networks, -3) - 0.3, max(*gains_of_networks, 0) + 0.3)
        row[0].set_ylabel("dB above oracle CS", fontsize=8)
    for axis in axes[-1]:
        axis.set_xlabel("achieved acceleration", fontsize=8)
    axes[0, 0].legend(fontsize=7)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png")


def page(results: Sequence[Result], networks: Sequence[str]) -> str:
    """The Markdown page."""
    scans_ = list(dict.fromkeys(result.scan for result in results))
    tables = "\n".join(f"### {scan}\n\n{table(results, scan, networks).markdown()}" for scan in scans_)
    pictures = "\n\n".join(
        f"![{scan}, {mask_label(kind)} {acceleration:g}×]({picture_name(scan, mask_by_name(kind, acceleration))})"
        for scan in scans_
        if "simulated" not in scan
        for kind, acceleration in PICTURES
    )
    # File names alone: the folders are this machine's.
    words = [Path(word).name if Path(word).exists() else word for word in sys.argv[1:]]
    return f"""# The shipped models on scans that they never saw

PSNR in dB of {", ".join(networks)} and of classical methods, on the central slice of each scan. *Oracle*: with the best
of {len(WEIGHTS)} weights (CS, wavelets with random shifts, 30 steps) or of {len(CG_STEPS)} numbers of steps (CG-SENSE)
for every single image, found by comparing with the fully sampled one: the best that these methods can do, which nobody
has in practice. Bold: the networks where they are ahead of oracle CS. Poisson discs are in no training data.

Reference: coil combination of the full k-space with the same maps, which are estimated from the undersampled samples
alone. PSNR = 20 log10(max |reference| / RMSE of the magnitudes), over the support of the maps. *SNR/2*, *SNR/4*: noise
was added to the samples, not to the reference. Scans named *simulated* are made from images of validation subjects;
the others were measured. n = 1 slice of each: no difference here is statistically significant by itself.

![PSNR above oracle CS against acceleration](shipped_models.png)

{tables}
## Pictures

All images of a figure share one grey scale and all error maps the colour scale stated below them.

{pictures}

Make this page again:

    python scripts/results_shipped.py {shlex.join(words)}

mrirecon {__version__}, torch {torch.__version__}. {DISCLAIMER}
"""


def table(results: Sequence[Result], scan: str, networks: Sequence[str]) -> Table:
    """A line for each setting, a column for each method; SSIM of oracle CS and the networks at the end."""
    lines = []
    some = [result for result in results if result.scan == scan]
    for key in dict.fromkeys((r.mask, r.acceleration, r.snr_divisor) for r in some):
        of = {r.method: r for r in some if (r.mask, r.acceleration, r.snr_divisor) == key}
        noise = f", SNR/{key[2]}" if key[2] > 1 else ""
        psnr = [f"{of[name].psnr:.2f}" for name in ("zero-filled", *ORACLES)]
        psnr += [f"**{of[n].psnr:.2f}**" if of[n].psnr > of[BAR].psnr else f"{of[n].psnr:.2f}" for n in networks]
        ssim = [f"{of[name].ssim:.3f}" for name in (BAR, *networks)]
        lines.append([f"{mask_label(key[0])} {key[1]:.2f}×{noise}", *psnr, *ssim])
    names = [label(name) for name in ("zero-filled", *ORACLES, *networks)]
    return Table(["mask", *names, *(f"SSIM {label(name)}" for name in (BAR, *networks))], lines)


if __name__ == "__main__":
    main()
