import math
from dataclasses import replace

import pytest
import torch

from iimt_search.validators.contract import Predictions
from iimt_search.validators.reverse_validation import score

LABELS = torch.tensor([0, 1, 1, 0])
FORWARD_ONLY = Predictions(
    source_logits=torch.nn.functional.one_hot(LABELS, 2).float(),
    source_labels=LABELS,
    source_embeddings=torch.zeros(4, 3),
    target_logits=torch.zeros(5, 2),
    target_embeddings=torch.zeros(5, 3),
)


def given(rows: list[list[float]]) -> Predictions:
    return replace(FORWARD_ONLY, reverse_logits=torch.tensor(rows))


def test_by_hand() -> None:
    # Predicted 0, 1, 0, 0 against 0, 1, 1, 0; the forward model's own perfect source logits do not count.
    assert score(given([[2.0, 1.0], [0.0, 1.0], [1.0, 0.0], [3.0, 0.0]])) == 0.75


def test_one_class_collapse_is_that_classs_share() -> None:
    assert score(given([[0.0, 1.0]] * 4)) == 0.5


def test_order_of_samples_does_not_matter() -> None:
    before = given([[2.0, 1.0], [0.0, 1.0], [1.0, 0.0], [3.0, 0.0]])
    order = torch.tensor([2, 0, 3, 1])
    assert before.reverse_logits is not None
    after = replace(before, reverse_logits=before.reverse_logits[order], source_labels=LABELS[order])
    assert score(after) == score(before)


def test_without_a_reverse_training() -> None:
    with pytest.raises(ValueError, match="reverse_validation needs the logits of a reverse training"):
        score(FORWARD_ONLY)


def test_nan_logits_have_no_score() -> None:
    assert math.isnan(score(given([[math.nan, math.nan]] * 4)))
