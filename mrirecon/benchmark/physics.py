"""The forward operator beside its textbook form, and the bare FFTs below both."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from mrirecon.benchmark.measure import Row, Settings, rows, take_turns, threads
from mrirecon.benchmark.subjects import head, masks
from mrirecon.physics.fourier import fftc, ifftc
from mrirecon.physics.measurement import Measurement
from mrirecon.physics.sense import SenseOperator

FLOOR = "bare FFT"


def measure_physics(settings: Settings) -> Iterator[Row]:
    """Forward, adjoint and gradient, with one thread and with all, for masks of lines and of points.

    The textbook form is complex, with fftshift and ifftshift in every call. The floor is the plain FFT of the coils, a
    pair of them for the gradient, over the axes along which the mask varies.
    """
    subject = head(settings)
    for name, mask in masks(settings).items():
        measurement = subject.measured(mask)
        for count in sorted({1, settings.threads}):
            with threads(count), torch.inference_mode():
                yield from _operator(measurement, name, count, settings)


def _operator(measurement: Measurement, mask: str, count: int, settings: Settings) -> Iterator[Row]:
    operator = SenseOperator(measurement)
    image, kspace, maps = operator.adjoint_data.clone(), measurement.kspace, measurement.sensitivities
    assert maps is not None
    axes = {"2D mask": (-2, -1), "lines along y": (-1,), "lines along x": (-2,)}[mask]
    coil_images = maps * image[:, None]

    def forward() -> Tensor:
        return measurement.mask * fftc(maps * image[:, None])

    def adjoint() -> Tensor:
        return (maps.conj() * ifftc(measurement.mask * kspace)).sum(dim=1)

    def gradient() -> Tensor:
        residual = measurement.mask * (fftc(maps * image[:, None]) - kspace)
        return (maps.conj() * ifftc(residual)).sum(dim=1)

    pairs: dict[str, tuple[Callable[[], Tensor], Callable[[], Tensor], Callable[[], Tensor]]] = {
        "forward": (lambda: operator.forward(image), forward, lambda: torch.fft.fft2(coil_images)),
        "adjoint": (lambda: operator.adjoint(kspace), adjoint, lambda: torch.fft.ifft2(kspace)),
        "gradient": (
            lambda: operator.gradient(image),
            gradient,
            lambda: torch.fft.ifftn(torch.fft.fftn(coil_images, dim=axes), dim=axes),
        ),
    }
    for what, (ours, textbook, bare) in pairs.items():
        name = f"{what}, {mask}, {count} thread{'s' * (count > 1)}"
        turns = take_turns({name: ours, f"{name}: textbook": textbook, FLOOR: bare}, settings)
        floor = turns.pop(FLOOR).median
        expected = textbook()
        difference = float((ours() - expected).abs().max() / expected.abs().max())
        notes = {f"{name}: textbook": f"differs by {difference:.0e} of its maximum"}
        yield from rows("physics", turns, floor, notes)
