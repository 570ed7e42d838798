import torch

from mrirecon.models.cascadenet import CascadeNet
from mrirecon.physics.sense import SenseOperator


def small(form="soft"):
    return CascadeNet(cascades=3, channels=8, layers=3, data_consistency=form)


def test_parameter_count_is_that_of_the_papers_comparison():
    convolutions = 10 * ((2 * 64 * 9 + 64) + 3 * (64 * 64 * 9 + 64) + (64 * 2 * 9 + 2))
    assert convolutions == 1_131_540
    assert sum(p.numel() for p in CascadeNet().parameters()) == convolutions + 10 == 1_131_550


def test_with_networks_that_do_nothing_it_is_gradient_descent(measurement, gradient_descent):
    model, m = small(), measurement()
    for network in model.networks:
        torch.nn.init.zeros_(network[-1].weight)
    torch.testing.assert_close(model.train()(m), gradient_descent(m, 3))


def test_untrained_networks_that_are_given_the_gradient_descend(measurement, gradient_descent):
    model, m = small("implicit"), measurement()
    for network in model.networks:
        torch.nn.init.zeros_(network[-1].weight[:, 4:])
    torch.testing.assert_close(model.train()(m), gradient_descent(m, 3), rtol=1e-4, atol=1e-5)


def test_networks_too_narrow_to_carry_the_gradient_start_near_the_identity(measurement):
    m = measurement()
    with torch.no_grad():
        (answer,) = CascadeNet(channels=2, data_consistency="implicit").eval()(m)
    image = SenseOperator(m).adjoint_data
    assert (answer - image).norm() < 0.2 * image.norm()
