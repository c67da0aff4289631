import math
from collections.abc import Callable

import pytest
import torch

from iimt_search.validators.contract import Predictions
from iimt_search.validators.reverse_validation_short import score

Blank = Callable[..., Predictions]
LABELS = torch.tensor([0, 1, 1, 0])


def given(blank: Blank, rows: list[list[float]]) -> Predictions:
    perfect = torch.nn.functional.one_hot(LABELS, 2).float()
    return blank(
        source_logits=perfect,
        source_labels=LABELS,
        reverse_logits=perfect,
        short_reverse_logits=torch.tensor(rows),
    )


def test_by_hand(blank: Blank) -> None:
    # Predicted 0, 1, 0, 0 against 0, 1, 1, 0; the perfect logits of the other models do not count.
    assert score(given(blank, [[2.0, 1.0], [0.0, 1.0], [1.0, 0.0], [3.0, 0.0]])) == 0.75


def test_one_class_collapse_is_that_classs_share(blank: Blank) -> None:
    assert score(given(blank, [[0.0, 1.0]] * 4)) == 0.5


def test_without_a_short_reverse_training(blank: Blank) -> None:
    with pytest.raises(ValueError, match="needs the logits of a short reverse training"):
        score(blank(reverse_logits=torch.eye(2)))


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_not_finite(bad: float, blank: Blank) -> None:
    assert math.isnan(score(given(blank, [[bad, 0.0], [0.0, 1.0], [0.0, 1.0], [1.0, 0.0]])))
