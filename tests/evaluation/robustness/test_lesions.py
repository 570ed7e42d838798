from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from mrirecon.acquisition.scan import Scan
from mrirecon.classical.compressed_sensing import CompressedSensing
from mrirecon.evaluation.robustness.lesions import Finding, LesionStudy, place, study, with_lesions
from mrirecon.metrics import lesion_contrast
from mrirecon.physics.measurement import Measurement, Reconstructor
from mrirecon.physics.sampling import mask_by_name
from mrirecon.reconstruction.methods import Method
from mrirecon.simulation.scan import root_sum_of_squares

LESIONS = LesionStudy(diameters=(4, 7), contrasts=(0.5,))
CPU = torch.device("cpu")


def magnitude(scan: Scan) -> np.ndarray:
    return np.stack([root_sum_of_squares(kspace) for kspace in scan])


@pytest.fixture(scope="module")
def placed(disc: Scan) -> list:
    image = magnitude(disc)[0]
    return place(image, image > 0.4, None, 0, LESIONS, np.random.default_rng(0))


class Fixed(Reconstructor):
    """Shows the same image whatever was measured."""

    def __init__(self, image: np.ndarray):
        super().__init__()
        self.image = torch.from_numpy(image).to(torch.complex64)

    def forward(self, measurement: Measurement) -> list[Tensor]:
        return [self.image[None]]


def method(name: str, reconstructor: Reconstructor) -> Method:
    return Method(name, reconstructor, {})


def test_inserted_lesions_have_the_contrast_asked_for_in_the_full_kspace(disc: Scan, placed: list) -> None:
    before, after = magnitude(disc), magnitude(with_lesions(disc, [placed]))
    assert sorted(lesion.diameter for lesion in placed) == [4, 7]
    for lesion in placed:
        ratio = after[0][lesion.region.inside].mean() / before[0][lesion.region.inside].mean()
        core = lesion.profile[lesion.region.inside].mean()
        assert ratio == pytest.approx(1 + core, abs=0.03)
        assert core == pytest.approx(0.5, abs=0.1)
        assert lesion_contrast(after, lesion.region) > lesion_contrast(before, lesion.region) + 0.35
    elsewhere = np.sum([lesion.profile for lesion in placed], axis=0) == 0
    # What coil maps of the noise do not explain is not more than noise.
    assert np.abs(after - before)[0][elsewhere].max() < 0.1


def test_lesions_lie_apart_within_the_object_and_away_from_known_ones(disc: Scan) -> None:
    image = magnitude(disc)[0]
    known = np.zeros(image.shape, bool)
    known[:, :20] = True
    for seed in range(5):
        lesions = place(image, image > 0.4, known, 0, LESIONS, np.random.default_rng(seed))
        inside = np.sum([lesion.region.inside for lesion in lesions], axis=0)
        assert inside.max() == 1
        assert not (inside.astype(bool) & (known | (image < 0.4))).any()
        for lesion in lesions:
            assert not (lesion.region.ring & inside.astype(bool)).any()


def test_without_room_there_is_no_lesion() -> None:
    image = np.ones((20, 20), np.float32)
    assert place(image, np.zeros((20, 20), bool), None, 0, LESIONS, np.random.default_rng(0)) == []
    assert place(image, image > 0, None, 0, replace(LESIONS, diameters=(30,)), np.random.default_rng(0)) == []


def test_a_faithful_method_detects_all_and_invents_none(disc: Scan) -> None:
    methods = [method("cs", CompressedSensing(weight=0.002))]
    found = study(disc, mask_by_name("gaussian2d", 1.5, 16), methods, LESIONS, None, CPU).findings["cs"]
    assert len(found) == 2
    assert all(finding.detected and not finding.falsely_appears for finding in found)
    assert np.mean([finding.inserted for finding in found]) == pytest.approx(1, abs=0.3)


def test_a_method_that_always_shows_the_same_misses_what_is_not_in_it_and_invents_what_is(disc: Scan) -> None:
    mask = mask_by_name("gaussian2d", 2, 16)
    truth = magnitude(disc)[0]
    blind = study(disc, mask, [method("blind", Fixed(truth))], LESIONS, None, CPU).findings["blind"]
    assert not any(finding.detected or finding.falsely_appears for finding in blind)
    dreams = truth.copy()
    y, x = np.indices(truth.shape)
    for finding in blind:
        dreams[np.hypot(y - finding.row, x - finding.column) <= finding.diameter / 2] *= 1.5
    seen = study(disc, mask, [method("dreamer", Fixed(dreams))], LESIONS, None, CPU).findings["dreamer"]
    assert [finding.row for finding in seen] == [finding.row for finding in blind]
    assert all(finding.detected and finding.falsely_appears for finding in seen)


def test_half_of_the_contrast_is_the_limit() -> None:
    finding = Finding(0, 5, 5, 4.0, 0.5, inserted=0.5, clean=0.49)
    assert finding.detected
    assert not finding.falsely_appears
