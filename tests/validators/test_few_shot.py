import math
from collections.abc import Callable

import pytest
import torch

from iimt_search.validators.contract import FewShot, Predictions
from iimt_search.validators.few_shot import score, wilson_interval

Blank = Callable[..., Predictions]


def test_by_hand(blank: Blank) -> None:
    given = FewShot(
        torch.tensor([[2.0, 1.0], [0.0, 1.0], [1.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 1, 1, 1])
    )
    assert score(blank(few_shot=given)) == 0.75


def test_one_class_collapse_is_that_classs_share(blank: Blank) -> None:
    given = FewShot(torch.tensor([[0.0, 1.0, 0.0]]).repeat(4, 1), torch.tensor([1, 0, 2, 1]))
    assert score(blank(few_shot=given)) == 0.5


def test_without_labelled_samples(blank: Blank) -> None:
    with pytest.raises(ValueError, match="few_shot needs labelled target samples"):
        score(blank())


def test_no_samples(blank: Blank) -> None:
    assert math.isnan(score(blank(few_shot=FewShot(torch.zeros(0, 2), torch.zeros(0, dtype=torch.int64)))))


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_not_finite(bad: float, blank: Blank) -> None:
    given = FewShot(torch.tensor([[bad, 0.0], [0.0, 1.0]]), torch.tensor([0, 1]))
    assert math.isnan(score(blank(few_shot=given)))


@pytest.mark.parametrize(
    ("correct", "count", "low", "high"),
    # Tabulated 95 % intervals: n/(n + z²) bounds where all or none are right, z² = 3.8415.
    [(0, 10, 0.0, 0.27753), (10, 10, 0.72247, 1.0), (5, 10, 0.23659, 0.76341), (81, 263, 0.25525, 0.36621)],
)
def test_interval_against_published_values(correct: int, count: int, low: float, high: float) -> None:
    assert wilson_interval(correct, count) == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize("confidence", [0.5, 0.9, 0.99])
def test_ends_are_where_the_accuracy_is_z_errors_away(confidence: float) -> None:
    z = {0.5: 0.6744898, 0.9: 1.6448536, 0.99: 2.5758293}[confidence]
    for end in wilson_interval(13, 20, confidence):
        assert abs(13 / 20 - end) / math.sqrt(end * (1 - end) / 20) == pytest.approx(z, rel=1e-6)


def test_interval_of_no_sample_is_everything() -> None:
    assert wilson_interval(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize("count", [1, 7, 1000])
def test_interval_stays_in_range(count: int) -> None:
    for correct in (0, count // 2, count):
        low, high = wilson_interval(correct, count)
        assert 0 <= low <= correct / count <= high <= 1
