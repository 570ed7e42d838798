"""One volume from k-space to its image files: streamed slice by slice, scored where that can be done."""

import math
import platform
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from mrirecon import __version__, metrics
from mrirecon.acquisition.sampling import Sampling
from mrirecon.acquisition.scan import Scan, Step
from mrirecon.classical.compressed_sensing import CompressedSensing
from mrirecon.classical.sigpy_compressed_sensing import SigpyCompressedSensing
from mrirecon.conditioning.hybrid import delivered
from mrirecon.conditioning.partial_fourier import PartialFourier, complete, fraction_text
from mrirecon.errors import RejectedError, UsageError
from mrirecon.export.dicom import write_dicom
from mrirecon.export.hdf5 import reconstruction_file
from mrirecon.export.images import Origin, StoredImages
from mrirecon.export.mrd_images import write_mrd_images
from mrirecon.export.nifti import write_nifti
from mrirecon.export.png import central_slices, preview
from mrirecon.export.reference_dicom import Reference
from mrirecon.metrics import Volume
from mrirecon.reconstruction.methods import Method
from mrirecon.reconstruction.outputs import Outputs
from mrirecon.reconstruction.pipeline import Block, SliceData, centre_crop, measure_blocks, reconstruct_block
from mrirecon.reconstruction.precision import Precision
from mrirecon.reconstruction.suitability import Ranges, outside_range
from mrirecon.scratch import Scratch

Images = Iterable[tuple[int, NDArray[np.complex64]]]
#: Wraps the stream of (index, image) of so many slices. Not that of the measured slices: it would keep them alive.
Progress = Callable[[Images, int], Images]


class Inspection(Protocol):
    """Looks at the images while they are made, and says in the end what they are to be marked with."""

    def add(self, block: Block, images: torch.Tensor) -> None:
        """images: complex (batch, y, x) of the block as the method gave them, in units of the scan's scale."""
        ...

    def label(self) -> str:
        """A word for the images, such as REVIEW; asked for when all slices have been seen."""
        ...


@dataclass(frozen=True)
class Job:
    """How a volume is reconstructed.

    maps: file of coil maps, None = estimated. keep_complex, keep_maps: stored too. reference: whose DICOM series the
    images join. options: what was asked for, for the provenance. precision: of networks. block: slices at a time.
    scratch: where what must be collected is kept. inspection: sees the images, and marks DICOM and preview.
    ranges: of the scan, see `measured_ranges`; None = they are measured.
    """

    method: Method
    device: torch.device
    partial_fourier: PartialFourier = "zero-fill"
    maps: Path | None = None
    keep_complex: bool = False
    keep_maps: bool = False
    reference: Reference | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    progress: Progress = lambda images, total: images
    precision: Precision = "fp32"
    block: int = 1
    scratch: Scratch = field(default_factory=Scratch)
    inspection: Inspection | None = None
    ranges: Ranges | None = None


@dataclass(frozen=True)
class Outcome:
    """scores: by what they compare with, the metrics; empty where the full k-space is not known. outside_range: what of
    the scan the method is not meant for, in words."""

    scores: dict[str, dict[str, float | None]]
    outside_range: list[str]


def reconstruct_volume(scan: Scan, sampling: Sampling, outputs: Outputs, job: Job) -> Outcome:
    """Write the images in all formats of `outputs`.

    Memory holds one block of slices; what must be collected, the images of a 3D scan and what the metrics compare, is
    in the job's scratch.
    The HDF5 result is written first, and the other formats from it.
    """
    outside = outside_range(scan, sampling, job.method, maps_given=job.maps is not None, ranges=job.ranges)
    settings = _settings(scan, sampling, job) | {"outside_range": outside}
    with _hdf5_path(outputs) as path:
        scores = _write_hdf5(path, scan, sampling, job, settings)
        images = StoredImages(path)
        label = job.inspection.label() if job.inspection else ""
        origin = Origin(
            scan=scan,
            method=Path(job.method.name).name,
            acceleration=sampling.acceleration,
            model_sha256=job.method.sha256,
            settings=settings,
            label=label,
        )
        if outputs.nifti:
            write_nifti(outputs.nifti, images, origin)
        if outputs.dicom:
            write_dicom(outputs.dicom, images, origin, job.reference)
        if outputs.mrd:
            write_mrd_images(outputs.mrd, images, origin)
        if outputs.png:
            panels = [(f"slice {index}", np.abs(images.slice(index))) for index in central_slices(images.shape[0])]
            preview(outputs.png, panels, scan.geometry, label)
    return Outcome(scores, outside)


@contextmanager
def _hdf5_path(outputs: Outputs) -> Iterator[Path]:
    """Where the HDF5 result goes: where it was asked for, else beside the other outputs until those are written."""
    if outputs.hdf5:
        yield outputs.hdf5
        return
    folder = next(iter(outputs)).parent
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".mrirecon-") as temporary:
        yield Path(temporary) / "reconstruction.h5"


def _write_hdf5(
    path: Path, scan: Scan, sampling: Sampling, job: Job, settings: Mapping[str, Any]
) -> dict[str, dict[str, float | None]]:
    job.method.reconstructor.to(job.device)
    crop, scale = scan.header.recon_size, scan.survey.scale
    score = _Score(scan, job.scratch) if sampling.retrospective else None

    def images() -> Iterator[tuple[int, NDArray[np.complex64]]]:
        for block in measure_blocks(scan, sampling, maps=job.maps, device=job.device, size=job.block):
            try:
                estimates = reconstruct_block(job.method.reconstructor, block, job.precision)
                if job.inspection:
                    job.inspection.add(block, estimates)
                estimates = complete(estimates, scan.acquired, job.partial_fourier)
            except (RejectedError, UsageError) as error:
                raise type(error)(f"{scan.path}: {error}") from error
            for data, image in zip(block.slices(), estimates, strict=True):
                if score:
                    score.add(image, data)
                if job.keep_maps:
                    assert data.measurement.sensitivities is not None  # they were measured
                    write.maps(data.index, data.measurement.sensitivities[0].cpu().numpy())
                yield data.index, centre_crop(image * scale, crop).cpu().numpy()
            del block, data  # before the next block is measured

    with reconstruction_file(
        path,
        _delivered_shape(scan),
        mask=sampling.mask,
        scale=scale,
        provenance={**settings, "device": str(job.device)},
        keep_complex=job.keep_complex,
        geometry=scan.geometry,
        maps_of=scan if job.keep_maps else None,
        noise_std=scan.noise_std,
        noise_covariance=scan.noise_covariance,
    ) as write:
        for index, image in delivered(job.progress(images(), scan.slices), scan, job.scratch):
            write(index, image)
    return score.metrics() if score else {}


def _delivered_shape(scan: Scan) -> tuple[int, int, int]:
    """(slices, y, x) of the images, see `delivered`."""
    height, width = centre_crop(torch.empty(scan.shape[-2:]), scan.header.recon_size).shape
    if scan.stack == "readouts":
        return min(scan.header.recon_partitions or width, width), height, scan.slices
    return scan.slices, height, width


class _Score:
    """Magnitude images of the whole scan, collected because SSIM and PSNR need the volume's maximum."""

    def __init__(self, scan: Scan, scratch: Scratch):
        self.scan = scan
        shape = scan.slices, *centre_crop(torch.empty(scan.shape[-2:]), scan.header.recon_size).shape
        self.scratch = scratch
        self.images, self.references = scratch.zeros(shape, np.float32), scratch.zeros(shape, np.float32)
        self.supports = scratch.zeros(shape, np.bool_)

    def add(self, image: torch.Tensor, data: SliceData) -> None:
        """image: complex (y, x), not cropped, in units of the scan's scale."""
        assert data.reference is not None  # retrospective: the full k-space is known
        self.images[data.index] = self._magnitude(image)
        self.references[data.index] = self._magnitude(data.reference)
        self.supports[data.index] = centre_crop(data.support, self.scan.header.recon_size).cpu().numpy()

    def _magnitude(self, image: torch.Tensor) -> NDArray[np.float32]:
        return centre_crop(image * self.scan.survey.scale, self.scan.header.recon_size).abs().cpu().numpy()

    def metrics(self) -> dict[str, dict[str, float | None]]:
        scores = {"metrics": _metrics(self.references, self.images, self.supports)}
        read = self.scan.read_target
        if read and self.scan.target_name == "reconstruction_rss" and read(0).shape == self.images.shape[1:]:
            targets = self.scratch.zeros(self.images.shape, np.float32)
            for index in range(self.scan.slices):
                targets[index] = read(index)
            scores["metrics_rss"] = _metrics(targets, self.images)
        return scores


def _metrics(target: Volume, image: Volume, support: Volume | None = None) -> dict[str, float | None]:
    values = {m.__name__: m(target, image, support) for m in (metrics.nmse, metrics.psnr, metrics.ssim)}
    # JSON knows neither NaN nor infinity.
    return {name: value if math.isfinite(value) else None for name, value in values.items()}


def _settings(scan: Scan, sampling: Sampling, job: Job) -> dict[str, Any]:
    """What made the images. Files appear by their name only, headers not at all: nothing here names a patient."""
    method = job.method
    return {
        "input": {"file": scan.path.name, "sha256": scan.sha256, "volume": scan.volume},
        "conditioning": [asdict(step) for step in conditioning_steps(scan, job.partial_fourier)],
        "method": {"name": Path(method.name).name, "config": method.config, "checkpoint_sha256": method.sha256},
        **weight_in_data_units(scan, method),
        "precision": job.precision,
        "sampling": {"source": sampling.source, "acceleration": sampling.acceleration},
        "options": {key: value.name if isinstance(value, Path) else value for key, value in job.options.items()},
        "versions": {
            "mrirecon": __version__,
            "torch": torch.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
    }


def weight_in_data_units(scan: Scan, method: Method) -> dict[str, float]:
    """The weight of compressed sensing's regularisation as it applies to k-space as read; nothing for other methods."""
    reconstructor = method.reconstructor
    if not isinstance(reconstructor, CompressedSensing | SigpyCompressedSensing):
        return {}
    return {"weight_in_data_units": reconstructor.weight * scan.survey.scale}


def conditioning_steps(scan: Scan, partial_fourier: PartialFourier) -> list[Step]:
    """The steps done on the way to the image: those of k-space, its scale, and partial Fourier, done on the image."""
    missing = fraction_text(scan.acquired, scan.shape[2:])
    steps = list(scan.steps)
    if scan.scaled:
        steps.append(Step("scale", f"k-space divided by {scan.survey.scale:.6g}, images multiplied by it"))
    if missing:
        how = {"zero-fill": "the rest stays zero", "homodyne": "completed by homodyne", "pocs": "completed by POCS"}
        steps.append(Step("partial-fourier", f"{missing}; {how[partial_fourier]}, in the image"))
    return steps
