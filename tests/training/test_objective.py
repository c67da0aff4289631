"""The terms of a whole step against a plain recomputation from the same sampled."""

import math

import numpy as np
import pytest
import torch

from iimt_search.iimt.virtual_labels import sharpen
from iimt_search.methods import TERMS, active_terms, needs_virtual_labels
from iimt_search.models.network import Architecture, Discriminator, Model
from iimt_search.settings import TrainSettings
from iimt_search.training.batches import sample_step
from iimt_search.training.objective import (
    Batch,
    loss_terms,
    predict_augmented,
    reversal_strength,
    term_weights,
)

SETTINGS = TrainSettings(
    batch_size=6, image_size=8, width=4, augmentation=0.0, k=2, temperature=0.4, alpha=0.7
)


def computed(
    model: Model, discriminator: Discriminator, batch: Batch, settings: TrainSettings = SETTINGS
) -> dict[str, torch.Tensor]:
    """Compute a step's terms half-way; without augmentation, the target's samples are given K times."""
    predicted = predict_augmented(model, batch.target.repeat(settings.k, 1, 1, 1), settings.k)
    q_t = sharpen(predicted, settings.temperature)
    return loss_terms(model, discriminator, batch, q_t, reversal_strength(settings, 0.5), settings)


@pytest.fixture
def parts() -> tuple[Model, Discriminator, Batch]:
    torch.manual_seed(0)
    model = Model(Architecture("small", "image", (3, 8, 8), 5, 4, 0.0)).double()
    discriminator = Discriminator(model.embedding_dim, 7).double()
    labels = torch.eye(5)[torch.tensor([0, 1, 2, 3, 4, 0])].double()
    x_s, x_t = torch.rand(2, 6, 3, 8, 8).double()
    sampled = sample_step(SETTINGS, 100, 100, np.random.default_rng(5))
    batch = Batch(x_s, labels, x_t, sampled.coefficients, sampled.orders)
    return model, discriminator, batch


def naive_terms(model: Model, discriminator: Discriminator, batch: Batch) -> dict[str, float]:
    """Every term by its formula, sample by sample; BatchNorm in one pass over all six groups."""
    rng = np.random.default_rng(5)
    size = len(batch.source)
    rng.integers(100, size=size)  # which source samples
    rng.integers(100, size=size)  # which target samples

    def lambdas() -> torch.Tensor:
        drawn = rng.beta(SETTINGS.alpha, SETTINGS.alpha, size=size)
        return torch.tensor(np.maximum(drawn, 1 - drawn).astype(np.float32)).double()

    def blend(a: torch.Tensor, b: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return torch.stack([w * x + (1 - w) * y for w, x, y in zip(weight, a, b, strict=True)])

    model.requires_grad_(False)
    discriminator.requires_grad_(False)
    xs, xt, ys = batch.source, batch.target, batch.labels
    # Without augmentation the K predictions are alike, and their batch statistics are the target's own.
    mean = torch.softmax(model.classify(model.embed(torch.cat([xt, xt])))[:size], 1)
    power = mean ** (1 / SETTINGS.temperature)
    q = (power / power.sum(1, keepdim=True)).detach()
    between = lambdas()
    l_ss, order_s = lambdas(), torch.from_numpy(rng.permutation(size))
    l_tt, order_t = lambdas(), torch.from_numpy(rng.permutation(size))
    groups = [
        xs,
        xt,
        blend(xs, xt, between),
        blend(xt, xs, between),
        blend(xs, xs[order_s], l_ss),
        blend(xt, xt[order_t], l_tt),
    ]
    z = model.embed(torch.cat(groups)).split(size)
    p = [torch.softmax(model.classify(part), 1) for part in z]

    def cross_entropy(label: torch.Tensor, predicted: torch.Tensor) -> float:
        return (
            -sum(float(a * math.log(b)) for a, b in zip(label.flatten(), predicted.flatten(), strict=True))
            / size
        )

    def squared(label: torch.Tensor, predicted: torch.Tensor) -> float:
        return float(((label - predicted) ** 2).sum()) / size

    d_s, d_t = (torch.sigmoid(discriminator(part)) for part in z[:2])
    z_mixed = blend(z[0], z[1], between)
    return {
        "inter_domain": cross_entropy(blend(ys, q, between), p[2]) + squared(blend(q, ys, between), p[3]),
        "adversarial": -float(d_s.log().mean() + (1 - d_t).log().mean()),
        "consistency": float(((z_mixed - z[2]) ** 2).sum()) / size / model.embedding_dim,
        "intra_source": cross_entropy(blend(ys, ys[order_s], l_ss), p[4]),
        "intra_target": squared(blend(q, q[order_t], l_tt), p[5]),
    }


def test_step_matches_the_formulas(parts: tuple[Model, Discriminator, Batch]) -> None:
    model, discriminator, batch = parts
    model.train()
    terms = computed(model, discriminator, batch)
    expected = naive_terms(model, discriminator, batch)
    assert set(terms) == set(expected)
    for name, value in expected.items():
        assert float(terms[name].detach()) == pytest.approx(value, rel=1e-6), name


def test_separate_batch_norm_passes_differ_from_a_joint_one(
    parts: tuple[Model, Discriminator, Batch],
) -> None:
    model, discriminator, batch = parts
    apart = SETTINGS.model_copy(update={"joint_batch_norm": False})
    values = [
        computed(model, discriminator, batch, settings)["inter_domain"].item()
        for settings in (SETTINGS, apart)
    ]
    assert values[0] != pytest.approx(values[1], rel=1e-4)


def test_virtual_labels_pass_no_gradient_and_leave_running_statistics(
    parts: tuple[Model, Discriminator, Batch],
) -> None:
    model, _, batch = parts
    model.train()
    before = {name: value.clone() for name, value in model.named_buffers() if "running" in name}
    q = predict_augmented(model, batch.target.repeat(2, 1, 1, 1), 2)
    torch.testing.assert_close(q.sum(dim=1), torch.ones(6).double())
    assert not q.requires_grad
    assert before and all(
        torch.equal(value, dict(model.named_buffers())[name]) for name, value in before.items()
    )


def test_weights_follow_their_schedules() -> None:
    settings = TrainSettings(lambda_max=8.0, w_z=2.0, w_q=3.0)
    start, middle, end = (term_weights(settings, p) for p in (0.0, 0.25, 1.0))
    assert (start["intra_target"], middle["intra_target"], end["intra_target"]) == (0.0, 2.0, 8.0)
    assert start["consistency"] == 0.0
    assert end["consistency"] == pytest.approx(2 * (2 / (1 + math.exp(-10)) - 1))
    assert start["inter_domain"] == end["inter_domain"] == 3.0
    constant = term_weights(settings.model_copy(update={"ramp": False}), 0.0)
    assert constant["consistency"] == 2.0


def test_active_terms_are_those_with_a_weight() -> None:
    assert active_terms(TrainSettings()) == set(TERMS) - {"source"}
    assert active_terms(TrainSettings(lambda_max=0.0, w_d=0.0)) == {
        "inter_domain",
        "consistency",
        "intra_source",
    }


def test_source_only_needs_no_virtual_labels() -> None:
    source_only = TrainSettings(lambda_max=0.0, w_q=0.0, w_d=0.0, w_z=0.0, w_s=0.0, w_source=1.0)
    assert not needs_virtual_labels(source_only)
    assert needs_virtual_labels(TrainSettings(w_q=0.0)) and needs_virtual_labels(TrainSettings(lambda_max=0))


def test_reversal_ramps_up_or_is_constant() -> None:
    settings = TrainSettings(reversal=0.4)
    assert reversal_strength(settings, 0.0) == 0.0
    assert reversal_strength(settings, 1.0) == pytest.approx(0.4, rel=1e-4)
    assert reversal_strength(settings.model_copy(update={"ramp": False}), 0.0) == 0.4
