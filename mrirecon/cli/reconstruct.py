"""`mrirecon reconstruct`: one scan to an image."""

import json
import logging
import math
import platform
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jsonargparse import Namespace
from numpy.typing import NDArray

from mrirecon import __version__, metrics
from mrirecon.acquisition.detection import open_scan
from mrirecon.acquisition.sampling import Sampling, sampling_from_file, sampling_of, undersample
from mrirecon.acquisition.scan import Scan
from mrirecon.cli.options import add_machine_options, check_writable, torch_device
from mrirecon.cli.parser import ArgumentParser
from mrirecon.errors import UsageError
from mrirecon.export.hdf5 import DISCLAIMER, reconstruction_file
from mrirecon.export.png import central_slices, preview
from mrirecon.physics.sampling import MASKS, SamplingMask, mask_by_name
from mrirecon.reconstruction.methods import Method, default_method, method_by_name
from mrirecon.reconstruction.pipeline import SliceData, centre_crop, measure, reconstruct_slice

DEFAULT_ACCELERATION = 4.0


def run(argv: list[str]) -> int:
    """Reconstruct the scan that `argv` names; returns the exit code."""
    options = _parser().parse_args(argv)
    _check_output(options)
    mask = _requested_mask(options)
    device = torch_device(options.device)
    if options.threads:
        torch.set_num_threads(options.threads)
    with _warnings() as warnings:
        method = method_by_name(options.method or default_method(), options.allow_package)
        start = time.perf_counter()
        scan = open_scan(options.scan, options.key, options.axes)
        sampling = _sampling(scan, mask, options)
        scores = _reconstruct(scan, sampling, method, device, options)
        result = {
            "output": str(options.output),
            "preview": str(_picture(options.output)),
            "method": method.name,
            "device": str(device),
            "slices": scan.slices,
            "sampling": sampling.source,
            "acceleration": sampling.acceleration,
            "seconds": time.perf_counter() - start,
            **scores,
            "warnings": warnings,
        }
    print(json.dumps(result) if options.json else _summary(result))
    return 0


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="mrirecon reconstruct",
        description="Reconstruct one scan, slice by slice, with a network or a classical method. Writes OUT.h5 "
        f"(fastMRI's layout, with provenance) and a preview OUT.png. {DISCLAIMER}",
    )
    add = parser.add_argument
    add("scan", type=Path, metavar="SCAN", help="k-space: fastMRI or plain HDF5, .npy, .npz, or MATLAB .mat")
    add("-o", "--output", type=Path, required=True, metavar="OUT.h5", help="where the images go (.h5 or .hdf5)")
    add(
        "--method",
        type=str | None,
        help="cs (compressed sensing), cg-sense, zero-filled, a shipped model's name, or a checkpoint file "
        "(default: the first shipped model if there is one, else cs)",
    )
    add("--key", type=str | None, help="name of the k-space array in the file, where there are several")
    add("--axes", type=str | None, help="the array's axes in order, such as ky,kx,coil or slice,coil,ky,kx")
    add(
        "--undersample",
        type=str | None,
        metavar="KIND",
        help="drop samples of a fully sampled scan by a mask of this kind, and score the result against the full data: "
        + ", ".join(MASKS),
    )
    add("--acceleration", type=float | None, help=f"with --undersample: factor (default {DEFAULT_ACCELERATION:g})")
    add(
        "--acs",
        type=int | None,
        help="with --undersample: central lines, for 2D masks side of the central block (default: the kind's own)",
    )
    add("--seed", type=int | None, help="with --undersample: seed of the mask (default: from the file's name)")
    add("--mask", type=Path | None, metavar="FILE", help="sampling mask to apply (.npy, .npz, .mat, .h5)")
    add(
        "--maps",
        type=Path | None,
        metavar="FILE",
        help="coil sensitivity maps (coils, y, x) or (slices, coils, y, x) (.npy, .npz, .mat, .h5); default: estimated "
        "by ESPIRiT from the sampled centre of each slice",
    )
    add("--complex", action="store_true", help="also store the complex image, as the dataset `complex`")
    add_machine_options(parser)
    add("--json", action="store_true", help="print one JSON object on stdout instead of text")
    return parser


def _check_output(options: Namespace) -> None:
    """Refuse now what would fail after the long work."""
    output: Path = options.output
    if output.suffix.lower() not in (".h5", ".hdf5"):
        raise UsageError(
            f"{output}: images are written as HDF5 (.h5, .hdf5); NIfTI and DICOM are not available yet. "
            f"Try -o {output.with_name(output.name.split('.')[0] + '.h5')}."
        )
    if output.is_dir() or _picture(output).is_dir():
        raise UsageError(f"{output}: it or its preview {_picture(output).name} is a folder; choose another name.")
    for written in (output, _picture(output)):
        for source in (options.scan, options.mask, options.maps, options.method):
            if source and written.exists() and Path(source).exists() and written.samefile(source):
                raise UsageError(f"{written}: is an input and would be overwritten; choose another output.")
    check_writable(output)


def _requested_mask(options: Namespace) -> SamplingMask | None:
    """What --undersample and its companions ask for."""
    if options.undersample and options.mask:
        raise UsageError("--undersample and --mask both ask for a sampling mask; give one of them.")
    if options.undersample:
        acceleration = DEFAULT_ACCELERATION if options.acceleration is None else options.acceleration
        return mask_by_name(options.undersample, acceleration, options.acs)
    for name in ("acceleration", "acs", "seed"):
        if getattr(options, name) is not None:
            raise UsageError(f"--{name} needs --undersample KIND, which drops samples of a fully sampled scan.")
    return None


def _sampling(scan: Scan, mask: SamplingMask | None, options: Namespace) -> Sampling:
    if mask:
        return undersample(scan, mask, options.seed)
    if options.mask:
        return sampling_from_file(scan, options.mask)
    return sampling_of(scan)


def _reconstruct(
    scan: Scan, sampling: Sampling, method: Method, device: torch.device, options: Namespace
) -> dict[str, Any]:
    """Write the images and the preview; returns the metrics, where they can be told.

    Memory holds one slice, and, for the metrics alone, the magnitude images of the scan.
    """
    method.reconstructor.to(device)
    crop = scan.header.recon_size
    height, width = centre_crop(torch.empty(scan.shape[-2:]), crop).shape
    shown = central_slices(scan.slices)
    panels: list[tuple[str, NDArray[np.float32]]] = []
    score = _Score(scan) if sampling.retrospective else None
    with reconstruction_file(
        options.output,
        (scan.slices, height, width),
        mask=sampling.mask.numpy(),
        scale=scan.survey.scale,
        provenance=_provenance(scan, sampling, method, device, options),
        keep_complex=options.complex,
    ) as write:
        for data in _progress(measure(scan, sampling, maps=options.maps, device=device), scan.slices):
            scaled = reconstruct_slice(method.reconstructor, data)
            image = centre_crop(scaled * scan.survey.scale, crop).cpu().numpy()
            write(data.index, image)
            magnitude = np.abs(image)
            if data.index in shown:
                panels.append((f"slice {data.index}", magnitude))
            if score:
                score.add(magnitude, data)
        scores = score.metrics() if score else {}
        preview(_picture(options.output), panels)
    return scores


class _Score:
    """Magnitude images of the whole scan, collected because SSIM and PSNR need the volume's maximum."""

    def __init__(self, scan: Scan):
        self.scan = scan
        self.images: list[NDArray[np.float32]] = []
        self.references: list[NDArray[np.float32]] = []
        self.supports: list[NDArray[np.bool_]] = []

    def add(self, magnitude: NDArray[np.float32], data: SliceData) -> None:
        crop = self.scan.header.recon_size
        assert data.reference is not None  # retrospective: the full k-space is known
        self.images.append(magnitude)
        self.references.append(centre_crop(data.reference * self.scan.survey.scale, crop).abs().cpu().numpy())
        self.supports.append(centre_crop(data.support, crop).cpu().numpy())

    def metrics(self) -> dict[str, dict[str, float | None]]:
        image = np.stack(self.images)
        scores = {"metrics": _metrics(np.stack(self.references), image, np.stack(self.supports))}
        if self.scan.read_target and self.scan.target_name == "reconstruction_rss":
            target = np.stack([self.scan.read_target(index) for index in range(self.scan.slices)])
            if target.shape == image.shape:
                scores["metrics_rss"] = _metrics(target, image)
        return scores


def _metrics(target: NDArray, image: NDArray, support: NDArray[np.bool_] | None = None) -> dict[str, float | None]:
    values = {m.__name__: m(target, image, support) for m in (metrics.nmse, metrics.psnr, metrics.ssim)}
    # JSON knows neither NaN nor infinity.
    return {name: value if math.isfinite(value) else None for name, value in values.items()}


def _provenance(
    scan: Scan, sampling: Sampling, method: Method, device: torch.device, options: Namespace
) -> dict[str, Any]:
    """What made the images. Files appear by their name only, headers not at all: nothing here names a patient."""
    given = {key: value for key, value in options.items() if key != "method" and value not in (None, [], False)}
    return {
        "input": {"file": scan.path.name, "sha256": scan.sha256},
        "method": {"name": Path(method.name).name, "config": method.config, "checkpoint_sha256": method.sha256},
        "sampling": {"source": sampling.source, "acceleration": sampling.acceleration},
        "seed": options.seed,
        "device": str(device),
        "options": {key: value.name if isinstance(value, Path) else value for key, value in given.items()},
        "versions": {
            "mrirecon": __version__,
            "torch": torch.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
    }


def _picture(output: Path) -> Path:
    return output.with_suffix(".png")


def _progress(slices: Iterable[SliceData], total: int) -> Iterable[SliceData]:
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    return track(slices, "reconstructing", total, console=console, transient=True, disable=not console.is_terminal)


@contextmanager
def _warnings() -> Iterator[list[str]]:
    """Collects what is warned about meanwhile. A filter, unlike a handler, leaves it to others to show it."""
    messages: list[str] = []

    def collect(record: logging.LogRecord) -> bool:
        if record.levelno >= logging.WARNING:
            messages.append(record.getMessage())
        return True

    log = logging.getLogger("mrirecon")
    log.addFilter(collect)
    try:
        yield messages
    finally:
        log.removeFilter(collect)


def _summary(result: dict[str, Any]) -> str:
    seconds, slices = result["seconds"], result["slices"]
    lines = [
        f"method    {result['method']} on {result['device']}, {seconds:.1f} s ({seconds / slices:.2f} s per slice)",
        f"sampling  {result['sampling']}; achieved acceleration {result['acceleration']:.2f}",
    ]
    for name, against in (
        ("metrics", "the fully sampled image with the same coil maps, inside their support"),
        ("metrics_rss", "the file's reconstruction_rss"),
    ):
        if name in result:
            nmse, psnr, ssim = ("undefined" if v is None else f"{v:.4g}" for v in result[name].values())
            lines.append(f"quality   NMSE {nmse}, PSNR {psnr} dB, SSIM {ssim}, against {against}")
    count = f"{slices} slice{'s' if slices > 1 else ''}"
    lines += [f"images    {result['output']} ({count})", f"preview   {result['preview']}", DISCLAIMER]
    return "\n".join(lines)
