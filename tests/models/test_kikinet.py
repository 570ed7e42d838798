from dataclasses import replace

import pytest
import torch

from mrirecon.models.kikinet import KIKINet
from mrirecon.physics.sense import SenseOperator


def small(network="unet", form="soft", **more):
    return KIKINet(2, network, network, channels=4, pools=1, layers=3, data_consistency=form, **more)


def parameters(model):
    return sum(p.numel() for p in model.parameters())


def test_parameter_counts_are_those_of_the_papers_comparison():
    """Its iterations were tied: one U-Net of 116,546 in k-space, one in the image, one step length."""
    assert parameters(KIKINet(tied=True)) == 2 * 116_546 + 1 == 233_093
    assert parameters(KIKINet()) == 2 * 233_093


def test_with_networks_that_do_nothing_it_is_gradient_descent(measurement, gradient_descent):
    model, m = small("cnn"), measurement()
    for iteration in model.iterations:
        torch.nn.init.zeros_(iteration.kspace_network[-1].weight)
        torch.nn.init.zeros_(iteration.image_network[-1].weight)
    torch.testing.assert_close(model.train()(m), gradient_descent(m, 2))


def test_untrained_convolutions_that_are_given_the_gradient_descend(measurement, gradient_descent):
    model, m = small("cnn", "implicit"), measurement()
    for iteration in model.iterations:
        torch.nn.init.zeros_(iteration.kspace_network[-1].weight)
        torch.nn.init.zeros_(iteration.image_network[-1].weight[:, 4:])
    torch.testing.assert_close(model.train()(m), gradient_descent(m, 2), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("network", ["cnn", "unet"])
def test_untrained_it_hardly_changes_the_image(network, measurement):
    m = measurement()
    start = SenseOperator(m).adjoint_data + 1
    (answer,) = small(network, "none").eval()(replace(m, initial_image=start))
    assert (answer - start).norm() < 0.05 * start.norm()


def test_tied_iterations_are_one_and_the_same(measurement):
    tied, free = small("cnn", tied=True), small("cnn")
    for iteration in free.iterations:
        iteration.load_state_dict(tied.iterations[0].state_dict())
    torch.testing.assert_close(tied.eval()(measurement()), free.eval()(measurement()))
    assert 2 * parameters(tied) == parameters(free)
