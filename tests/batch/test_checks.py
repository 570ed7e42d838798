import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from mrirecon.acquisition.sampling import undersample
from mrirecon.acquisition.scan import Scan
from mrirecon.batch.checks import Checks, largest_region
from mrirecon.batch.verdict import MEANING, judge, thresholds, worst
from mrirecon.export.dicom import series_description
from mrirecon.export.images import Origin
from mrirecon.physics.sampling import mask_by_name
from mrirecon.reconstruction.methods import method_by_name
from mrirecon.reconstruction.pipeline import Block, measure_blocks, reconstruct_block
from mrirecon.simulation.phantom import head_phantom
from mrirecon.simulation.scan import object_mean, simulate_slices


@pytest.fixture(scope="module")
def scan() -> Scan:
    """A simulated head: one slice, 6 coils, 96 × 80; its noise is known."""
    images = head_phantom((96, 80), 1, "t2", 3).images
    kspace = np.stack(list(simulate_slices(images, 6, 30.0, 3)))
    level = object_mean(images) / 30
    return Scan(Path("head.h5"), "simulated", kspace.shape, lambda index: kspace[index].copy(), noise_std=level)


@pytest.fixture(scope="module")
def block(scan: Scan) -> Block:
    [block] = measure_blocks(scan, undersample(scan, MASK, 0), device=torch.device("cpu"))
    return block


@pytest.fixture(scope="module")
def images(block: Block) -> torch.Tensor:
    return reconstruct_block(method_by_name("cs").reconstructor, block)


MASK = mask_by_name("equispaced", 3.0, 20)


@pytest.fixture
def check(scan: Scan, block: Block, tmp_path: Path) -> Callable[..., Checks]:
    """Checks a reconstruction by compressed sensing of a measurement; both can be others than the good ones."""

    def run(images: torch.Tensor, spoilt: Block | None = None) -> Checks:
        checks = Checks(scan, undersample(scan, MASK, 0), method_by_name("cs"), "auto")
        with checks.writing(tmp_path / "checks.h5"):
            checks.add(spoilt or block, images)
        return checks

    return run


def test_a_good_image_is_ok_and_its_residual_is_the_noise(check, images: torch.Tensor) -> None:
    checks = check(images)
    assert checks.verdict().word == "OK", checks.verdict()
    measured = checks.measured()
    assert measured["residual"] == pytest.approx(1, abs=0.25)
    assert measured["second"] == "cg-sense"
    assert measured["acs"] == [20]
    assert json.loads(json.dumps(measured)) == measured


def test_an_image_that_contradicts_the_data_is_rejected(check, images: torch.Tensor) -> None:
    verdict = check(images.roll(20, -1)).verdict()
    assert verdict.word == "REJECT"
    assert any("contradicts" in reason for reason in verdict.reasons)


def test_a_smoothed_image_is_for_review(check, images: torch.Tensor) -> None:
    smooth = torch.complex(*(torch.nn.functional.avg_pool2d(p, 5, 1, 2) for p in (images.real, images.imag)))
    assert check(smooth).verdict().word != "OK"


def test_a_large_invented_lesion_is_found_where_it_is_and_by_the_difference_alone(check, images) -> None:
    lesion = torch.zeros(96, 80)
    lesion[40:50, 30:40] = 0.5
    checks = check(images + lesion * torch.exp(1j * images.angle()))
    measured = checks.measured()
    assert checks.verdict().word == "REVIEW"
    assert measured["slice"] == 0
    assert measured["centre"] == pytest.approx([44, 34], abs=3)
    assert measured["pixels"] == pytest.approx(100, rel=0.4)


def test_a_small_invented_lesion_is_seen_by_no_check(check, images: torch.Tensor) -> None:
    """What docs/batch.md warns of."""
    lesion = torch.zeros(96, 80)
    lesion[44:46, 34:36] = 0.2
    assert check(images + lesion * torch.exp(1j * images.angle())).verdict().word == "OK"


def test_a_spike_is_seen(check, block: Block, images: torch.Tensor) -> None:
    kspace = block.measurement.kspace.clone()
    y, x = (int(n) for n in block.measurement.mask[0, 0].nonzero()[1])
    kspace[0, :, y, x] = kspace.abs().amax()
    before = check(images).measured()["spike"]
    checks = check(images, replace(block, measurement=replace(block.measurement, kspace=kspace)))
    assert checks.measured()["spike"] > 10 * before


def test_maps_are_kept_in_the_images_units(check, scan: Scan, images: torch.Tensor, tmp_path: Path) -> None:
    checks = check(images)
    with h5py.File(tmp_path / "checks.h5") as file:
        assert file.attrs["verdict"] == "OK"
        second, noise = file["second"][0], file["noise"][0]
    image = images[0].abs().numpy() * scan.survey.scale
    np.testing.assert_allclose(second, image, atol=0.15 * image.max())
    assert np.median(noise[noise > 0]) == pytest.approx(checks.measured()["noise"])
    # Every third line, and what the coils make worse of it.
    assert 1 < np.median(noise[noise > 0]) / (scan.noise_std * 3**0.5) < 2
    checks.picture(tmp_path / "checks.png")
    assert (tmp_path / "checks.png").stat().st_size > 1000


def test_the_second_reconstruction_is_another_one(scan: Scan) -> None:
    sampling = undersample(scan, MASK, 0)
    assert Checks(scan, sampling, method_by_name("cg-sense"), "auto").second == "cs"


def test_the_verdict_is_in_the_name_of_the_dicom_series(scan: Scan) -> None:
    origin = Origin(replace(scan, volume="contrast-2"), "cirim", 4.0, label="REVIEW")
    assert series_description(origin) == "mrirecon CIRIM R=4 RESEARCH REVIEW contrast-2"


def test_regions_are_connected_and_of_one_sign() -> None:
    difference = np.zeros((40, 40), np.float32)
    difference[5:15, 5:15] = 9
    difference[5:15, 15:25] = -9
    difference[30:34, 30:34] = 9
    pixels, centre = largest_region(difference)
    assert pixels == pytest.approx(100, rel=0.1)
    assert centre[0] == pytest.approx(9.5, abs=1)
    assert largest_region(np.zeros((9, 9), np.float32)) == (0, [0, 0])


@pytest.mark.parametrize("name", list(MEANING))
def test_each_measurement_has_a_threshold_and_a_sentence(name: str) -> None:
    limit = thresholds()[name]["review"]
    facts: dict[str, Any] = {"second": "cs", "slice": 3}
    assert judge({**facts, name: limit}, []).word == "OK"
    verdict = judge({**facts, name: limit * 1.01 + 1e-6}, [])
    assert verdict.word == "REVIEW"
    assert len(verdict.reasons) == 1
    if "reject" in thresholds()[name]:
        assert judge({**facts, name: thresholds()[name]["reject"] * 1.01}, []).word == "REJECT"


def test_outside_the_card_is_for_review() -> None:
    verdict = judge({}, ["number of coils 64 (meant for 1 to 32)"])
    assert verdict.word == "REVIEW"
    assert "64" in verdict.reasons[0]


def test_the_worst_volume_speaks_for_the_file() -> None:
    assert worst(["OK", "REJECT", "REVIEW"]) == "REJECT"
    assert worst([]) == "OK"
