import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from iimt_search.validators.contract import Predictions
from iimt_search.validators.reverse_validation import score

LABELS = torch.tensor([0, 1, 1, 0])
ROWS = [[2.0, 1.0], [0.0, 1.0], [1.0, 0.0], [3.0, 0.0]]


@pytest.fixture
def forward_only(blank: Callable[..., Predictions]) -> Predictions:
    return blank(source_logits=torch.nn.functional.one_hot(LABELS, 2).float(), source_labels=LABELS)


def given(forward_only: Predictions, rows: list[list[float]]) -> Predictions:
    return replace(forward_only, reverse_logits=torch.tensor(rows))


def test_by_hand(forward_only: Predictions) -> None:
    # Predicted 0, 1, 0, 0 against 0, 1, 1, 0; the forward model's own perfect source logits do not count.
    assert score(given(forward_only, ROWS)) == 0.75


def test_one_class_collapse_is_that_classs_share(forward_only: Predictions) -> None:
    assert score(given(forward_only, [[0.0, 1.0]] * 4)) == 0.5


def test_order_of_samples_does_not_matter(forward_only: Predictions) -> None:
    before = given(forward_only, ROWS)
    order = torch.tensor([2, 0, 3, 1])
    assert before.reverse_logits is not None
    after = replace(before, reverse_logits=before.reverse_logits[order], source_labels=LABELS[order])
    assert score(after) == score(before)


def test_without_a_reverse_training(forward_only: Predictions) -> None:
    with pytest.raises(ValueError, match="reverse_validation needs the logits of a reverse training"):
        score(forward_only)


def test_nan_logits_have_no_score(forward_only: Predictions) -> None:
    assert math.isnan(score(given(forward_only, [[math.nan, math.nan]] * 4)))
