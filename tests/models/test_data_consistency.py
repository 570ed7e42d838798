"""The explicit steps do what their equations say, and networks refuse what does not fit them."""

import pytest
import torch

from mrirecon.models.blocks.data_consistency import (
    OUTPUT_FORMS,
    RECURRENT_FORMS,
    STEPS,
    UNROLLED_FORMS,
    DataConsistency,
    split_consistency,
)
from mrirecon.physics.fourier import fftc
from mrirecon.physics.measurement import Measurement
from mrirecon.physics.sense import SenseOperator


def operator(noise_std=(0.01, 0.5), fully_sampled=False, seed=0):
    generator = torch.Generator().manual_seed(seed)
    maps = torch.randn(2, 3, 12, 11, dtype=torch.complex128, generator=generator)
    maps = maps / maps.norm(dim=1, keepdim=True)
    mask = torch.rand(2, 1, 12, 11, generator=generator) < (2 if fully_sampled else 0.5)
    image = torch.randn(2, 12, 11, dtype=torch.complex128, generator=generator)
    noise = torch.tensor(noise_std).double()
    measurement = Measurement(fftc(maps * image[:, None]) * mask, mask, maps, noise_std=noise)
    return SenseOperator(measurement)


def guess():
    return torch.randn(2, 12, 11, dtype=torch.complex128, generator=torch.Generator().manual_seed(9))


def test_none_is_the_identity():
    assert STEPS["none"]()(guess(), operator()) is not None
    torch.testing.assert_close(STEPS["none"]()(guess(), operator()), guess())


@pytest.mark.parametrize("form", ["soft", "hard"])
def test_a_gradient_step_goes_down_the_gradient_by_lambda(form):
    a, step = operator(), STEPS[form]()
    length = 1.0
    if form == "soft":
        length = 0.3
        torch.nn.init.constant_(step.step, length)
    torch.testing.assert_close(step(guess(), a), guess() - length * (a.normal(guess()) - a.adjoint_data))


def test_soft_is_the_weighted_replacement_of_samples_where_the_maps_are_normalised():
    a, step, weight = operator(fully_sampled=True), STEPS["soft"](), 0.25
    torch.nn.init.constant_(step.step, weight / (1 + weight))
    replaced = (guess() + weight * a.adjoint_data) / (1 + weight)
    torch.testing.assert_close(step(guess(), a).to(torch.complex64), replaced.to(torch.complex64))


def test_the_proximal_step_solves_its_equation():
    a, step = operator(), STEPS["proximal"]()
    torch.nn.init.constant_(step.log_mu, 0.0)
    z = step(guess(), a)
    torch.testing.assert_close(a.normal(z) + z, a.adjoint_data + guess(), rtol=1e-3, atol=1e-3)


def test_calibrated_proximal_is_the_proximal_step_of_each_scans_noise():
    a, step, plain = operator(), STEPS["calibrated_proximal"](), STEPS["proximal"]()
    torch.nn.init.constant_(step.log_a, torch.tensor(40.0).log())
    both = step(guess(), a)
    for scan, noise_std in enumerate((0.01, 0.5)):
        torch.nn.init.constant_(plain.log_mu, torch.tensor(40 * noise_std**2).log())
        torch.testing.assert_close(both[scan], plain(guess(), a)[scan], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("form", ["calibrated_soft", "calibrated_proximal"])
def test_clean_data_bind_harder_than_noisy_data(form):
    a = operator(noise_std=(0.01, 0.01))
    noisy = operator(noise_std=(0.5, 0.5))
    misfit = [(o.forward(STEPS[form]()(guess(), o)) - o.forward(guess())).norm() for o in (a, noisy)]
    assert misfit[0] > 2 * misfit[1]


@pytest.mark.parametrize("form", ["calibrated_soft", "calibrated_proximal"])
def test_noise_free_data_are_met_completely(form):
    a = operator(noise_std=(0.0, 0.0), fully_sampled=True)
    torch.testing.assert_close(STEPS[form]()(guess(), a), a.adjoint_data, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("form", [name for name in STEPS if name not in ("hard", "none")])
def test_learned_steps_learn(form):
    step = STEPS[form]()
    step(guess(), operator()).abs().square().sum().backward()
    (parameter,) = step.parameters()
    assert parameter.grad is not None
    assert parameter.grad != 0


def test_every_form_is_admitted_somewhere_and_splits_into_its_parts():
    assert set(DataConsistency.__args__) == set(RECURRENT_FORMS) == {*UNROLLED_FORMS, *OUTPUT_FORMS, *RECURRENT_FORMS}
    assert split_consistency("implicit", RECURRENT_FORMS, "") == (True, "none")
    assert split_consistency("implicit+calibrated_proximal", RECURRENT_FORMS, "") == (True, "calibrated_proximal")
    assert split_consistency("hard", OUTPUT_FORMS, "") == (False, "hard")


def test_other_pairs_are_refused_with_the_reason_and_the_choices():
    with pytest.raises(ValueError, match="'implicit' is not possible here: it sees no gradient; choose soft, hard"):
        split_consistency("implicit", OUTPUT_FORMS, "it sees no gradient")
