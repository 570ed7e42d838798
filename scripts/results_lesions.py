"""Do lesions survive? Multiple sclerosis lesions, real and inserted, in scans that are simulated from images.

    python scripts/results_lesions.py --images IMAGES/images/ms_lesions -o docs/results

Reads patient07's FLAIR, T1 and T2 volumes and the consensus mask of the lesions (open_ms_data, CC-BY), which no shipped
model was trained on. Writes lesions.csv (a line for each lesion, setting and method) and lesions.md. About ten
minutes on two cores.
"""

import argparse
import csv
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from mrirecon import __version__
from mrirecon.acquisition.sampling import undersample
from mrirecon.acquisition.scan import Scan
from mrirecon.atomic import atomic_path
from mrirecon.classical.compressed_sensing import CompressedSensing
from mrirecon.evaluation.evaluate import Table
from mrirecon.evaluation.figures import label, mask_label
from mrirecon.export.hdf5 import DISCLAIMER
from mrirecon.metrics import psnr
from mrirecon.physics.fourier import fftc
from mrirecon.physics.measurement import Reconstructor
from mrirecon.physics.sampling import mask_by_name
from mrirecon.processor import set_up_for_tensors
from mrirecon.reconstruction.methods import method_by_name
from mrirecon.reconstruction.pipeline import measure, reconstruct_slice
from mrirecon.reconstruction.precision import fast_precision
from mrirecon.simulation.coils import coil_maps
from mrirecon.simulation.images import load_volume
from mrirecon.simulation.noise import coil_noise
from mrirecon.simulation.phase import smooth_phase
from mrirecon.weights import shipped_models

Image = NDArray[np.float32]
Region = NDArray[np.bool_]

CONTRASTS = ("FLAIR", "T1", "T2")
SLICES = 5
COILS, SNR = 12, 50.0
#: Kind, acceleration, central lines or side of the central block. Poisson discs are in no training data.
SETTINGS = (("equispaced_fraction", 4.0, 24), ("poisson2d", 7.5, 24), ("gaussian2d", 8.0, 24))
#: Found with the fully sampled image, for each image.
WEIGHTS = (0.001, 0.0025, 0.006, 0.012)
ORACLE = "cs (oracle)"
LEAST_VOXELS = 4
#: In voxels; and how much brighter than their surroundings.
DIAMETERS, INSERTED_CONTRAST = (2, 4, 8), 0.3
#: Less than this share of an inserted lesion's contrast: it vanished. More of it where there is none: it was invented.
SEEN = 0.5
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Finding:
    """One lesion as one method shows it.

    kind: "real" or the diameter of an inserted lesion. error: of a real lesion's contrast, |C − C_ref|, where C is the
    mean inside / mean of the ring around it − 1. recovered: share of an inserted lesion's contrast that is there.
    invented: the same share where no lesion was inserted.
    """

    contrast: str
    slice: int
    mask: str
    acceleration: float
    method: str
    kind: str
    error: float | None
    recovered: float | None
    invented: float | None


def main() -> None:
    """Reconstruct, measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=Path, required=True, help="folder of the ms_lesions volumes")
    parser.add_argument("--networks", nargs="+", default=list(shipped_models()), help="names or checkpoint files")
    parser.add_argument("-o", "--output", type=Path, default=Path("docs/results"), help="folder (default docs/results)")
    arguments = parser.parse_args()
    set_up_for_tensors()
    networks = {Path(name).name: method_by_name(name).reconstructor for name in arguments.networks}
    lesions = load_volume(arguments.images / "patient07_lesion_consensus.nii.gz")[0] > 0
    findings: list[Finding] = []
    for contrast in CONTRASTS:
        volume = load_volume(arguments.images / f"patient07_{contrast}_mni_brain.nii.gz")[0].astype(np.float32).clip(0)
        volume /= np.percentile(volume[volume > 0], 99)
        for index in chosen_slices(lesions):
            rng = np.random.default_rng(index)
            for setting in SETTINGS:
                findings += study(contrast, index, volume[index], lesions[index], setting, networks, rng)
            print(contrast, index, len(findings), flush=True)
    with atomic_path(arguments.output / "lesions.csv") as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, [column.name for column in fields(Finding)])
        writer.writeheader()
        writer.writerows(asdict(finding) for finding in findings)
    with atomic_path(arguments.output / "lesions.md") as temporary:
        temporary.write_text(page(findings, [ORACLE, *networks]), encoding="utf-8")


def chosen_slices(lesions: Region) -> list[int]:
    """The slices with most lesion voxels, no two of them neighbours."""
    chosen: list[int] = []
    for index in np.argsort(-lesions.sum(axis=(1, 2)), kind="stable").tolist():
        if all(abs(index - other) > 2 for other in chosen):
            chosen.append(index)
        if len(chosen) == SLICES:
            break
    return chosen


def study(
    contrast: str,
    index: int,
    image: Image,
    lesions: Region,
    setting: tuple[str, float, int],
    networks: dict[str, Reconstructor],
    rng: np.random.Generator,
) -> Iterator[Finding]:
    """The findings in one slice with one mask, with all methods."""
    profiles = inserted(image, lesions, rng)
    with_lesions = image + sum(profiles.values())
    seed = int(rng.integers(2**31))
    reference, plain = reconstructions(image, setting, networks, seed)
    changed_reference, changed = reconstructions(with_lesions, setting, networks, seed)
    for method, shown in plain.items():
        where = contrast, index, setting[0], setting[1], label(method)
        for inside, ring in real_lesions(image, lesions):
            error = abs(ratio(shown, inside, ring) - ratio(reference, inside, ring))
            yield Finding(*where, "real", error, None, None)
        for diameter, profile in profiles.items():
            # Phases of the coil combination aside, the difference of the references is the profile.
            true = (changed_reference - reference) * (profile > 0)
            share = partial(projection, onto=true)
            yield Finding(*where, str(diameter), None, share(changed[method] - shown), share(shown - reference))


def reconstructions(
    image: Image, setting: tuple[str, float, int], networks: dict[str, Reconstructor], seed: int
) -> tuple[Image, dict[str, Image]]:
    """Magnitudes: the fully sampled one and those of every method; the same scanner and noise for the same seed."""
    rng = np.random.default_rng(seed)
    shape = image.shape[0], image.shape[1]
    coil_images = coil_maps(shape, COILS, rng) * (image * np.exp(1j * smooth_phase(shape, rng))).astype(np.complex64)
    noise = coil_noise((COILS, *shape), float(image[image > 0.1].mean()) / SNR, rng)
    kspace = fftc(torch.from_numpy(coil_images)).numpy() + noise
    scan = Scan(Path("lesions"), "simulated", (1, *kspace.shape), lambda _: kspace)
    (data,) = measure(scan, undersample(scan, mask_by_name(*setting), seed), device=CPU)
    assert data.reference is not None
    scale = scan.survey.scale
    reference = scale * data.reference.abs().numpy()
    inside = data.support.numpy()[None]
    shown = {
        n: scale * reconstruct_slice(net, data, fast_precision(net, CPU)).abs().numpy() for n, net in networks.items()
    }
    tried = [scale * reconstruct_slice(CompressedSensing(weight), data).abs().numpy() for weight in WEIGHTS]
    shown[ORACLE] = max(tried, key=lambda estimate: psnr(reference[None], estimate[None], inside))
    return reference, shown


def real_lesions(image: Image, lesions: Region) -> Iterator[tuple[Region, Region]]:
    """(inside, ring of two voxels one voxel away) of every lesion of at least LEAST_VOXELS in the slice."""
    labels, count = ndimage.label(lesions)
    for number in range(1, count + 1):
        inside = labels == number
        if inside.sum() >= LEAST_VOXELS:
            near, far = ndimage.binary_dilation(inside), ndimage.binary_dilation(inside, iterations=3)
            ring = far & ~near & ~lesions & (image > 0)
            if ring.any():
                yield inside, ring


def inserted(image: Image, lesions: Region, rng: np.random.Generator) -> dict[int, Image]:
    """Diameter → image of one round lesion in even tissue, away from the edge, real lesions and one another."""
    free = ndimage.distance_transform_edt((image > 0.1) & ~ndimage.binary_dilation(lesions, iterations=2))
    mean = ndimage.uniform_filter(image, 7)
    uneven = np.sqrt(np.maximum(ndimage.uniform_filter(image**2, 7) - mean**2, 0)) / (mean + 1e-6)
    y, x = np.indices(image.shape)
    found = {}
    for diameter in DIAMETERS:
        allowed = free > diameter / 2 + 6
        candidates = np.argwhere(allowed & (uneven <= np.quantile(uneven[allowed], 0.2)))
        row, column = candidates[rng.integers(len(candidates))]
        distance = np.hypot(y - row, x - column)
        profile = INSERTED_CONTRAST * mean[row, column] * np.clip(diameter / 2 + 0.5 - distance, 0, 1)
        found[diameter] = profile.astype(np.float32)
        free[distance < diameter / 2 + 12] = 0
    return found


def ratio(image: Image, inside: Region, ring: Region) -> float:
    """Contrast of a lesion against its surroundings."""
    return float(image[inside].mean() / image[ring].mean() - 1)


def projection(difference: Image, onto: Image) -> float:
    """⟨difference, onto⟩ / ‖onto‖²."""
    return float((difference * onto).sum() / (onto**2).sum())


def page(findings: Sequence[Finding], methods: Sequence[str]) -> str:
    """The Markdown page."""
    words = "python scripts/results_lesions.py --images ms_lesions"
    return f"""# Do lesions survive?

Axial slices of one patient with multiple sclerosis (open_ms_data, patient 07: FLAIR, T1, T2; skull-stripped, resampled
to 1 mm), the {SLICES} with most lesion voxels. Scans are simulated: {COILS} coils, SNR {SNR:g}, smooth phase.
No shipped model was trained on this patient, and none on Poisson discs.
*{ORACLE}* has, for each image, the best of {len(WEIGHTS)} weights.

## Lesions of the patient

Mean error of a lesion's contrast, |C − C_ref|, with C = mean inside / mean of a ring around it − 1, for lesions of at
least {LEAST_VOXELS} voxels in the slice. In brackets the 95 % interval of the difference to {ORACLE}
(bootstrap over slices): below zero, the network is better.

{real_table(findings, methods).markdown()}
## Inserted lesions

One round lesion each of {", ".join(map(str, DIAMETERS))} voxels, {INSERTED_CONTRAST:.0%} brighter than the tissue.
Recovered: median share of its contrast in the difference of the images with and without it. Vanished: less than
{SEEN:.0%} recovered. Invented: at the same place without a lesion, the error of the image looks like one of more than
{SEEN:.0%} of that contrast.

{inserted_table(findings, methods).markdown()}
One patient, simulated scans: this shows how the methods behave, not how often a diagnosis would change.

    {words}

mrirecon {__version__}. {DISCLAIMER}
"""


def real_table(findings: Sequence[Finding], methods: Sequence[str]) -> Table:
    """A line for each contrast and setting, a column for each method."""
    lines = []
    for contrast in CONTRASTS:
        for kind, acceleration, _ in SETTINGS:
            some = [f for f in findings if (f.contrast, f.mask, f.kind) == (contrast, kind, "real")]
            errors = {
                m: {s: [f.error or 0 for f in some if f.method == m and f.slice == s] for s in slices_of(some)}
                for m in methods
            }
            cells = []
            for method in methods:
                mean = np.mean([e for per_slice in errors[method].values() for e in per_slice])
                if method == ORACLE:
                    cells.append(f"{mean:.3f}")
                else:
                    low, high = bootstrap(errors[method], errors[ORACLE])
                    cells.append(f"{mean:.3f} ({low:+.3f} … {high:+.3f})")
            count = sum(f.method == methods[0] for f in some)
            lines.append([contrast, f"{mask_label(kind)} {acceleration:g}×", *cells, str(count)])
    return Table(["contrast", "mask", *map(label, methods), "lesions"], lines)


def slices_of(findings: Sequence[Finding]) -> list[int]:
    """The slices, each once."""
    return sorted({finding.slice for finding in findings})


def bootstrap(errors: dict[int, list[float]], others: dict[int, list[float]]) -> tuple[float, float]:
    """95 % interval of the mean difference; slices are drawn, because lesions of one slice are not independent."""
    rng = np.random.default_rng(0)
    sums = np.array([[sum(errors[s]) - sum(others[s]), len(errors[s])] for s in errors])
    drawn = sums[rng.integers(len(sums), size=(2000, len(sums)))].sum(axis=1)
    low, high = np.quantile(drawn[:, 0] / drawn[:, 1], [0.025, 0.975])
    return float(low), float(high)


def inserted_table(findings: Sequence[Finding], methods: Sequence[str]) -> Table:
    """A line for each setting, diameter and method, over all contrasts."""
    lines = []
    for kind, acceleration, _ in SETTINGS:
        for diameter in DIAMETERS:
            for method in methods:
                some = [f for f in findings if (f.mask, f.kind, f.method) == (kind, str(diameter), method)]
                recovered = np.array([f.recovered for f in some])
                vanished = sum(recovered < SEEN)
                invented = sum(abs(f.invented or 0) > SEEN for f in some)
                where = f"{mask_label(kind)} {acceleration:g}×", str(diameter), label(method)
                lines.append(
                    [*where, f"{np.median(recovered):.2f}", *(f"{n} of {len(some)}" for n in (vanished, invented))]
                )
    return Table(["mask", "voxels", "method", "recovered", "vanished", "invented"], lines)


if __name__ == "__main__":
    main()
