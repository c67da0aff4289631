import math

import pytest
import torch
from torch import Tensor

from iimt_search.pooling.agreement import agreement_weights, kappas
from iimt_search.pooling.labels import BELIEF, LESS_BELIEF, Pool, PooledModel, effective_classes

CLASSES = 3


def clusters(counts: tuple[int, ...], seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return embeddings of as many samples of each class, in clusters apart, and their classes."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.repeat_interleave(torch.arange(CLASSES), torch.tensor(counts))
    centres = 4 * torch.eye(CLASSES, 8)
    return centres[y] + torch.randn(len(y), 8, generator=generator), y


def model(embeddings: Tensor, y: Tensor, accuracy: float, seed: int) -> PooledModel:
    """Return a model that is right so often, and wrong anywhere."""
    generator = torch.Generator().manual_seed(seed)
    wrong = torch.rand(len(y), generator=generator) > accuracy
    other = torch.randint(CLASSES, (len(y),), generator=generator)
    predicted = torch.where(wrong, other, y)
    return PooledModel(2.0 * torch.eye(CLASSES)[predicted], embeddings)


def accuracy(labels: Tensor, y: Tensor) -> float:
    return float((labels.argmax(dim=-1) == y).double().mean())


def test_kappa_is_symmetric_and_by_hand() -> None:
    a, b = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 1, 1])
    found = kappas([a, b], 2)
    assert found[0, 1] == found[1, 0] == pytest.approx(0.5)
    assert found.diagonal().tolist() == [0, 0]


def test_collapsed_models_have_no_weight_even_where_they_are_most() -> None:
    _, y = clusters((20, 20, 20))
    collapsed = torch.zeros(60, dtype=torch.int64)
    weights = agreement_weights(kappas([y, y.clone(), collapsed, collapsed, collapsed, collapsed], CLASSES))
    assert weights.tolist() == pytest.approx([0.5, 0.5, 0, 0, 0, 0])


def test_weights_are_even_where_no_two_agree() -> None:
    collapsed = torch.zeros(9, dtype=torch.int64)
    assert agreement_weights(kappas([collapsed, collapsed], CLASSES)).tolist() == [0.5, 0.5]
    assert agreement_weights(kappas([collapsed], CLASSES)).tolist() == [1.0]


@pytest.mark.parametrize("counts", [(60, 60, 60), (120, 50, 6), (90, 90, 0), (120, 0, 0)])
def test_labels_are_better_than_the_mean_whatever_the_classes_shares(counts: tuple[int, int, int]) -> None:
    embeddings, y = clusters(counts)
    models = [model(embeddings, y, 0.6, seed) for seed in range(4)]
    pool = Pool(models)
    mean = pool.mean_of(each.probabilities for each in models)
    labels = pool.labels()
    assert labels.sum(dim=1).allclose(torch.ones(len(y), dtype=torch.float64))
    assert accuracy(labels, y) > max(accuracy(each.logits, y) for each in models)
    assert accuracy(labels, y) >= accuracy(mean, y)
    assert accuracy(labels, y) > 0.93
    shares, spread = pool.shares()
    assert (shares - y.bincount(minlength=CLASSES) / len(y)).abs().max() < 0.2
    assert bool((spread >= 0).all())


def test_places_are_believed_less_where_classes_are_rare(monkeypatch: pytest.MonkeyPatch) -> None:
    embeddings, y = clusters((100, 50, 30))
    models = [model(embeddings, y, 0.6, seed) for seed in range(4)]
    monkeypatch.setattr(
        Pool, "_agreement", lambda self, models, labels: -float(labels.max(dim=1).values.mean())
    )
    pool = Pool(models)  # the softer labels are nearer here
    assert pool.belief == LESS_BELIEF
    assert pool.labels_of(models, []).allclose(pool.labels())  # by the same belief
    monkeypatch.setattr(
        Pool, "_agreement", lambda self, models, labels: float(labels.max(dim=1).values.mean())
    )
    assert Pool(models).belief == BELIEF
    assert (Pool(models).labels() - pool.labels()).abs().max() > 0.01


def test_places_are_believed_where_classes_are_alike() -> None:
    embeddings, y = clusters((60, 50, 45))
    assert Pool([model(embeddings, y, 0.9, seed) for seed in range(3)]).belief == BELIEF
    assert effective_classes(torch.eye(4)[[0, 1, 2, 3, 3]]) == pytest.approx(3.79, abs=0.01)


def test_other_samples_are_labelled_by_the_same_mixtures() -> None:
    embeddings, y = clusters((60, 60, 60))
    models = [model(embeddings, y, 0.6, seed) for seed in range(3)]
    pool = Pool(models)
    half = torch.arange(0, len(y), 2)
    part = [PooledModel(each.logits[half], each.embeddings[half]) for each in models]
    assert pool.labels_of(part, []).allclose(pool.labels()[half])


@pytest.mark.parametrize(
    "embeddings",
    [torch.zeros(12, 4), torch.ones(12, 4), torch.tensor([1.0, -1.0]).repeat(6)[:, None]],
    ids=["dead", "one point", "thin"],
)
def test_embeddings_that_tell_nothing_leave_the_mean(embeddings: Tensor) -> None:
    y = torch.arange(3).repeat(4)
    pool = Pool([PooledModel(2.0 * torch.eye(3)[y], embeddings), PooledModel(torch.eye(3)[y], embeddings)])
    labels = pool.labels()
    assert bool(labels.isfinite().all()) and accuracy(labels, y) == 1


def test_the_order_of_samples_and_models_does_not_matter() -> None:
    embeddings, y = clusters((30, 20, 10))
    models = [model(embeddings, y, 0.7, seed) for seed in range(3)]
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(3))
    turned = [PooledModel(each.logits[order], each.embeddings[order]) for each in reversed(models)]
    assert Pool(turned).labels().allclose(Pool(models).labels()[order], atol=1e-6)
    assert math.isclose(float(Pool(models).weights.sum()), 1)


def test_without_embeddings_the_labels_are_the_mean() -> None:
    embeddings, y = clusters((30, 30, 30))
    models = [model(embeddings, y, 0.6, seed) for seed in range(3)]
    bare = [PooledModel(each.logits, torch.zeros(0, 0)) for each in models]
    pool = Pool(bare)
    assert torch.allclose(pool.labels(), pool.mean_of(each.probabilities for each in bare))
    half = Pool([models[0], *bare[1:]]).labels()
    assert torch.allclose(half.sum(dim=1), torch.ones(90, dtype=torch.float64))


def test_models_without_adaptation_name_the_groups_that_adapted_ones_show() -> None:
    embeddings, y = clusters((60, 60, 60))
    # Each adapted model takes another two classes for each other, most of them 1 and 2.
    orders = [(0, 2, 1), (0, 2, 1), (0, 2, 1), (1, 0, 2), (2, 1, 0)]
    adapted = [model(embeddings, torch.tensor(order)[y], 0.95, seed) for seed, order in enumerate(orders)]
    blurred = torch.randn(180, 8, generator=torch.Generator().manual_seed(1))
    without = [model(blurred, y, 0.8, seed) for seed in (10, 11, 12)]
    assert accuracy(Pool(adapted).labels(), y) < 0.4
    assert accuracy(Pool(adapted, without).labels(), y) > 0.95 > max(accuracy(w.logits, y) for w in without)


def test_models_without_adaptation_count_by_their_agreement() -> None:
    embeddings, y = clusters((60, 60, 60))
    adapted = [model(embeddings, y, 0.8, seed) for seed in range(4)]
    sound = [model(embeddings, y, 0.8, seed) for seed in (10, 11, 12)]
    noise = [model(embeddings, y, 1 / 3, seed) for seed in (10, 11, 12)]
    assert Pool(adapted).anchor == 0
    share = 0.3 / 1.3
    assert Pool(adapted, sound[:1]).anchor == Pool(adapted[:1], sound[:1]).anchor == pytest.approx(share)
    assert Pool(adapted, sound).anchor == pytest.approx(share, abs=0.1)
    assert Pool([model(embeddings, y, 0.6, seed) for seed in range(4)], sound).anchor > 0.8
    assert Pool(adapted, noise).anchor < 0.01
    assert accuracy(Pool(adapted, noise).labels(), y) > 0.95


def test_models_without_adaptation_that_collapse_are_not_followed() -> None:
    embeddings, y = clusters((60, 60, 60))
    adapted = [model(embeddings, y, 0.7, seed) for seed in range(4)]
    two = [model(embeddings, y * (y == 2), 0.95, seed) for seed in (10, 11, 12)]  # class 1 is taken for 0
    one = [model(embeddings, 0 * y, 0.97, seed) for seed in (10, 11, 12)]
    for without in (two, one):
        pool = Pool(adapted, without)
        assert pool.anchor < 1e-4 and accuracy(pool.labels(), y) > 0.95
        assert pool.labels_of(adapted, without).allclose(pool.labels())


def test_a_source_is_drawn_as_the_target_is_where_models_agree_and_evenly_where_they_do_not() -> None:
    embeddings, y = clusters((90, 30, 0))
    own, even = y.bincount(minlength=CLASSES) / len(y), 1 / CLASSES
    alike = Pool([model(embeddings, y, 1.0, seed) for seed in range(3)])
    assert alike.kappa == pytest.approx(1) and (alike.source_shares() - own).abs().max() < 0.02
    nearly = Pool([model(embeddings, y, 0.85, seed) for seed in range(3)])
    trust = nearly.kappa**2
    assert 0.1 < trust < 0.8
    assert nearly.source_shares().allclose(trust * nearly.labels().mean(dim=0) + (1 - trust) * even)
    for counts in ((44, 40, 36), (64, 30, 26)):
        level, of_level = clusters(counts)
        nearly_even = Pool([model(level, of_level, 1.0, seed) for seed in range(3)])
        assert nearly_even.source_shares().tolist() == [pytest.approx(even)] * CLASSES
    for few in ([model(embeddings, y, 1.0, 0)], [model(embeddings, y, 0.0, seed) for seed in range(3)]):
        assert (Pool(few).source_shares() - even).abs().max() < 0.07
    for pool in (alike, nearly):
        assert float(pool.source_shares().sum()) == pytest.approx(1)
