from dataclasses import replace

import pytest
import torch

from mrirecon.models.blocks.channels import to_channels, to_image
from mrirecon.models.blocks.data_consistency import STEPS, UNROLLED_FORMS
from mrirecon.models.e2evn import E2EVN
from mrirecon.models.sensitivity import LearnedSensitivities
from mrirecon.physics.fourier import fftc, ifftc
from mrirecon.physics.measurement import Measurement
from mrirecon.physics.sense import SenseOperator


def measurement(batch=2, coils=3, height=19, width=14, seed=0):
    generator = torch.Generator().manual_seed(seed)
    maps = torch.randn(batch, coils, height, width, dtype=torch.complex64, generator=generator)
    maps = maps / maps.norm(dim=1, keepdim=True)
    mask = torch.rand(batch, 1, 1, width, generator=generator) < 0.5
    image = torch.randn(batch, height, width, dtype=torch.complex64, generator=generator)
    noise = 0.1 * torch.randn(maps.shape, dtype=torch.complex64, generator=generator)
    return Measurement((fftc(maps * image[:, None]) + noise) * mask, mask, maps, noise_std=torch.tensor([0.05, 0.2]))


def model_of(form, cascades=2):
    """With weights of all sizes, as after training."""
    torch.manual_seed(0)
    model = E2EVN(cascades, channels=4, pools=2, data_consistency=form)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, mean=0.1, std=0.3)
    return model


@pytest.mark.parametrize(
    ("model", "parameters"),
    [(E2EVN, 29_452_068), (lambda: E2EVN(8), 19_634_712), (lambda: LearnedSensitivities(E2EVN()), 29_936_966)],
)
def test_parameter_counts_are_those_of_the_papers(model, parameters):
    with torch.device("meta"):
        assert sum(p.numel() for p in model().parameters()) == parameters


@pytest.mark.parametrize(
    ("form", "length"),
    [
        ("soft", lambda step, sigma: step.step.reshape(1)),
        ("hard", lambda step, sigma: torch.ones(1)),
        ("calibrated_soft", lambda step, sigma: 1 / (1 + step.log_a.exp() * sigma**2)),
        ("none", lambda step, sigma: torch.zeros(1)),
        ("implicit", lambda step, sigma: torch.zeros(1)),
    ],
)
def test_every_cascade_is_the_papers_equation(form, length):
    m, model = measurement(), model_of(form)
    y, mask, maps = m.kspace, m.mask, m.sensitivities
    k = y
    with torch.no_grad():
        for estimate, cascade in zip(model.train()(m), model.cascades, strict=True):
            x = (maps.conj() * ifftc(k)).sum(dim=1)
            gradient = (maps.conj() * ifftc(mask * (fftc(maps * x[:, None])) - y)).sum(dim=1)
            inputs = to_channels(x, gradient) if form == "implicit" else to_channels(x)
            u = to_image(cascade.network(inputs))
            step = length(cascade.consistency, m.noise_std)[:, None, None, None]
            k = k - step * mask * (k - y) - fftc(maps * u[:, None])
            torch.testing.assert_close(estimate, (maps.conj() * ifftc(k)).sum(dim=1), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("form", ["proximal", "calibrated_proximal"])
def test_the_proximal_form_solves_for_the_image_after_the_network(form):
    m, model = measurement(), model_of(form, cascades=1)
    (cascade,) = model.cascades
    operator = SenseOperator(m)
    with torch.no_grad():
        (estimate,) = model.eval()(m)
        x = operator.adjoint_data
        expected = cascade.consistency(x - to_image(cascade.network(to_channels(x))), operator)
    torch.testing.assert_close(estimate, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("form", UNROLLED_FORMS)
def test_every_form_trains_all_its_weights_and_answers_with_the_last_estimate(form):
    m, model = measurement(), model_of(form)
    estimates = model.train()(m)
    assert [estimate.shape for estimate in estimates] == 2 * [(2, 19, 14)]
    sum(estimate.abs().square().mean() for estimate in estimates).backward()
    # At the measured k-space, where the recursion begins, the first data term is zero, and so is the gradient of λ_0.
    idle = [n for n, p in model.named_parameters() if p.grad is None or not torch.isfinite(p.grad).all()]
    assert idle == []
    assert all(p.grad.abs().max() > 0 for p in model.cascades[1].parameters())
    (answer,) = model.eval()(m)
    torch.testing.assert_close(answer, estimates[-1])


@pytest.mark.parametrize("form", ["implicit+soft", "implicit+proximal"])
def test_gradient_and_step_together_are_refused(form):
    with pytest.raises(ValueError, match="not both"):
        E2EVN(1, data_consistency=form)


def test_all_steps_of_the_table_are_admitted():
    assert set(UNROLLED_FORMS) == {"implicit", *STEPS}


def test_slices_of_a_batch_do_not_see_each_other():
    m, model = measurement(), model_of("soft").eval()
    alone = Measurement(m.kspace[1:], m.mask[1:], m.sensitivities[1:])
    torch.testing.assert_close(model(m)[0][1:], model(alone)[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("form", UNROLLED_FORMS)
def test_dead_coils_and_empty_slices_leave_the_others_alone_and_give_no_nan(form):
    m = replace(measurement(), noise_std=None)
    model = model_of(form)

    def with_dead_coil(tensor):
        return torch.cat([tensor, torch.zeros_like(tensor[:, :1])], dim=1)

    faulty = replace(m, kspace=with_dead_coil(m.kspace), sensitivities=with_dead_coil(m.sensitivities))
    faulty.kspace[1] = faulty.sensitivities[1] = 0
    estimates = model.train()(faulty)
    torch.testing.assert_close(estimates[-1][0], model(m)[-1][0], rtol=1e-4, atol=1e-4)
    assert torch.isfinite(torch.view_as_real(estimates[-1])).all()
    sum(estimate.abs().mean() for estimate in estimates).backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())
