"""Each network: time of one slice and of a training step, memory, and the floor of its convolutions."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import fields, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from mrirecon.benchmark.machine import matrix_product, product_flops
from mrirecon.benchmark.measure import Row, Settings, Turns, ratio, reason, take_turns, threads
from mrirecon.benchmark.peer import installed
from mrirecon.benchmark.resident import peak_resident_bytes
from mrirecon.benchmark.subjects import Subject, head, masks
from mrirecon.benchmark.targets import ATOMMIC, ATOMMIC_RATE
from mrirecon.data.batch import Example
from mrirecon.memory import peak_bytes
from mrirecon.metrics import psnr, ssim
from mrirecon.models.build import build
from mrirecon.physics.fourier import ifftc
from mrirecon.physics.measurement import Measurement, Reconstructor
from mrirecon.reconstruction.methods import method_by_name
from mrirecon.weights import shipped_models

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}
#: Slices at once on a GPU.
BATCH = 16
RECORDED = "ATOMMIC (recorded)"


class Training:
    """Training steps on one slice, with the loss of the network's configuration (its part `model`) and Adam."""

    def __init__(self, config: Mapping[str, Any], subject: Subject, measurement: Measurement):
        from mrirecon.training.module import ReconstructionModule

        self.module = ReconstructionModule(**{**config, "model": build(config["model"])}).to(measurement.kspace.device)
        self.optimiser = torch.optim.Adam(self.module.parameters(), lr=1e-4, fused=True)
        maps = measurement.sensitivities
        assert maps is not None
        target = (maps.conj() * ifftc(subject.kspace)).sum(dim=1)
        self.example = Example(measurement, target, torch.zeros(1, dtype=torch.long))

    def loss(self, precision: str) -> Tensor:
        self.module.train()
        with autocast(precision, self.example.target.device):
            return self.module.loss_of(self.module.model, self.example)

    def step(self, precision: str, checkpointed: bool = False) -> None:
        self.module.checkpoint = checkpointed
        self.optimiser.zero_grad()
        self.loss(precision).backward()
        self.optimiser.step()


def measure_networks(settings: Settings) -> Iterator[Row]:
    """The networks of `settings.networks`, with random weights."""
    subject = head(settings)
    measurement = subject.measured(masks(settings)["lines along y"])
    with threads(settings.threads):
        for name, config in settings.networks.items():
            try:
                yield from _network(name, config, subject, measurement, settings)
            except Exception as error:  # a lack of memory, say, costs this network only
                yield Row("networks", f"{name}, inference fp32", "s", (), note=f"failed: {reason(error)}")


def measure_quality(settings: Settings) -> Iterator[Row]:
    """The first shipped model: its time, and what bf16 changes in its image of a simulated head."""
    subject = head(settings)
    measurement = subject.measured(masks(settings)["lines along y"])
    assert measurement.sensitivities is not None
    support = (measurement.sensitivities != 0).any(dim=1).cpu().numpy()
    name = next(iter(shipped_models()))
    network = method_by_name(name).reconstructor.to(settings.device)
    with threads(settings.threads):
        flops = count_flops(lambda: network.train()(measurement))
        yield from _inference(name, network, measurement, flops, settings, section="quality")[0]
        images = {precision: _infer(network, measurement, precision).cpu().numpy() for precision in PRECISIONS}
    truth = subject.truth.numpy()
    for what, metric, unit in (("PSNR", psnr, "dB"), ("SSIM", ssim, "×")):
        scores = [metric(truth, np.abs(image), support) for image in images.values()]
        note = f"{name}: {scores[0]:.4f} in fp32, {scores[1]:.4f} in bf16"
        yield Row("quality", f"bf16 changes {what} by", unit, (abs(scores[1] - scores[0]),), note=note)  # type: ignore[arg-type]


def autocast(precision: str, device: torch.device) -> AbstractContextManager[None]:
    """bf16 convolutions, if that is the precision; complex tensors stay as they are."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


def count_flops(run: Callable[[], object]) -> int:
    """Multiplications and additions of the convolutions and matrix products in `run()`."""
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


def _network(
    name: str, config: Mapping[str, Any], subject: Subject, measurement: Measurement, settings: Settings
) -> Iterator[Row]:
    training = Training(config, subject, measurement)
    settings.say("counting convolutions")
    forward, step = convolution_flops(training)
    network: Reconstructor = training.module.model
    found, times = _inference(name, network, measurement, forward, settings)
    yield from found
    if not settings.quick:
        found, step_times = _training(name, training, step, settings)
        times |= step_times
        yield from found
    if name in ATOMMIC and settings.standard and not installed(settings.peers, "atommic"):
        yield from _recorded(name, config, times, settings)


def convolution_flops(training: Training) -> tuple[int, int]:
    """FLOPs of the convolutions of one pass forward, and of one training step.

    Counted in training mode, which computes each convolution once; at inference overlapping parts may be done twice.
    """
    with FlopCounterMode(display=False) as counter:
        loss = training.loss("fp32")
        forward = counter.get_total_flops()
        loss.backward()
    return forward, counter.get_total_flops()


def _infer(network: Reconstructor, measurement: Measurement, precision: str) -> Tensor:
    with torch.inference_mode(), autocast(precision, measurement.kspace.device):
        return network.eval()(measurement)[-1]


def _inference(
    name: str,
    network: Reconstructor,
    measurement: Measurement,
    flops: int,
    settings: Settings,
    section: str = "networks",
) -> tuple[list[Row], dict[str, Turns]]:
    """Rows of time and memory, and the times by their names."""
    methods: dict[str, Callable[[], object]] = {
        f"{name}, inference {precision}": partial(_infer, network, measurement, precision) for precision in PRECISIONS
    }
    if settings.device.type == "cuda":
        batch = repeated(measurement, BATCH)
        methods[f"{name}, inference bf16, {BATCH} slices"] = lambda: _infer(network, batch, "bf16")
    found, times = _with_floors(section, methods, flops, settings)
    if settings.device.type == "cuda" and (taken := times[f"{name}, inference bf16, {BATCH} slices"]).seconds:
        seconds = tuple(value / BATCH for value in taken.seconds)
        found.append(Row(section, f"{name}, inference bf16, per slice of {BATCH}", "s", seconds))
    for precision in PRECISIONS:
        memory = peak_bytes(partial(_infer, network, measurement, precision))
        found.append(Row(section, f"{name}, inference {precision}, tensors", "B", (memory,)))
    return found, times


def _training(name: str, training: Training, flops: int, settings: Settings) -> tuple[list[Row], dict[str, Turns]]:
    kinds = {"fp32": ("fp32", False), "bf16": ("bf16", False), "bf16 checkpointed": ("bf16", True)}
    memory = {kind: peak_bytes(partial(training.step, *how)) for kind, how in kinds.items()}
    if memory["bf16 checkpointed"] >= memory["bf16"]:
        del kinds["bf16 checkpointed"]  # a network without repeated parts
    methods: dict[str, Callable[[], object]] = {
        f"{name}, training step {kind}": partial(training.step, *how) for kind, how in kinds.items()
    }
    found, times = _with_floors("networks", methods, flops, settings)
    for kind in kinds:
        found.append(Row("networks", f"{name}, training step {kind}, tensors", "B", (memory[kind],)))
    return found, times


def _with_floors(
    section: str, methods: Mapping[str, Callable[[], object]], flops: int, settings: Settings
) -> tuple[list[Row], dict[str, Turns]]:
    """Rows whose floor is that many FLOPs at the rate of a matrix product, which takes its turns with the methods."""
    products = {name: matrix_product(settings, dtype) for name, dtype in PRECISIONS.items()}
    times = take_turns({**methods, **products}, settings)
    found = []
    for name in methods:
        precision = "bf16" if "bf16" in name else "fp32"
        floor = times[precision].median * flops / product_flops(settings)
        floor *= BATCH if name.endswith(f"{BATCH} slices") else 1
        note = f"failed: {times[name].failure}" if times[name].failure else f"{flops / 1e9:.4g} GFLOP of convolution"
        found.append(Row(section, name, "s", times[name].seconds, floor, note=note))
    return found, times


def _recorded(name: str, config: Mapping[str, Any], times: Mapping[str, Turns], settings: Settings) -> Iterator[Row]:
    """ATOMMIC's recorded figures beside ours: times scaled by the fp32 rate here, memory as it is."""
    inference_s, inference_bytes, step_s, step_bytes = ATOMMIC[name]
    rate = product_flops(settings) / times["fp32"].median
    for what, seconds in (("inference", inference_s), ("training step", step_s)):
        scaled = seconds * ATOMMIC_RATE / rate
        note = f"recorded {seconds:g} s in fp32 at {ATOMMIC_RATE / 1e9:g} GFLOP/s, scaled to {rate / 1e9:.0f} GFLOP/s"
        for kind in ("fp32", "bf16", "bf16 checkpointed"):
            if taken := times.get(f"{name}, {what} {kind}"):
                theirs = Turns((scaled,) * len(taken.seconds))
                row = Row("networks", f"{name}, {what} {kind}: {RECORDED}", "s", (scaled,), note=note)
                yield replace(row, ratio=ratio(theirs, taken))
    if settings.quick or settings.device.type != "cpu":
        return
    for what, how, theirs_bytes in (
        ("inference fp32", None, inference_bytes),
        ("training step bf16", ("bf16", False), step_bytes),
        ("training step bf16 checkpointed", ("bf16", True), step_bytes),
    ):
        if f"{name}, {what}" not in times:
            continue
        settings.say(f"{name}, {what}, in a process of its own")
        ours = peak_resident_bytes(_alone, config, settings.coils, settings.matrix, settings.threads, how)
        key = f"{name}, {what}, resident memory"
        yield Row("networks", key, "B", (ours,), note="of a process, Python and libraries included")
        yield Row("networks", f"{key}: {RECORDED}", "B", (theirs_bytes,), ratio=theirs_bytes / ours, note="in fp32")


def _alone(
    config: Mapping[str, Any], coils: int, matrix: tuple[int, int], count: int, how: tuple[str, bool] | None
) -> None:
    """One training step, or one slice (how None), in a fresh process."""
    torch.set_num_threads(count)
    settings = Settings(coils=coils, matrix=matrix)
    subject = head(settings)
    measurement = subject.measured(masks(settings)["lines along y"])
    if how:
        Training(config, subject, measurement).step(*how)
    else:
        _infer(build(config["model"]), measurement, "fp32")  # type: ignore[arg-type]


def repeated(measurement: Measurement, batch: int) -> Measurement:
    """The same slice several times."""
    changed = {
        field.name: tensor.expand(batch, *tensor.shape[1:]).contiguous()
        for field in fields(measurement)
        if (tensor := getattr(measurement, field.name)) is not None
    }
    return replace(measurement, **changed)
