import math

import numpy as np
import pytest
from scipy.stats import spearmanr

from iimt_search.auditing.validators import weighted_spearman


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("count", [2, 3, 10, 57])
def test_without_weights_it_is_spearmans(count: int, ties: bool) -> None:
    rng = np.random.default_rng(count)
    a, b = rng.normal(size=(2, count))
    if ties and count > 3:
        a, b = a.round(), b.round()
    assert weighted_spearman(a, b, power=0) == pytest.approx(spearmanr(a, b).statistic)


def test_by_hand() -> None:
    # Ranks (1, 2, 3) and (1, 3, 2), weights (1, 9, 9) / 19, both means 46/19:
    # covariance 109/19 − (46/19)² = −45/361, both variances 118/19 − (46/19)² = 126/361.
    assert weighted_spearman([0.1, 0.2, 0.3], [10, 30, 20]) == pytest.approx(-45 / 126)
    # With the first power (1, 3, 3) / 7: means 16/7, covariance 37/7 − (16/7)² = 3/49, variances
    # 40/7 − (16/7)² = 24/49.
    assert weighted_spearman([0.1, 0.2, 0.3], [10, 30, 20], power=1) == pytest.approx(3 / 24)
    # Without: 1 − 6 · 2 / (3 · 8).
    assert weighted_spearman([0.1, 0.2, 0.3], [10, 30, 20], power=0) == pytest.approx(0.5)


def test_tied_ranks_by_hand() -> None:
    # Ranks (1.5, 1.5, 3) and (1, 2, 3); four times the weights are (9, 16, 36), which sum to 61.
    total, a, b = 61, 25 * 1.5 + 36 * 3, 9 + 16 * 2 + 36 * 3
    ab, aa, bb = 9 * 1.5 + 16 * 3 + 36 * 9, 25 * 2.25 + 36 * 9, 9 + 16 * 4 + 36 * 9
    expected = (total * ab - a * b) / math.sqrt((total * aa - a * a) * (total * bb - b * b))
    assert weighted_spearman([0.2, 0.2, 0.9], [1, 2, 3]) == pytest.approx(expected)


@pytest.mark.parametrize("power", [0, 1, 2, 5])
def test_perfect_orders(power: float) -> None:
    values = [0.3, 0.1, 0.7, 0.2]
    assert weighted_spearman(values, [v**3 for v in values], power) == pytest.approx(1)
    assert weighted_spearman(values, [-v for v in values], power) == pytest.approx(-1)


def test_confusing_the_bad_with_each_other_costs_less_than_confusing_the_good() -> None:
    accuracies = [10, 20, 30, 40, 50]
    bad = weighted_spearman([2, 1, 3, 4, 5], accuracies)
    good = weighted_spearman([1, 2, 3, 5, 4], accuracies)
    plain = weighted_spearman([2, 1, 3, 4, 5], accuracies, power=0)
    assert good < plain < bad < 1


def test_it_does_not_matter_which_is_which_nor_the_order_of_models() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 20))
    order = rng.permutation(20)
    assert weighted_spearman(a, b) == pytest.approx(weighted_spearman(b, a))
    assert weighted_spearman(a, b) == pytest.approx(weighted_spearman(a[order], b[order]))


@pytest.mark.parametrize("values", [[], [0.5]], ids=["none", "one"])
def test_fewer_than_two(values: list[float]) -> None:
    assert math.isnan(weighted_spearman(values, values))


@pytest.mark.parametrize("power", [0, 2])
def test_a_constant_has_no_order(power: float) -> None:
    found = []
    for count in range(2, 30):
        rising = list(range(count))
        found.append(weighted_spearman([0.5] * count, rising, power))
        found.append(weighted_spearman(rising, [0.5] * count, power))
        found.append(weighted_spearman([0.5] * count, [70.0] * count, power))
    assert all(math.isnan(each) for each in found)
