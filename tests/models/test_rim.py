import pytest
import torch

from mrirecon.models.blocks.data_consistency import DataConsistency
from mrirecon.models.cirim import CIRIM
from mrirecon.models.rim import IRIM, RIM
from mrirecon.physics.fourier import fftc
from mrirecon.physics.measurement import Measurement
from mrirecon.physics.sense import SenseOperator


def measurement(batch=1, coils=3, height=12, width=11, seed=0):
    generator = torch.Generator().manual_seed(seed)
    maps = torch.randn(batch, coils, height, width, dtype=torch.complex64, generator=generator)
    maps = maps / maps.norm(dim=1, keepdim=True)
    mask = torch.rand(batch, 1, height, width, generator=generator) < 0.5
    image = 0.3 * torch.randn(batch, height, width, dtype=torch.complex64, generator=generator)
    return Measurement(fftc(maps * image[:, None]) * mask, mask, maps)


@pytest.mark.parametrize(
    ("model", "parameters"),
    [(RIM("gru"), 94_080), (RIM("mgu"), 77_568), (RIM("indrnn"), 52_992), (IRIM(), 52_992), (CIRIM(), 264_960)],
)
def test_parameter_counts_are_those_of_the_papers(model, parameters):
    assert sum(p.numel() for p in model.parameters()) == parameters


def test_untrained_it_is_gradient_descent():
    m = measurement()
    operator = SenseOperator(m)
    image = operator.adjoint_data
    for _ in range(6):
        image = image - operator.gradient(image)
    model = CIRIM(cascades=2, channels=8, time_steps=3)
    for cascade in model.cascades:
        torch.nn.init.zeros_(cascade.conv3.weight[:, 4:])
    torch.testing.assert_close(model.eval()(m)[0], image, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("unit", ["gru", "mgu"])
def test_untrained_gated_units_descend_too(unit):
    m = measurement()
    with torch.no_grad():
        estimates = RIM(unit, channels=8).train()(m)
    norms = [(SenseOperator(m).forward(image) - m.kspace).norm() for image in estimates]
    assert norms[-1] < 0.8 * norms[0]


def test_training_keeps_all_estimates_and_evaluation_only_the_last():
    model = CIRIM(cascades=2, channels=8, time_steps=3)
    with torch.no_grad():
        estimates = model.train()(measurement(batch=2))
        (answer,) = model.eval()(measurement(batch=2))
    assert len(estimates) == 6
    assert model.steps_per_cascade == 3
    torch.testing.assert_close(estimates[-1], answer)


def test_slices_of_a_batch_do_not_see_each_other():
    model = CIRIM(cascades=1, channels=8, time_steps=2).eval()
    both = measurement(batch=2)
    first = Measurement(both.kspace[:1], both.mask[:1], both.sensitivities[:1])
    torch.testing.assert_close(model(both)[0][:1], model(first)[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("form", DataConsistency.__args__)
def test_every_form_of_data_consistency_trains_all_its_weights(form):
    model = CIRIM(cascades=2, channels=8, time_steps=2, data_consistency=form)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    estimates = model.train()(measurement())
    sum(estimate.abs().mean() for estimate in estimates).backward()
    unused = [name for name, p in model.named_parameters() if p.grad is None or not torch.isfinite(p.grad).all()]
    assert unused == []
    torch.testing.assert_close(model.eval()(measurement())[0], estimates[-1])


@pytest.mark.parametrize("form", ["hard", "proximal"])
def test_explicit_consistency_brings_the_answer_closer_to_the_data(form):
    m = measurement()
    with torch.no_grad():
        free, tied = (RIM("indrnn", channels=8, time_steps=1, data_consistency=f) for f in ("none", form))
        tied.load_state_dict(free.state_dict(), strict=False)
        misfits = [(SenseOperator(m).forward(model.eval()(m)[0]) - m.kspace).norm() for model in (free, tied)]
    assert misfits[1] < 0.9 * misfits[0]


def test_checkpointing_changes_memory_and_nothing_else():
    plain, saving = CIRIM(1, channels=8, time_steps=3), CIRIM(1, channels=8, time_steps=3, checkpoint_steps=True)
    saving.load_state_dict(plain.state_dict())
    gradients = []
    for model in (plain, saving):
        model.train()(measurement())[-1].abs().mean().backward()
        gradients.append(model.cascades[0].conv2.weight.grad)
    torch.testing.assert_close(*gradients)


def test_unknown_consistency_is_refused_with_the_choices():
    with pytest.raises(ValueError, match="implicit\\+soft"):
        RIM(data_consistency="explicit")
