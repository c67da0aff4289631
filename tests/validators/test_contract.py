from collections.abc import Callable
from dataclasses import fields

import pytest
import torch

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
