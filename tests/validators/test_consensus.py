import math
from collections.abc import Callable

import pytest
import torch

from iimt_search.validators.consensus import expected_agreement, score
from iimt_search.validators.contract import Predictions

LABELS = torch.tensor([[0.8, 0.2], [0.4, 0.6], [1.0, 0.0]])


def test_by_hand() -> None:
    assert expected_agreement(torch.tensor([0, 1, 1]), LABELS) == pytest.approx((0.8 + 0.6 + 0) / 3)
    assert expected_agreement(torch.tensor([0, -1, 0]), LABELS) == pytest.approx((0.8 + 0 + 1) / 3)
    assert math.isnan(expected_agreement(torch.tensor([], dtype=torch.int64), LABELS[:0]))


def test_of_predictions(blank: Callable[..., Predictions]) -> None:
    logits = torch.tensor([[2.0, 0.0], [0.0, 2.0], [0.0, 2.0]])
    assert score(blank(target_logits=logits, reference=LABELS)) == pytest.approx(1.4 / 3)
    bad = logits.clone()
    bad[0, 0] = math.nan
    assert math.isnan(score(blank(target_logits=bad, reference=LABELS)))
    with pytest.raises(ValueError, match="needs the reference that a study makes of its first trials"):
        score(blank(target_logits=logits))
