"""Checks of a reconstruction against what was measured, and against a second, conventional reconstruction.

None of them sees a small lesion that was invented or removed, see docs/batch.md.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mrirecon.acquisition.sampling import Sampling
from mrirecon.acquisition.scan import Scan
from mrirecon.batch.noise_map import NoiseMap, noise_map
from mrirecon.batch.verdict import Verdict, judge
from mrirecon.classical.compressed_sensing import CompressedSensing
from mrirecon.export.hdf5 import DISCLAIMER, explained, hdf5_file
from mrirecon.export.png import preview
from mrirecon.physics.sense import SenseOperator
from mrirecon.reconstruction.methods import Method, method_by_name
from mrirecon.reconstruction.pipeline import Block, centre_crop
from mrirecon.reconstruction.suitability import measured_ranges
from mrirecon.weights.intended import departures

#: Two reconstructions of noise-free data differ, too. Differences below this share of the scan's scale do not count: it
#: is added to the noise, as variances add.
FLOOR = 0.02
#: A pixel differs when the difference of the magnitudes, averaged with its neighbours, is so many times the noise.
DIFFERENT = 3.0
#: Averaged: squares of so many pixels. What a reader calls a structure is no single pixel.
AVERAGED = 3
#: Samples further out than this share of k-space can tell of spikes; they are compared with those of the same distance.
OUTSIDE, RINGS = 0.3, 16
#: Grey window of the difference map: white is so many times the noise.
WINDOW = 10.0


class Checks:
    """Watches one volume being reconstructed; an `Inspection` for `reconstruct_volume`.

    maps_given: the coil maps come from a file. ranges: what was measured of the scan, see `measured_ranges`. path: of
    the HDF5 that takes the second reconstruction (`second`), the difference of the magnitudes over the noise
    (`difference`), and the noise in the image (`noise`), float32 (slices, y, x) each, `second` and `noise` in the
    images' units. It exists within `writing`.
    """

    def __init__(self, scan: Scan, sampling: Sampling, method: Method, how: NoiseMap, *, maps_given: bool = False):
        self._scan, self._how = scan, how
        self.ranges = ranges = measured_ranges(scan, sampling, maps_given=maps_given)
        self.outside = departures(method.intended, ranges)
        #: Of the noise in k-space, in units of the scan's scale; 0 = none.
        self._sigma = 1 / ranges["snr"][0] if "snr" in ranges else 0.0
        self.second = "cg-sense" if isinstance(method.reconstructor, CompressedSensing) else "cs"
        self._conventional = method_by_name(self.second).reconstructor
        self._power = self._signal = self._samples = 0.0
        self._noise_map = ""
        self._noises: list[float] = []
        self._worst: dict[str, Any] = {"region": 0.0, "slice": None}
        self._pictures: list[tuple[str, NDArray[np.float32]]] = []
        self._spike = 0.0
        self._facts: dict[str, Any] = {
            **{name: list(values) for name, values in ranges.items()},
            "dead_coils": len(scan.survey.dead_coils) / scan.coils,
            "empty_slices": len(scan.survey.empty_slices) / scan.slices,
        }

    @contextmanager
    def writing(self, path: Path) -> Iterator[None]:
        """Within this context, maps are written to the file, which appears at its end."""
        scan, crop = self._scan, self._scan.header.recon_size
        shape = scan.slices, *centre_crop(torch.empty(scan.shape[2:]), crop).shape
        with hdf5_file(path) as file:
            self._path, self._file = path, file
            with explained(path):
                for name in ("second", "difference", "noise"):
                    chunks = (1, *shape[1:])
                    file.create_dataset(name, shape, np.float32, chunks=chunks, compression="lzf", shuffle=True)
                file.attrs["disclaimer"] = DISCLAIMER
                file.attrs["axes"] = "readout position,y,x" if scan.stack == "readouts" else "slice,y,x"
            yield
            with explained(path):
                file.attrs.update(second=self.second, noise=self._noise_map, verdict=self.verdict().word)

    @torch.inference_mode()
    def add(self, block: Block, images: Tensor) -> None:
        """Check a block of slices; images: complex (batch, y, x) in units of the scan's scale."""
        measurement = block.measurement
        operator = SenseOperator(measurement)
        residual = (operator.forward(images) - measurement.kspace).mul_(measurement.mask)
        alive = measurement.kspace.flatten(2).any(dim=2)
        self._samples += float((measurement.mask.expand_as(measurement.kspace) & alive[..., None, None]).sum())
        self._power += float(residual.abs().square_().sum())
        self._signal += float(measurement.kspace.abs().square().sum())
        self._spike = max(self._spike, *(spike(kspace) for kspace in measurement.kspace))
        sigma = images.real.new_full((len(images),), self._sigma)
        noise, self._noise_map = noise_map(measurement, sigma, self._how)
        second = self._conventional.to(images.device)(measurement)[-1] * block.support
        difference = (images.abs() - second.abs()) / (noise.square() / 2 + FLOOR**2).sqrt()
        difference *= block.support
        for n in range(len(images)):
            self._keep(block.first + n, block.support[n], images[n], second[n], difference[n], noise[n])

    def _keep(
        self, index: int, support: Tensor, image: Tensor, second: Tensor, difference: Tensor, noise: Tensor
    ) -> None:
        """Store the maps of a slice, and remember the one that differs the most."""
        scale, crop = self._scan.survey.scale, self._scan.header.recon_size
        maps = {"second": second.abs() * scale, "difference": difference, "noise": noise * scale}
        arrays = {name: centre_crop(array, crop).cpu().numpy() for name, array in maps.items()}
        with explained(self._path):
            for name, array in arrays.items():
                self._file[name][index] = array
        inside = centre_crop(support, crop).cpu().numpy()
        if not inside.any():
            return
        self._noises.append(float(np.median(arrays["noise"][inside])))
        area, place = largest_region(arrays["difference"])
        share = area / float(inside.sum())
        if share > self._worst["region"] or not self._pictures:
            self._worst = {"region": share, "slice": index, "pixels": area, "centre": place}
            magnitude = centre_crop(image.abs() * scale, crop).cpu().numpy()
            white = float(np.percentile(magnitude, 99.5)) or 1.0
            most = float(np.percentile(arrays["noise"], 99.5)) or 1.0
            self._pictures = [
                (f"slice {index}", (magnitude / white).astype(np.float32)),
                (self.second, (arrays["second"] / white).astype(np.float32)),
                (f"difference, white = {WINDOW:g} x noise", np.abs(arrays["difference"]) / WINDOW),
                ("noise in the image", (arrays["noise"] / most).astype(np.float32)),
            ]

    def measured(self) -> dict[str, Any]:
        """All that was measured, for JSON; see docs/batch.md."""
        per_sample = (self._power / max(self._samples, 1)) ** 0.5
        return {
            **self._facts,
            "residual": per_sample / self._sigma if self._sigma else None,
            "misfit": max(self._power - self._samples * self._sigma**2, 0) ** 0.5 / (self._signal**0.5 or 1),
            "spike": self._spike,
            "second": self.second,
            **self._worst,
            "noise_map": self._noise_map,
            "noise": float(np.median(self._noises)) if self._noises else 0.0,
        }

    def verdict(self) -> Verdict:
        """The verdict on the slices so far."""
        return judge(self.measured(), self.outside)

    def label(self) -> str:
        return self.verdict().word

    def picture(self, path: Path) -> None:
        """Write a PNG of the slice that differs the most from the second reconstruction."""
        preview(path, [(title, image.clip(0, 1)) for title, image in self._pictures], label=self.label())


def largest_region(difference: NDArray[np.float32]) -> tuple[int, list[int]]:
    """(pixels of the largest connected region that differs, its centre [y, x]) in a map in units of the noise."""
    from scipy import ndimage

    averaged = ndimage.uniform_filter(difference, AVERAGED)
    best, place = 0, [0, 0]
    for sign in (1, -1):
        labels, count = ndimage.label(sign * averaged > DIFFERENT)
        if count:
            sizes = np.bincount(labels.ravel())[1:]
            if sizes.max() > best:
                best = int(sizes.max())
                centre = ndimage.center_of_mass(labels == sizes.argmax() + 1)
                place = [round(c) for c in centre]
    return best, place


def spike(kspace: Tensor) -> float:
    """How many times the largest sample in the outer k-space (coils, y, x) is the median of those as far out."""
    height, width = kspace.shape[-2:]
    magnitude = torch.linalg.vector_norm(kspace, dim=0)
    y = torch.linspace(-1, 1, height, device=kspace.device)[:, None]
    x = torch.linspace(-1, 1, width, device=kspace.device)
    radius = torch.maximum(y.abs(), x.abs()).expand_as(magnitude)
    ring = ((radius - OUTSIDE) / (1 - OUTSIDE) * RINGS).clamp(max=RINGS - 1).floor().int()
    ratios = [0.0]
    for number in range(RINGS):
        samples = magnitude[(ring == number) & (radius >= OUTSIDE) & (magnitude > 0)]
        if len(samples):
            ratios.append(float(samples.max() / samples.median()))
    return max(ratios)
