import pytest
import torch

from mrirecon.models.blocks.channels import to_channels, to_image
from mrirecon.models.e2evn import E2EVN
from mrirecon.models.sensitivity import LearnedSensitivities
from mrirecon.physics.fourier import fftc, ifftc
from mrirecon.physics.sense import SenseOperator


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
def test_every_cascade_is_the_papers_equation(form, length, measurement):
    m, model = measurement(batch=2), model_of(form)
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
def test_the_proximal_form_solves_for_the_image_after_the_network(form, measurement):
    m, model = measurement(batch=2), model_of(form, cascades=1)
    (cascade,) = model.cascades
    operator = SenseOperator(m)
    with torch.no_grad():
        (estimate,) = model.eval()(m)
        x = operator.adjoint_data
        expected = cascade.consistency(x - to_image(cascade.network(to_channels(x))), operator)
    torch.testing.assert_close(estimate, expected, rtol=1e-4, atol=1e-5)
