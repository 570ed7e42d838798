"""Runs methods × settings over scans. Within a setting every method sees the same samples and the same maps."""

import json
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import h5py
import numpy as np
import torch
from numpy.typing import NDArray

from mrirecon import metrics
from mrirecon.acquisition.sampling import Sampling, sampling_of, undersample
from mrirecon.acquisition.scan import Scan
from mrirecon.classical.sigpy_compressed_sensing import SigpyCompressedSensing
from mrirecon.conditioning.opening import open_scans
from mrirecon.evaluation.rows import Row, Volume, scores, stored_lesions
from mrirecon.physics.calibration import calibration_width
from mrirecon.physics.measurement import Measurement, Reconstructor
from mrirecon.physics.sampling import SamplingMask, mask_by_name
from mrirecon.physics.sense import SenseOperator
from mrirecon.reconstruction.methods import Method
from mrirecon.reconstruction.pipeline import SliceData, centre_crop, measure, reconstruct_slice

log = logging.getLogger("mrirecon")

Progress = Callable[[str], None]
#: What makes a slice's image of what was measured; `reconstruct_slice`, or the same of a corrupted measurement.
Reconstruct = Callable[[Reconstructor, SliceData], torch.Tensor]
#: The mask of scans that were undersampled when they were acquired.
AS_ACQUIRED = "as acquired"


@dataclass(frozen=True)
class Setting:
    """How to undersample: kind of mask, asked acceleration, fully sampled centre (None = the kind's default)."""

    mask: str
    acceleration: float
    acs: int | None = None

    def sampling_mask(self) -> SamplingMask:
        return mask_by_name(self.mask, self.acceleration, self.acs)

    def __str__(self) -> str:
        return f"{self.mask} {self.acceleration:g}×"


@dataclass(frozen=True)
class Example:
    """The central slice of one volume, for figures: magnitudes (y, x), the support, the mask, and the volume's rows.

    reference: None where the scan was undersampled when it was acquired. lesions: bool (y, x), where the file says that
    there are any, to show them in detail.
    """

    volume: str
    setting: Setting
    slice_index: int
    reference: Volume | None
    support: NDArray[np.bool_]
    mask: NDArray[np.bool_]
    images: dict[str, Volume]
    rows: dict[str, Row]
    lesions: NDArray[np.bool_] | None = None


@dataclass
class Evaluation:
    """All rows, one example per setting (of the first volume that went through), and why other volumes failed."""

    rows: list[Row] = field(default_factory=list)
    examples: list[Example] = field(default_factory=list)
    failures: dict[Path, str] = field(default_factory=dict)

    @property
    def volumes(self) -> int:
        return len({row.volume for row in self.rows})

    def add(self, example: Example) -> None:
        self.rows += example.rows.values()
        if all(shown.setting != example.setting for shown in self.examples):
            self.examples.append(example)


def evaluate(
    paths: Iterable[Path],
    methods: Sequence[Method],
    settings: Sequence[Setting],
    *,
    open_file: Callable[[Path], list[Scan]] = open_scans,
    seed: int | None = None,
    max_slices: int | None = None,
    device: torch.device | None = None,
    progress: Progress = lambda text: None,
) -> Evaluation:
    """Evaluate every method on every scan in every setting; a scan that fails is recorded and the rest goes on.

    A scan that was undersampled when it was acquired is reconstructed as it is, once, and only what needs no reference
    is measured.

    open_file: gives the volumes of a file. seed: of the masks; None derives it from each file's name. max_slices:
    evaluate only that many central slices of each scan. progress: called with a line of text as the work goes on.
    Raises UsageError for a mask that does not exist, before any work.
    """
    for setting in settings:
        setting.sampling_mask()
    device = device or torch.device("cpu")
    for method in methods:
        method.reconstructor.to(device)
        _warm_up(method, device)
    evaluation = Evaluation()
    for path in paths:
        with _survivable(evaluation, path):
            volumes = open_file(path)
            for volume, how in [(v, s) for v in volumes for s in ([None] if v.prospective else settings)]:
                with _survivable(evaluation, path):
                    scan = central_slices(volume, max_slices)
                    example = evaluate_scan(scan, how, methods, seed=seed, device=device, progress=progress)
                    evaluation.add(example)
    return evaluation


@contextmanager
def _survivable(evaluation: Evaluation, path: Path) -> Iterator[None]:
    """One bad scan or setting, for whatever reason, does not cost the others."""
    try:
        yield
    except Exception as error:
        evaluation.failures[path] = str(error)
        log.warning("%s", error if path.name in str(error) else f"{path}: {error}")


def central_slices(scan: Scan, count: int | None) -> Scan:
    """The scan reduced to its `count` central slices (all, if None or more than there are)."""
    if count is None or count >= scan.slices:
        return scan
    first = (scan.slices - count) // 2
    target, calibration = scan.read_target, scan.read_calibration
    return replace(
        scan,
        shape=(count, *scan.shape[1:]),
        read_slice=lambda index: scan.read_slice(first + index),
        read_target=target and (lambda index: target(first + index)),
        read_calibration=calibration and (lambda index: calibration(first + index)),
        geometry=None,
    )


def evaluate_scan(
    scan: Scan,
    setting: Setting | None,
    methods: Sequence[Method],
    *,
    seed: int | None,
    device: torch.device,
    progress: Progress = lambda text: None,
    reconstruct: Reconstruct = reconstruct_slice,
) -> Example:
    """Undersample one scan, reconstruct it with each method, and score. Only magnitude volumes stay in memory.

    setting: None takes the scan as it was acquired, without a reference, so most scores are None.
    Raises UsageError if the scan shall be undersampled and is already, InputError if it cannot be read.
    """
    sampling = undersample(scan, setting.sampling_mask(), seed) if setting else sampling_of(scan)
    setting = setting or Setting(AS_ACQUIRED, round(sampling.acceleration, 2))
    slices, crop = scan.slices, scan.header.recon_size
    size = centre_crop(torch.from_numpy(sampling.mask[0]), crop).shape
    reference: Volume = np.zeros((slices, *size), np.float32)
    support = np.zeros((slices, *size), bool)
    estimates = {method.name: np.zeros_like(reference) for method in methods}
    seconds: dict[str, list[float]] = {method.name: [] for method in methods}
    complex_error = dict.fromkeys(estimates, 0.0)
    misfit, measured = dict.fromkeys(estimates, 0.0), 0.0
    for data in measure(scan, sampling, device=device):
        progress(f"{scan.name} · {setting} · slice {data.index + 1} of {slices}")
        reference_image = None if data.reference is None else centre_crop(data.reference, crop)
        if reference_image is not None:
            reference[data.index] = reference_image.abs().cpu()
        support[data.index] = centre_crop(data.support, crop).cpu()
        operator = SenseOperator(data.measurement)
        measured += _energy(data.measurement.kspace)
        for method in methods:
            start = _clock(device)
            whole_image = reconstruct(method.reconstructor, data)
            seconds[method.name].append(_clock(device) - start)
            image = centre_crop(whole_image, crop)
            estimates[method.name][data.index] = image.abs().cpu()
            if reference_image is not None:
                complex_error[method.name] += _energy(image - reference_image)
            misfit[method.name] += _energy(operator.forward(whole_image[None]) - data.measurement.kspace)
    energy = float(np.square(reference, dtype=np.float64).sum())
    known = reference if sampling.retrospective else None
    lesions = stored_lesions(scan.path, reference.shape)
    # What is even must be no one method's opinion.
    guide = reference if sampling.retrospective else np.mean(list(estimates.values()), axis=0)
    rows = {}
    for method in methods:
        name, estimate = method.name, estimates[method.name]
        nmse_rss, psnr_rss, ssim_rss = _against_rss(scan, estimate)
        rows[name] = Row(
            volume=scan.name,
            method=name,
            mask=setting.mask,
            acceleration_asked=setting.acceleration,
            acceleration=sampling.acceleration,
            acs=min(calibration_width(sampling.mask[0])),
            seed=seed,
            slices=slices,
            complex_nmse=complex_error[name] / energy if sampling.retrospective else None,
            residual=misfit[name] / measured,
            nmse_rss=nmse_rss,
            psnr_rss=psnr_rss,
            ssim_rss=ssim_rss,
            seconds=sum(seconds[name]),
            seconds_per_slice_median=float(np.median(seconds[name])),
            device=_device_name(device, method),
            simulated=_simulated(scan.path),
            **scores(known, estimate, support, lesions, guide),
        )
    middle = (slices - 1) // 2
    return Example(
        volume=scan.name,
        setting=setting,
        slice_index=middle,
        reference=reference[middle] if sampling.retrospective else None,
        support=support[middle],
        mask=_mask_of_slice(sampling, middle),
        images={name: estimate[middle] for name, estimate in estimates.items()},
        rows=rows,
        lesions=None if lesions is None else lesions[middle],
    )


def _warm_up(method: Method, device: torch.device) -> None:
    """Libraries load at first use, for seconds that are not the method's."""
    ones = torch.ones(1, 1, 64, 64, dtype=torch.complex64, device=device)
    measurement = Measurement(kspace=ones, mask=torch.ones_like(ones, dtype=torch.bool), sensitivities=ones)
    with suppress(Exception), torch.inference_mode():  # what cannot be done with this, scans will show
        method.reconstructor(measurement)


def _energy(values: torch.Tensor) -> float:
    return float(values.abs().square().sum())


def _clock(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def _device_name(device: torch.device, method: Method) -> str:
    """Where the method really ran: SigPy never leaves the CPU."""
    if device.type == "cuda" and not isinstance(method.reconstructor, SigpyCompressedSensing):
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"CPU, {threads} thread{'s' * (threads != 1)}"


def _mask_of_slice(sampling: Sampling, index: int) -> NDArray[np.bool_]:
    return sampling.mask[index % len(sampling.mask)]


def _against_rss(scan: Scan, estimate: Volume) -> tuple[float | None, float | None, float | None]:
    """NMSE, PSNR and SSIM against the file's own root-sum-of-squares reference, in its units; None without one."""
    if scan.read_target and scan.target_name == "reconstruction_rss":
        target = np.stack([scan.read_target(index) for index in range(scan.slices)])
        if target.shape == estimate.shape:
            image = estimate * scan.survey.scale
            return metrics.nmse(target, image), metrics.psnr(target, image), metrics.ssim(target, image)
    return None, None, None


def _simulated(path: Path) -> str:
    """What the provenance in the file says: yes, no, or unknown."""
    if not h5py.is_hdf5(path):
        return "unknown"
    with h5py.File(path) as file:
        try:
            provenance = json.loads(file.attrs.get("provenance", "{}"))
        except (TypeError, ValueError):  # somebody else's attribute of that name
            return "unknown"
    simulated = provenance.get("simulated") if isinstance(provenance, dict) else None
    return "yes" if simulated is True else "no" if simulated is False else "unknown"


@dataclass(frozen=True)
class Table:
    """A table of text, ready for the terminal, Markdown or HTML."""

    columns: list[str]
    rows: list[list[str]]

    def markdown(self) -> str:
        lines = [self.columns, ["---"] * len(self.columns), *self.rows]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"
