"""`mrirecon reconstruct`: one scan to images."""

import json
import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from jsonargparse import Namespace

from mrirecon.acquisition.array_files import READABLE
from mrirecon.acquisition.sampling import Sampling, sampling_from_file, sampling_of, undersample
from mrirecon.acquisition.scan import Scan
from mrirecon.cli.options import (
    add_machine_options,
    add_scan_options,
    check_writable,
    chosen_volumes,
    existing_folder,
    memory_size,
    opened_scans,
    torch_device,
)
from mrirecon.cli.parser import ArgumentParser
from mrirecon.conditioning.partial_fourier import PartialFourier
from mrirecon.errors import UsageError
from mrirecon.export.dicom import check_folder, required_geometry
from mrirecon.export.hdf5 import DISCLAIMER
from mrirecon.export.reference_dicom import read_reference
from mrirecon.physics.sampling import MASKS, SamplingMask, mask_by_name
from mrirecon.reconstruction.methods import default_method, method_by_name
from mrirecon.reconstruction.outputs import FOLDER_DEFAULT, FORMATS, Outputs, outputs_for
from mrirecon.scratch import Scratch

if TYPE_CHECKING:
    from mrirecon.reconstruction.volume import Images, Job

DEFAULT_ACCELERATION = 4.0
PRECISIONS = ("auto", "fp32", "bf16")
#: Options that do not change what the images look like, and methods, which the provenance tells in full.
NOT_SETTINGS = {"output", "formats", "reference_dicom", "threads", "device", "memory", "precision", "json", "method"}


def run(argv: list[str]) -> int:
    """Reconstruct the scan that `argv` names; returns the exit code."""
    options = _parser().parse_args(argv)
    formats = _formats(options.formats)
    _check([outputs_for(options.output, formats, None)], options)
    mask = _requested_mask(options)
    budget = memory_size(options.memory) if options.memory else None
    if options.precision not in PRECISIONS:
        raise UsageError(f"--precision {options.precision}: choose one of {', '.join(PRECISIONS)}.")
    import torch  # here, because it takes seconds that a help text or a wrong option need not wait for

    from mrirecon.processor import set_up_for_tensors
    from mrirecon.reconstruction.budget import default_budget
    from mrirecon.reconstruction.precision import chosen_precision
    from mrirecon.reconstruction.volume import Job

    device = torch_device(options.device)
    if options.threads:
        torch.set_num_threads(options.threads)
    set_up_for_tensors(keep_memory=budget is None)
    # What is asked for is for the slices first; what they leave is known when the method is.
    scratch = Scratch(existing_folder(options.output), 0 if budget else default_budget())
    with _warnings() as warnings:
        method = method_by_name(options.method or default_method(), options.allow_package)
        scans = chosen_volumes(opened_scans(options.scan, options, scratch), options.volume)
        volumes = [outputs_for(options.output, formats, scan.volume if len(scans) > 1 else None) for scan in scans]
        _check(volumes, options)
        for scan, outputs in zip(scans, volumes, strict=True):
            if outputs.dicom:
                check_folder(outputs.dicom)
                required_geometry(scan)
        job = Job(
            method=method,
            device=device,
            partial_fourier=options.partial_fourier,
            maps=options.maps,
            keep_complex=options.complex,
            keep_maps=options.keep_maps,
            reference=read_reference(options.reference_dicom) if options.reference_dicom else None,
            options=_given(options),
            progress=_progress,
            precision=chosen_precision(options.precision, method.reconstructor, device),
            scratch=scratch,
        )
        jobs = [replace(job, block=_block(scan, job, budget)) for scan in scans]
        results = [_volume(*each, mask, options) for each in zip(scans, volumes, jobs, strict=True)]
    result = results[0] if len(results) == 1 else {"volumes": results}
    if options.json:
        print(json.dumps(result | {"warnings": warnings}))
    else:
        print(_summary(results))
    return 0


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="mrirecon reconstruct",
        description="Reconstruct one scan, slice by slice, with a network or a classical method, from raw data or "
        "k-space to images: HDF5 in fastMRI's layout, NIfTI, DICOM, MRD images, and a preview PNG. A file of several "
        f"volumes (stacks, contrasts, repetitions) gives several images, named after them. {DISCLAIMER}",
    )
    add = parser.add_argument
    add("scan", type=Path, metavar="SCAN", help=f"raw data or k-space: {READABLE}")
    add(
        "-o",
        "--output",
        type=Path,
        required=True,
        metavar="OUT",
        help="where the images go: a file, whose suffix says the format (.h5, .nii, .nii.gz, .mrd), or a folder",
    )
    add(
        "--formats",
        type=str | None,
        metavar="A,B,…",
        help=f"for a folder: {', '.join(FORMATS)} (default: {','.join(FOLDER_DEFAULT)}); dicom needs a known "
        "orientation",
    )
    add(
        "--reference-dicom",
        type=Path | None,
        metavar="FILE",
        help="image of the same examination from the scanner, or a folder of them: DICOM output belongs to its patient "
        "and study (default: no identity at all)",
    )
    add(
        "--method",
        type=str | None,
        help="cs (compressed sensing), cs-sigpy (SigPy's), cg-sense, zero-filled, a shipped model's name, or a "
        "checkpoint file "
        "(default: the first shipped model if there is one, else cs)",
    )
    add("--volume", type=str | None, metavar="NAME", help="only this of the file's volumes, as info names them")
    add_scan_options(parser)
    add(
        "--partial-fourier",
        type=str,
        default="zero-fill",
        metavar="HOW",
        help="what is done where one side of k-space was not measured: zero-fill, homodyne, or pocs",
    )
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
    add(
        "--complex",
        action="store_true",
        help="also store the complex image: in HDF5 as the dataset `complex`, in NIfTI as a second file",
    )
    add("--keep-maps", action="store_true", help="also store the coil sensitivity maps, in HDF5")
    add_machine_options(parser)
    add(
        "--memory",
        type=str | None,
        metavar="SIZE",
        help="most memory that the program may take, such as 2GB, 1.5GiB or 800MB (1 GB is 1000³ bytes, 1 GiB 1024³): "
        "the whole process, or with a GPU the GPU's; what does not fit goes to the output's disk meanwhile "
        "(default: half of what is free)",
    )
    add(
        "--precision",
        type=str,
        default="auto",
        help="in which networks compute: fp32, bf16, or auto, which is bf16 where that is fast and as good "
        "(default: auto)",
    )
    add("--json", action="store_true", help="print one JSON object on stdout instead of text")
    return parser


def _formats(text: str | None) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()] if text else []


def _check(volumes: Sequence[Outputs], options: Namespace) -> None:
    """Refuse now what would fail after the long work."""
    if options.partial_fourier not in get_args(PartialFourier):
        choices = ", ".join(get_args(PartialFourier))
        raise UsageError(f"--partial-fourier {options.partial_fourier}: choose one of {choices}.")
    if options.reference_dicom and not any(outputs.dicom for outputs in volumes):
        raise UsageError("--reference-dicom is for DICOM output; add --formats dicom, with a folder as the output.")
    sources = [options.scan, options.mask, options.maps, options.noise, options.reference_dicom, options.method]
    inputs = [Path(source) for source in sources if source and Path(source).exists()]
    for outputs in volumes:
        for written in outputs:
            if written.is_dir() and written != outputs.dicom:
                raise UsageError(f"{written}: is a folder; choose another output.")
        for source in inputs:
            if outputs.overwrite(source):
                raise UsageError(f"{source}: is an input and would be overwritten; choose another output.")
    check_writable(options.output)


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


def _block(scan: Scan, job: "Job", budget: int | None) -> int:
    """How many slices of a volume are reconstructed at a time: on a CPU one, on a GPU as many as fit, at most 16.

    budget: bytes of the GPU if the job is for one, else of the process; None = no budget on a CPU, half of a GPU.
    Gives the job's scratch what the slices leave.
    """
    from mrirecon.reconstruction.budget import MOST_SLICES, slices_that_fit

    kind = job.device.type
    if budget is None and kind == "cpu":
        return 1
    count, left = slices_that_fit(scan, job, budget, MOST_SLICES[kind])
    job.scratch.room = left if kind == "cpu" else job.scratch.room
    return count


def _volume(scan: Scan, outputs: Outputs, job: "Job", mask: SamplingMask | None, options: Namespace) -> dict[str, Any]:
    """Reconstruct one volume; returns what is printed of it."""
    from mrirecon.reconstruction.volume import conditioning_steps, reconstruct_volume, weight_in_data_units

    start = time.perf_counter()
    sampling = _sampling(scan, mask, options)
    outcome = reconstruct_volume(scan, sampling, outputs, job)
    return {
        "output": str(next(iter(outputs))),
        "outputs": {name: str(path) for name, path in asdict(outputs).items() if path},
        "preview": str(outputs.png) if outputs.png else None,
        "volume": scan.volume,
        "method": job.method.name,
        **weight_in_data_units(scan, job.method),
        "device": str(job.device),
        "precision": job.precision,
        "slices": scan.slices,
        "conditioning": [asdict(step) for step in conditioning_steps(scan, job.partial_fourier)],
        "sampling": sampling.source,
        "acceleration": sampling.acceleration,
        "outside_range": outcome.outside_range,
        "seconds": time.perf_counter() - start,
        **outcome.scores,
    }


def _given(options: Namespace) -> dict[str, Any]:
    """The options that were given and decide what the images look like."""
    given = {key: value for key, value in options.items() if key not in NOT_SETTINGS}
    return {key: value for key, value in given.items() if value is not None and value is not False and value != []}


def _sampling(scan: Scan, mask: SamplingMask | None, options: Namespace) -> Sampling:
    if mask:
        return undersample(scan, mask, options.seed)
    if options.mask:
        return sampling_from_file(scan, options.mask)
    return sampling_of(scan)


def _progress(images: "Images", total: int) -> "Images":
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    return track(images, "reconstructing", total, console=console, transient=True, disable=not console.is_terminal)


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


def _summary(results: Sequence[dict[str, Any]]) -> str:
    """What was done, for people; the conditioning of a volume only where it differs from that of the one before."""
    lines: list[str] = []
    conditioning = None
    for result in results:
        lines += [f"volume    {result['volume']}"] if result["volume"] else []
        if result["conditioning"] != conditioning:
            conditioning = result["conditioning"]
            lines += [f"did       {step['name']}: {step['done']}" for step in conditioning]
        lines += [*_outcome(result), ""]
    return "\n".join([*lines[:-1], DISCLAIMER])


def _outcome(result: dict[str, Any]) -> list[str]:
    seconds, slices = result["seconds"], result["slices"]
    lines = [
        f"method    {result['method']} on {result['device']} in {result['precision']}, {seconds:.1f} s "
        f"({seconds / slices:.2f} s per slice)",
        f"sampling  {result['sampling']}; achieved acceleration {result['acceleration']:.2f}",
    ]
    if "weight_in_data_units" in result:
        lines.append(f"weight    {result['weight_in_data_units']:.4g} in units of the data")
    for name, against in (
        ("metrics", "the fully sampled image with the same coil maps, inside their support"),
        ("metrics_rss", "the file's reconstruction_rss"),
    ):
        if name in result:
            nmse, psnr, ssim = ("undefined" if v is None else f"{v:.4g}" for v in result[name].values())
            lines.append(f"quality   NMSE {nmse}, PSNR {psnr} dB, SSIM {ssim}, against {against}")
    names = {"hdf5": "images", "nifti": "NIfTI", "dicom": "DICOM", "mrd": "MRD", "png": "preview"}
    return lines + [f"{names[name]:<9} {path}" for name, path in result["outputs"].items()]
