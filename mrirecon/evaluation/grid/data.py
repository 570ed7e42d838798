"""The volumes of a grid: scans as they are, or simulated from images or built-in heads, into files of the run."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from mrirecon.data.manifest import SPLITS, Entry, Manifest, read_manifest, root_of, split_by_subject
from mrirecon.errors import InputError, UsageError
from mrirecon.evaluation.grid.config import DataSet, as_content
from mrirecon.evaluation.grid.store import key_of
from mrirecon.export.fastmri import Acquisition, write_fastmri
from mrirecon.simulation.images import load_magnitude, load_magnitude_with_lesions, on_coarser_matrix
from mrirecon.simulation.phantom import head_phantoms
from mrirecon.simulation.scan import simulate_slices

#: Sizes in mm: (slice, y, x).
Voxel = tuple[float, float, float]

IMAGE_SUFFIXES = (".nii", ".nii.gz")
CONTRASTS = ("flair", "t1", "t2", "pd")
HEAD_MATRIX = (160, 160)
#: Shares of the subjects of a folder of images.
FRACTIONS = (0.6, 0.1, 0.3)
#: A slice must have this share of its pixels in tissue.
MIN_TISSUE = 0.1


@dataclass(frozen=True)
class GridVolume:
    """One fully sampled volume: which data set, split, person and contrast it is of, and its scan file."""

    data: str
    split: str
    subject: str
    contrast: str
    path: Path


@dataclass(frozen=True)
class Source:
    """One person's scans to simulate: of an image file, or of a head (None). volumes: what will be there.

    lesions: of an image file, the one that marks its lesions.
    """

    data: DataSet
    image: Path | None
    volumes: tuple[GridVolume, ...]
    lesions: Path | None = None


def volumes_of(name: str, data: DataSet, folder: Path) -> tuple[list[GridVolume], list[Source]]:
    """The volumes of a data set, and those sources that must still be simulated into `folder` for it.

    InputError if there are no scans, UsageError for a folder or manifest that does not say what it must.
    """
    if data.path is None:
        sources = _heads(name, data, folder / f"{name}-{key_of(as_content(data))}")
    else:
        manifest, root = _manifest(data)
        images = [entry for entry in manifest.files if entry.file.endswith(IMAGE_SUFFIXES)]
        if not images:
            return [_scan(name, entry, root, data.path) for entry in manifest.files if entry.split], []
        states = [_state(root / file) for entry in images for file in (entry.file, entry.lesions) if file]
        inside = folder / f"{name}-{key_of(as_content(data), states)}"
        sources = [_image(name, data, entry, root, inside) for entry in images if entry.split]
    volumes = [volume for source in sources for volume in source.volumes]
    return volumes, [source for source in sources if not all(volume.path.exists() for volume in source.volumes)]


def simulate(source: Source) -> None:
    """Write the scans of one source."""
    data, first = source.data, source.volumes[0]
    slices = (first.split == "train" and data.train_slices) or data.slices
    seed = crc32(f"{data.seed} {first.subject}".encode())
    if source.image is None:
        matrix = data.matrix or HEAD_MATRIX
        contrasts = [volume.contrast for volume in source.volumes]
        phantoms = head_phantoms(matrix, slices, contrasts, seed, data.lesions)
        for number, (volume, phantom) in enumerate(zip(source.volumes, phantoms.values(), strict=True)):
            voxel = (phantom.spacing_mm, phantom.pixel_mm, phantom.pixel_mm)
            _write(volume, data, phantom.images, voxel, seed + number, "head phantom", phantom.lesion_mask)
        return
    images, lesions, voxel = _loaded(source.image, source.lesions)
    chosen = np.unique(((np.arange(slices) + 0.5) * len(images) / slices).astype(int))
    images, lesions = images[chosen], None if lesions is None else lesions[chosen]
    if data.matrix:
        larger = max(1, *(have / want for have, want in zip(images.shape[1:], data.matrix, strict=True)))
        images, voxel = np.abs(fitted_to(images, data.matrix)), (voxel[0], voxel[1] * larger, voxel[2] * larger)
        if lesions is not None:
            lesions = fitted_to(lesions.astype(np.float32), data.matrix).real > 0.5
    _write(first, data, images, voxel, crc32(f"{seed} {first.contrast}".encode()), source.image.name, lesions)


def _loaded(image: Path, lesions: Path | None) -> tuple[NDArray[np.float32], NDArray[np.bool_] | None, Voxel]:
    """Slices with tissue, or if there are lesions those with some, where these are, and the voxel size."""
    if lesions:
        return load_magnitude_with_lesions(image, lesions)
    images, voxel = load_magnitude(image)
    images = images[(images > 0.1).mean(axis=(1, 2)) > MIN_TISSUE]
    if not len(images):
        raise InputError(f"{image}: has no slice with enough signal to simulate from.")
    return images, None, voxel


def fitted_to(images: NDArray[np.float32], matrix: tuple[int, int]) -> NDArray[np.complex64]:
    """Real images (slices, y, x) on that matrix: at lower resolution where they are larger, in air where smaller."""
    share = min(1.0, *(want / have for want, have in zip(matrix, images.shape[1:], strict=True)))
    height, width = (min(round(n * share), m) for n, m in zip(images.shape[1:], matrix, strict=True))
    rows, columns = (m // 2 - n // 2 for n, m in zip((height, width), matrix, strict=True))
    placed = np.zeros((len(images), *matrix), dtype=np.complex64)
    placed[:, rows : rows + height, columns : columns + width] = on_coarser_matrix(images, (height, width))
    return placed


def _write(
    volume: GridVolume,
    data: DataSet,
    images: NDArray[np.float32],
    voxel: Voxel,
    seed: int,
    source: str,
    lesions: NDArray[np.bool_] | None,
) -> None:
    shape = (len(images), data.coils, *images.shape[1:])
    acquisition = Acquisition(
        name=f"AX{volume.contrast.upper()}",
        patient=volume.subject,
        pixel_mm=voxel[1:],
        thickness_mm=voxel[0],
        sequence={},
    )
    provenance: dict[str, Any] = {"simulated": True, "source": source, "snr": data.snr, "seed": seed}
    kspace = simulate_slices(images, data.coils, data.snr, seed % 2**31)
    write_fastmri(volume.path, kspace, shape, acquisition, provenance, lesions)


def _heads(name: str, data: DataSet, folder: Path) -> list[Source]:
    counts = dict(zip(SPLITS, (data.train, data.val, data.test), strict=True))
    sources = []
    for split, count in counts.items():
        for number in range(count):
            subject = f"{split}{number:03d}"
            volumes = [
                GridVolume(name, split, subject, contrast, folder / f"{subject}_{contrast}.h5")
                for contrast in data.contrasts
            ]
            sources.append(Source(data, None, tuple(volumes)))
    return sources


def _manifest(data: DataSet) -> tuple[Manifest, Path]:
    """The manifest of a data set's path, with splits, and the folder that its files are in."""
    assert data.path is not None
    if not data.path.is_dir():
        manifest = read_manifest(data.path)
        if not any(entry.split for entry in manifest.files):
            raise UsageError(
                f"{data.path}: says of no file in which split it is; mrirecon manifest split shares the subjects out."
            )
        return manifest, root_of(manifest, data.path)
    files = sorted(path for path in data.path.rglob("*") if path.name.endswith(IMAGE_SUFFIXES))
    if not files:
        raise UsageError(
            f"{data.path}: has no NIfTI images; for a folder of scans give its manifest (mrirecon manifest create, "
            "then split)."
        )
    entries = [Entry(path.relative_to(data.path).as_posix(), *_named(path.name)) for path in files]
    return split_by_subject(Manifest(data.path.name, tuple(entries)), FRACTIONS, data.seed), data.path


def _state(path: Path) -> list[int]:
    """Size and time of an image file: of a changed one scans are simulated anew."""
    if not path.is_file():
        raise InputError(f"{path}: is missing, though the manifest lists it; check its field 'root'.")
    return [path.stat().st_size, path.stat().st_mtime_ns]


def _named(name: str) -> tuple[str, None, str]:
    """Subject (to the first _), no split, and contrast of an image file's name, as far as it says."""
    parts = name.partition(".")[0].lower().split("_")
    contrast = next((c for part in parts for c in CONTRASTS if part.startswith(c)), "unknown")
    return parts[0], None, contrast


def _image(name: str, data: DataSet, entry: Entry, root: Path, folder: Path) -> Source:
    stem = entry.file.removesuffix(".gz").removesuffix(".nii").replace("/", "_")
    subject = entry.subject or stem
    volume = GridVolume(name, str(entry.split), subject, _contrast(entry), folder / f"{stem}.h5")
    return Source(data, root / entry.file, (volume,), root / entry.lesions if entry.lesions else None)


def _scan(name: str, entry: Entry, root: Path, manifest: Path) -> GridVolume:
    path = root / entry.file
    if not path.is_file():
        raise InputError(f"{manifest}: {path} is missing; check its field 'root', or run mrirecon manifest verify.")
    return GridVolume(name, str(entry.split), entry.subject or entry.file, _contrast(entry), path)


def _contrast(entry: Entry) -> str:
    return (entry.contrast or "unknown").lower()


def of_split(volumes: Sequence[GridVolume], split: str) -> list[GridVolume]:
    """Those volumes that are in the split."""
    return [volume for volume in volumes if volume.split == split]
