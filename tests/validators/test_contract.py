from dataclasses import fields

import pytest
import torch

from iimt_search.validators.contract import Predictions, score_all

GIVEN = Predictions(
    source_logits=torch.eye(2),
    source_labels=torch.tensor([0, 1]),
    source_embeddings=torch.eye(2),
    target_logits=torch.zeros(3, 2),
    target_embeddings=torch.zeros(3, 2),
)


def test_no_field_can_hold_a_target_label() -> None:
    assert {field.name for field in fields(Predictions)} == {
        "source_logits",
        "source_labels",
        "source_embeddings",
        "target_logits",
        "target_embeddings",
        "reverse_logits",
    }


def test_scores_what_is_named_in_that_order() -> None:
    scores = score_all(["source_accuracy", "entropy"], GIVEN)
    assert list(scores) == ["source_accuracy", "entropy"]
    assert scores["source_accuracy"] == 1.0
    assert scores["entropy"] == pytest.approx(0.6931471805599453)


def test_nothing_named() -> None:
    assert score_all([], GIVEN) == {}


def test_unknown_name() -> None:
    with pytest.raises(KeyError, match="entrpy"):
        score_all(["entrpy"], GIVEN)
