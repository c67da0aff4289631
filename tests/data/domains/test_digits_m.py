from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from iimt_search.data.domains import digits
from iimt_search.data.task import Labelled


def test_shapes_types_and_counts() -> None:
    domain, plain = digits.build_m(8), digits.build(8)
    for part in ("train", "test"):
        blended, grey = getattr(domain, part), getattr(plain, part)
        assert blended.x.shape == grey.x.shape
        assert blended.x.dtype == np.uint8
        assert np.array_equal(blended.y, grey.y)
    assert domain.classes == plain.classes
    assert domain.augmentation == plain.augmentation


def test_the_same_every_time() -> None:
    first, second = digits.build_m(8), digits.build_m(8)
    assert np.array_equal(first.train.x, second.train.x)
    assert np.array_equal(first.test.x, second.test.x)


def test_looks_like_a_photograph() -> None:
    x = digits.build_m(8).train.x.astype(np.int16)
    assert np.abs(x[:, 0] - x[:, 2]).mean() > 5  # coloured
    assert len({image.tobytes() for image in x}) == len(x)


def carry_the_digit(grey: np.ndarray[Any, Any], *_: object) -> np.ndarray[Any, Any]:
    return np.repeat(grey[:, None], 3, axis=1)


def test_no_test_digit_is_in_any_training_part(monkeypatch: pytest.MonkeyPatch) -> None:
    unblended: Callable[..., Any] = carry_the_digit
    monkeypatch.setattr(digits, "blend", unblended)
    domains = [digits.build(8), digits.build_m(8)]

    def images(part: Labelled) -> set[bytes]:
        return {image.tobytes() for image in part.x}

    train = images(domains[0].train) | images(domains[1].train)
    test = images(domains[0].test) | images(domains[1].test)
    assert len(train) == 1347 and len(test) == 450
    assert not train & test
