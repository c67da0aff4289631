import numpy as np
import pytest

from iimt_search.validators.canonical_order import canonical_order


def test_by_hand() -> None:
    rows = np.array([[2.0, 0.0], [1.0, 5.0], [1.0, -5.0], [-3.0, 9.0]])
    assert canonical_order(rows).tolist() == [3, 2, 1, 0]


def test_against_sorted_tuples() -> None:
    rows = np.random.default_rng(0).integers(0, 3, (40, 5)).astype(np.float64)
    expected = sorted(range(40), key=lambda i: (*rows[i], i))
    assert canonical_order(rows).tolist() == expected


def test_rows_come_out_alike_however_they_came_in() -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(30, 3))
    shuffled = rows[rng.permutation(30)]
    assert np.array_equal(rows[canonical_order(rows)], shuffled[canonical_order(shuffled)])
    assert np.array_equal(rows[canonical_order(rows, 7)], shuffled[canonical_order(shuffled, 7)])


def test_one_sample_too_many_costs_one() -> None:
    chosen = canonical_order(np.arange(1001.0)[:, None], 1000)
    assert len(set(chosen.tolist())) == 1000
    assert set(np.diff(chosen)) <= {1, 2}


@pytest.mark.parametrize(
    ("count", "most", "places"),
    [(5, 5, [0, 1, 2, 3, 4]), (5, 4, [0, 1, 2, 3]), (7, 3, [0, 2, 4]), (5, 1, [0]), (0, 3, [])],
)
def test_at_most_so_many_evenly_spaced(count: int, most: int, places: list[int]) -> None:
    assert canonical_order(np.arange(count, dtype=np.float64)[:, None], most).tolist() == places


def test_equal_rows_keep_their_order() -> None:
    assert canonical_order(np.ones((4, 2))).tolist() == [0, 1, 2, 3]
