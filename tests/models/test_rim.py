from dataclasses import replace

import pytest
import torch

from mrirecon.models.cirim import CIRIM
from mrirecon.models.rim import IRIM, RIM
from mrirecon.physics.sense import SenseOperator


@pytest.mark.parametrize(
    ("model", "parameters"),
    [(RIM("gru"), 94_080), (RIM("mgu"), 77_568), (RIM("indrnn"), 52_992), (IRIM(), 52_992), (CIRIM(), 264_960)],
)
def test_parameter_counts_are_those_of_the_papers(model, parameters):
    assert sum(p.numel() for p in model.parameters()) == parameters


def test_untrained_it_is_gradient_descent(measurement, gradient_descent):
    m = measurement()
    model = CIRIM(cascades=2, channels=8, time_steps=3)
    for cascade in model.cascades:
        torch.nn.init.zeros_(cascade.conv3.weight[:, 4:])
    torch.testing.assert_close(model.train()(m), gradient_descent(m, 6), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("unit", ["gru", "mgu"])
def test_untrained_gated_units_descend_too(unit, measurement):
    m = measurement()
    with torch.no_grad():
        estimates = RIM(unit, channels=8).train()(m)
    norms = [(SenseOperator(m).forward(image) - m.kspace).norm() for image in estimates]
    assert norms[-1] < 0.8 * norms[0]


@pytest.mark.parametrize("form", ["hard", "proximal"])
def test_explicit_consistency_brings_the_answer_closer_to_the_data(form, measurement):
    m = measurement()
    with torch.no_grad():
        free, tied = (RIM("indrnn", channels=8, time_steps=1, data_consistency=f) for f in ("none", form))
        tied.load_state_dict(free.state_dict(), strict=False)
        misfits = [(SenseOperator(m).forward(model.eval()(m)[0]) - m.kspace).norm() for model in (free, tied)]
    assert misfits[1] < 0.9 * misfits[0]


@pytest.mark.parametrize("model", [IRIM, CIRIM])
def test_without_the_phase_a_turned_measurement_gives_the_turned_image(model, measurement):
    """Whatever the phase of the data, the network sees the same."""
    m = measurement()
    torch.manual_seed(1)
    network = model(channels=8, time_steps=2, remove_phase=True).eval()
    for name, parameter in network.named_parameters():
        if "conv" in name:
            torch.nn.init.normal_(parameter, std=0.05)
    turn = torch.polar(torch.tensor(1.0), torch.tensor(0.7))
    with torch.no_grad():
        image, turned = network(m)[-1], network(replace(m, kspace=m.kspace * turn))[-1]
        unturned = model(channels=8, time_steps=2).eval()
        unturned.load_state_dict(network.state_dict())
        plain = unturned(m)[-1]
    torch.testing.assert_close(turned, image * turn, rtol=1e-4, atol=1e-5)
    assert (plain - image).norm() > 1e-3 * image.norm()
