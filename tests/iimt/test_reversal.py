import pytest
import torch

from iimt_search.iimt.reversal import reverse_gradient


def test_value_is_unchanged() -> None:
    x = torch.tensor([[1.0, -2.0], [0.0, 1e30]])
    assert torch.equal(reverse_gradient(x, 0.3), x)


@pytest.mark.parametrize("strength", [0.0, 0.1, 1.0, 2.5])
def test_gradient_is_times_minus_strength(strength: float) -> None:
    x = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
    reverse_gradient(x, strength).square().sum().backward()
    torch.testing.assert_close(x.grad, -strength * torch.tensor([2.0, 4.0, 6.0]))


def test_only_what_lies_before_is_reversed() -> None:
    encoder, discriminator = torch.tensor(2.0, requires_grad=True), torch.tensor(3.0, requires_grad=True)
    (reverse_gradient(encoder * 5, 0.5) * discriminator).backward()
    assert encoder.grad is not None and discriminator.grad is not None
    assert encoder.grad.item() == -0.5 * 5 * 3
    assert discriminator.grad.item() == 10.0


def test_twice_is_the_product() -> None:
    x = torch.tensor(1.0, requires_grad=True)
    reverse_gradient(reverse_gradient(x, 0.5), 0.25).backward()
    assert x.grad is not None
    assert x.grad.item() == 0.125
