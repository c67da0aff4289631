import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from iimt_search.iimt.losses import (
    Step,
    adversarial,
    consistency,
    inter_domain,
    probability_error,
    soft_cross_entropy,
)

LabelLoss = Callable[[Tensor, Tensor], Tensor]
UNIFORM = torch.zeros(1, 2)  # logits of (0.5, 0.5)


def step(
    embeddings: dict[str, Tensor], labels: dict[str, Tensor] | None = None, between: Tensor | None = None
) -> Step:
    """A step whose embeddings are the logits, too."""
    coefficients = torch.ones(len(next(iter(embeddings.values())))) if between is None else between
    return Step(embeddings, labels or {}, coefficients, lambda z: z, lambda z: z)


def inter_domain_of(labels_st: Tensor, logits_st: Tensor, labels_ts: Tensor, logits_ts: Tensor) -> Tensor:
    return inter_domain(step({"st": logits_st, "ts": logits_ts}, {"st": labels_st, "ts": labels_ts}))


def consistency_of(mixed_embeddings: Tensor, embeddings_of_mixed: Tensor) -> Tensor:
    nothing = torch.full_like(mixed_embeddings, math.pi)  # λ' = 1: the source's alone
    return consistency(step({"s": mixed_embeddings, "t": nothing, "st": embeddings_of_mixed}))


def adversarial_of(source_logits: Tensor, target_logits: Tensor) -> Tensor:
    return adversarial(step({"s": source_logits, "t": target_logits}))


def softmax(row: list[float]) -> list[float]:
    exponentials = [math.exp(value) for value in row]
    return [value / sum(exponentials) for value in exponentials]


def naive_soft_cross_entropy(labels: Tensor, logits: Tensor) -> float:
    total = 0.0
    for q, row in zip(labels.tolist(), logits.tolist(), strict=True):
        total -= sum(a * math.log(b) for a, b in zip(q, softmax(row), strict=True))
    return total / len(labels)


def naive_probability_error(labels: Tensor, logits: Tensor) -> float:
    total = 0.0
    for q, row in zip(labels.tolist(), logits.tolist(), strict=True):
        total += sum((a - b) ** 2 for a, b in zip(q, softmax(row), strict=True))
    return total / len(labels)


def draw(batch: int = 7, classes: int = 5, seed: int = 0) -> tuple[Tensor, Tensor]:
    rng = np.random.default_rng(seed)
    labels = torch.from_numpy(rng.dirichlet(np.ones(classes), size=batch))
    return labels, torch.from_numpy(rng.normal(0, 3, (batch, classes)))


def test_soft_cross_entropy_by_hand() -> None:
    # softmax(ln 3, 0) = (3/4, 1/4); H = −(0.5 ln 0.75 + 0.5 ln 0.25); the second row is one-hot and even.
    logits = torch.tensor([[math.log(3), 0.0], [0.0, 0.0]])
    labels = torch.tensor([[0.5, 0.5], [1.0, 0.0]])
    expected = (-0.5 * math.log(0.75) - 0.5 * math.log(0.25) + math.log(2)) / 2
    assert soft_cross_entropy(labels, logits).item() == pytest.approx(expected, rel=1e-6)


def test_soft_cross_entropy_against_loop() -> None:
    labels, logits = draw()
    assert soft_cross_entropy(labels, logits).item() == pytest.approx(
        naive_soft_cross_entropy(labels, logits), rel=1e-12
    )


def test_soft_cross_entropy_on_one_hot_is_torchs() -> None:
    _, logits = draw()
    index = torch.tensor([0, 1, 2, 3, 4, 0, 1])
    one_hot = torch.nn.functional.one_hot(index, 5).double()
    torch.testing.assert_close(
        soft_cross_entropy(one_hot, logits), torch.nn.functional.cross_entropy(logits, index)
    )


def test_soft_cross_entropy_of_a_sure_and_wrong_model_is_finite() -> None:
    loss = soft_cross_entropy(torch.tensor([[0.0, 1.0]]), torch.tensor([[1000.0, 0.0]]))
    assert loss.item() == pytest.approx(1000.0)


def test_soft_cross_entropy_is_least_at_its_label() -> None:
    labels, _ = draw()
    logits = labels.log().requires_grad_()
    loss = soft_cross_entropy(labels, logits)
    loss.backward()
    assert logits.grad is not None
    torch.testing.assert_close(logits.grad, torch.zeros_like(logits), atol=1e-12, rtol=0)
    assert loss.item() == pytest.approx(float(-(labels * labels.log()).sum(dim=1).mean()), rel=1e-12)


def test_probability_error_by_hand() -> None:
    # (1, 0) against (0.5, 0.5): 0.25 + 0.25; (0.75, 0.25) against the same: 0.0625 + 0.0625.
    labels = torch.tensor([[1.0, 0.0], [0.75, 0.25]])
    assert probability_error(labels, UNIFORM.expand(2, 2)).item() == pytest.approx(0.3125)


def test_probability_error_against_loop() -> None:
    labels, logits = draw()
    assert probability_error(labels, logits).item() == pytest.approx(
        naive_probability_error(labels, logits), rel=1e-12
    )


def test_probability_error_ends() -> None:
    sure = torch.tensor([[1000.0, 0.0]])
    assert probability_error(torch.tensor([[1.0, 0.0]]), sure).item() == 0.0
    assert probability_error(torch.tensor([[0.0, 1.0]]), sure).item() == pytest.approx(2.0)


@pytest.mark.parametrize("loss", [soft_cross_entropy, probability_error])
def test_label_losses_ignore_order_and_logit_offset(loss: LabelLoss) -> None:
    labels, logits = draw()
    order = torch.tensor([3, 0, 6, 1, 5, 2, 4])
    expected = loss(labels, logits)
    torch.testing.assert_close(loss(labels[order], logits[order]), expected)
    torch.testing.assert_close(loss(labels, logits + 17.0), expected)


@pytest.mark.parametrize("loss", [soft_cross_entropy, probability_error])
def test_label_losses_are_means(loss: LabelLoss) -> None:
    labels, logits = draw()
    torch.testing.assert_close(loss(labels.repeat(3, 1), logits.repeat(3, 1)), loss(labels, logits))


@pytest.mark.parametrize("loss", [soft_cross_entropy, probability_error])
def test_label_losses_pass_nan_on(loss: LabelLoss) -> None:
    assert loss(torch.tensor([[1.0, 0.0]]), torch.tensor([[math.nan, 0.0]])).isnan()


def test_inter_domain_takes_cross_entropy_for_source_and_error_for_target() -> None:
    one_hot = torch.tensor([[1.0, 0.0]])
    perfect = torch.tensor([[1000.0, 0.0]])
    assert inter_domain_of(one_hot, UNIFORM, one_hot, perfect).item() == pytest.approx(math.log(2))
    assert inter_domain_of(one_hot, perfect, one_hot, UNIFORM).item() == pytest.approx(0.5)


def test_inter_domain_against_loop() -> None:
    labels_st, logits_st = draw(seed=1)
    labels_ts, logits_ts = draw(seed=2)
    expected = naive_soft_cross_entropy(labels_st, logits_st) + naive_probability_error(labels_ts, logits_ts)
    actual = inter_domain_of(labels_st, logits_st, labels_ts, logits_ts)
    assert actual.item() == pytest.approx(expected, rel=1e-12)


def test_consistency_by_hand() -> None:
    # Differences (1, 2) and (0, −3): (1 + 4 + 0 + 9) / (B·D = 4).
    z = torch.tensor([[2.0, 4.0], [1.0, 0.0]])
    assert consistency_of(z, torch.tensor([[1.0, 2.0], [1.0, 3.0]])).item() == 3.5
    assert consistency_of(z, z).item() == 0.0


def test_consistency_mixes_the_embeddings_as_the_samples_are_mixed() -> None:
    # z = 0.75 · 4 + 0.25 · 0 = 3 against 1; 0.5 · 2 + 0.5 · 6 = 4 against 4.
    z = {
        "s": torch.tensor([[4.0], [2.0]]),
        "t": torch.tensor([[0.0], [6.0]]),
        "st": torch.tensor([[1.0], [4.0]]),
    }
    assert consistency(step(z, between=torch.tensor([0.75, 0.5]))).item() == 2.0


def test_consistency_does_not_grow_with_the_dimension() -> None:
    one = consistency_of(torch.zeros(3, 1), torch.full((3, 1), 2.0))
    many = consistency_of(torch.zeros(3, 128), torch.full((3, 128), 2.0))
    assert one.item() == many.item() == 4.0


def test_consistency_against_loop() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 4, 6))
    expected = sum((a[i, d] - b[i, d]) ** 2 for i in range(4) for d in range(6)) / (4 * 6)
    actual = consistency_of(torch.from_numpy(a), torch.from_numpy(b))
    assert actual.item() == pytest.approx(expected, rel=1e-12)


def test_domain_adversarial_by_hand() -> None:
    # D(source) = 3/4 and D(target) = 1/4: −ln 0.75 − ln 0.75.
    source, target = torch.tensor([math.log(3)]), torch.tensor([-math.log(3)])
    assert adversarial_of(source, target).item() == pytest.approx(-2 * math.log(0.75), rel=1e-6)
    assert adversarial_of(torch.zeros(5), torch.zeros(5)).item() == pytest.approx(2 * math.log(2))


def test_domain_adversarial_against_loop() -> None:
    rng = np.random.default_rng(0)
    source, target = rng.normal(0, 2, (2, 6))
    total = 0.0
    for s, t in zip(source, target, strict=True):
        total += math.log(1 / (1 + math.exp(-s))) + math.log(1 - 1 / (1 + math.exp(-t)))
    actual = adversarial_of(torch.from_numpy(source), torch.from_numpy(target))
    assert actual.item() == pytest.approx(-total / 6, rel=1e-12)


def test_domain_adversarial_falls_as_the_domains_part() -> None:
    source, target = torch.zeros(3, requires_grad=True), torch.zeros(3, requires_grad=True)
    adversarial_of(source, target).backward()
    # d/ds −ln σ(s) at 0 is −1/2, for each of 3 samples; the target's is the opposite.
    torch.testing.assert_close(source.grad, torch.full((3,), -0.5 / 3))
    torch.testing.assert_close(target.grad, torch.full((3,), 0.5 / 3))


def test_domain_adversarial_is_finite_where_the_sigmoid_is_flat() -> None:
    far = torch.tensor([1000.0])
    assert adversarial_of(-far, far).item() == pytest.approx(2000.0)
    assert adversarial_of(far, -far).item() == 0.0
