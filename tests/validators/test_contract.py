import math
from collections.abc import Callable
from dataclasses import fields, replace

import pytest
import torch

from iimt_search.validators import clusters, density_ratio
from iimt_search.validators.contract import Mixed, Predictions, score_all


@pytest.fixture
def given(blank: Callable[..., Predictions]) -> Predictions:
    return blank(
        source_logits=torch.eye(2), source_labels=torch.tensor([0, 1]), target_logits=torch.zeros(3, 2)
    )


def test_no_field_can_hold_a_target_label() -> None:
    assert {field.name for field in fields(Predictions)} == {
        "source_logits",
        "source_labels",
        "source_embeddings",
        "target_logits",
        "target_embeddings",
        "classifier_weight",
        "mixed",
        "few_shot",
        "reverse_logits",
        "short_reverse_logits",
        "source_shares",
        "reference",  # what trained models say together
    }
    assert {field.name for field in fields(Mixed)} == {"logits", "labels", "same"}


def test_scores_what_is_named_in_that_order(given: Predictions) -> None:
    scores = score_all(["source_accuracy", "entropy"], given)
    assert list(scores) == ["source_accuracy", "entropy"]
    assert scores["source_accuracy"] == 1.0
    assert scores["entropy"] == pytest.approx(0.6931471805599453)


def test_nothing_named(given: Predictions) -> None:
    assert score_all([], given) == {}


def test_unknown_name(given: Predictions) -> None:
    with pytest.raises(KeyError, match="entrpy"):
        score_all(["entrpy"], given)


SHARED = ("target_probabilities", "target_classes", "target_clusters", "importance_weights")


def test_what_several_need_is_computed_once(
    model: Callable[[float], Predictions], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    for module, name in ((clusters, "kmeans_clusters"), (density_ratio, "importance_weights")):
        compute = getattr(module, name)

        def counted(*given: object, name: str = name, compute: Callable[..., object] = compute) -> object:
            calls.append(name)
            return compute(*given)

        monkeypatch.setattr(module, name, counted)
    score_all(["composite", "class_ami", "class_ss", "iwcv", "dev", "devn"], model(1.0))
    assert sorted(calls) == ["importance_weights", "kmeans_clusters"]


def test_what_is_computed_is_no_part_of_the_predictions(model: Callable[[float], Predictions]) -> None:
    given = model(1.0)
    before = [field.name for field in fields(given)]
    for name in SHARED:
        assert getattr(given, name) is getattr(given, name)
    assert [field.name for field in fields(given)] == before
    changed = replace(given, target_logits=given.target_logits[:, [1, 0, 2, 3]])
    assert torch.equal(changed.target_probabilities, given.target_probabilities[:, [1, 0, 2, 3]])
    assert torch.equal(changed.target_classes, torch.tensor([1, 0, 2, 3])[given.target_classes])


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_probabilities_of_logits_that_are_not_finite(bad: float, blank: Callable[..., Predictions]) -> None:
    found = blank(target_logits=torch.tensor([[0.0, bad], [0.0, 0.0]])).target_probabilities
    assert found.dtype == torch.float64 and bool(found.isnan().all())
