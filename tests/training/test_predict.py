import numpy as np
import pytest

from iimt_search.training.predict import MOST_PAIRS, mixed_pairs


def labels(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int64)


def drawn(count: int, classes: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(classes, size=count)


@pytest.mark.parametrize("classes", [2, 5, 40])
@pytest.mark.parametrize("count", [2, 7, 60, 512, 513, 3000])
def test_pairs_are_what_they_are_said_to_be(count: int, classes: int) -> None:
    predicted = drawn(count, classes)
    first, second, same = mixed_pairs(predicted)
    assert len(first) == len(second) == len(same)
    assert (first.dtype, second.dtype, same.dtype) == (np.int64, np.int64, np.bool_)
    for part in (first, second):
        assert ((part >= 0) & (part < count)).all()
    assert (first != second).all()
    assert np.array_equal(predicted[first] == predicted[second], same)
    for sort in (True, False):
        assert (same == sort).sum() <= MOST_PAIRS
        assert len(np.unique(first[same == sort])) == (same == sort).sum()


def test_most_pairs_of_each_sort_from_evenly_spaced_samples() -> None:
    first, _, same = mixed_pairs(drawn(1023, 3))
    assert MOST_PAIRS == 512
    for sort in (True, False):
        assert first[same == sort].tolist() == list(range(0, 1023, 2))


def test_by_hand() -> None:
    first, second, same = mixed_pairs(labels(4, 1, 4))
    pairs = list(zip(first.tolist(), second.tolist(), same.tolist(), strict=True))
    assert sorted(pair for pair in pairs if pair[2]) == [(0, 2, True), (2, 0, True)]
    assert {pair[:2] for pair in pairs if not pair[2]} in ({(0, 1), (1, 0), (2, 1)}, {(0, 1), (1, 2), (2, 1)})


def test_every_sample_that_has_a_partner_has_a_pair() -> None:
    predicted = labels(0, 0, 1, 2, 2, 2, 3)  # 1 and 3 are alone in their classes
    first, _, same = mixed_pairs(predicted)
    assert sorted(first[same]) == [0, 1, 3, 4, 5]
    assert sorted(first[~same]) == list(range(7))


def test_classes_of_one_sample_have_no_pair_of_the_same() -> None:
    _, _, same = mixed_pairs(labels(3, 0, 2, 1))
    assert same.tolist() == [False] * 4


def test_one_class_only_has_no_pair_of_different_ones() -> None:
    first, second, same = mixed_pairs(np.full(300, 7))
    assert same.all() and first.tolist() == list(range(300))
    assert len(np.unique(second)) > 100  # drawn, not always the same partner


@pytest.mark.parametrize("predicted", [labels(), labels(0)], ids=["no sample", "one sample"])
def test_too_few_samples_for_a_pair(predicted: np.ndarray) -> None:
    first, second, same = mixed_pairs(predicted)
    assert len(first) == len(second) == len(same) == 0
    assert (first.dtype, second.dtype, same.dtype) == (np.int64, np.int64, np.bool_)


def test_equal_predictions_have_equal_pairs_whatever_was_drawn_before() -> None:
    predicted = drawn(800, 6)
    before = predicted.copy()
    once = mixed_pairs(predicted)
    np.random.random(5)
    for left, right in zip(once, mixed_pairs(predicted.copy()), strict=True):
        assert np.array_equal(left, right)
    assert np.array_equal(predicted, before)
