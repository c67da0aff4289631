from typing import Any

import pytest

from iimt_search.space import Space
from iimt_search.study.selection.caveats import at_bounds, caveats


def space(search: dict[str, Any], objective: str = "composite") -> Space:
    content = {"schema": 1, "study": "s", "tasks": ["a->b"], "search": search, "objective": objective}
    return Space.model_validate(content)


def side(search: dict[str, Any], name: str, value: float) -> str:
    found = at_bounds(space(search), {name: value})
    assert len(found) <= 1 and all(text.startswith(f"{name} = ") for text in found)
    return "" if not found else "lower" if "at the lower bound" in found[0] else "upper"


@pytest.mark.parametrize(
    ("value", "where"),
    [
        (0.1, "lower"),
        (0.117, "lower"),
        (0.119, ""),
        (0.5, ""),
        (0.981, ""),
        (0.983, "upper"),
        (1.0, "upper"),
    ],
)
def test_a_fiftieth_of_an_even_range_counts_as_its_bound(value: float, where: str) -> None:
    assert side({"temperature": {"low": 0.1, "high": 1.0}}, "temperature", value) == where


@pytest.mark.parametrize(
    ("value", "where"),
    # 0.02 of four powers of ten: a factor of 10 ** 0.08 = 1.202.
    [(0.01, "lower"), (0.01201, "lower"), (0.0121, ""), (1.0, ""), (83.0, ""), (83.3, "upper")],
)
def test_on_a_logarithmic_range_it_is_a_factor(value: float, where: str) -> None:
    assert side({"lambda_max": {"low": 0.01, "high": 100, "log": True}}, "lambda_max", value) == where


def test_what_a_flag_says() -> None:
    search = {"lambda_max": {"low": 0.01, "high": 100, "log": True}}
    assert at_bounds(space(search), {"lambda_max": 98.76543}) == [
        "lambda_max = 98.77 is at the upper bound of its range (100): what is best may lie beyond; "
        "widen the range"
    ]


def test_the_settings_own_limits_are_no_flag() -> None:
    ints = {"k": {"low": 1, "high": 4, "type": "int"}}
    assert [side(ints, "k", k) for k in (1, 2, 3, 4)] == ["", "", "", "upper"]
    assert side({"k": {"low": 2, "high": 64}}, "k", 2) == "lower"
    assert side({"k": {"low": 2, "high": 64}}, "k", 64) == ""
    assert side({"ema_decay": {"low": 0.0, "high": 0.9}}, "ema_decay", 0.0) == ""
    assert side({"ema_decay": {"low": 0.0, "high": 0.9}}, "ema_decay", 0.9) == "upper"
    assert side({"alpha": {"low": 0.1, "high": 100}}, "alpha", 100.0) == ""
    assert side({"learning_rate": {"low": 1e-4, "high": 1, "log": True}}, "learning_rate", 1.0) == ""


def test_integers_on_a_logarithmic_range() -> None:
    search = {"steps": {"low": 10, "high": 1000, "type": "int", "log": True}}
    assert [side(search, "steps", value) for value in (10, 11, 912, 1000)] == ["lower", "", "", "upper"]


def test_choices_and_single_values_have_no_bounds() -> None:
    search = {
        "network": {"choices": ["small", "conv9-small"]},
        "batch_size": {"choices": [16, 32]},
        "alpha": {"low": 0.5, "high": 0.5},
        "ramp": {"choices": [True, False]},
    }
    params = {"network": "small", "batch_size": 16, "alpha": 0.5, "ramp": True}
    assert at_bounds(space(search), params) == []


def test_a_parameter_that_was_not_searched_has_none() -> None:
    assert at_bounds(space({"alpha": {"low": 0.1, "high": 2.0}}), {}) == []
    assert at_bounds(space({"alpha": {"low": 0.1, "high": 2.0}}), {"temperature": 0.1}) == []


def test_every_parameter_is_looked_at() -> None:
    search = {"alpha": {"low": 0.1, "high": 2.0}, "temperature": {"low": 0.1, "high": 1.0}}
    found = at_bounds(space(search), {"alpha": 2.0, "temperature": 0.1})
    assert ["alpha" in found[0], "temperature" in found[1], len(found)] == [True, True, 2]


def test_an_objective_that_the_method_trains() -> None:
    search = {"alpha": {"low": 0.1, "high": 2.0}}
    assert caveats(space(search), {"alpha": 1.0}) == ()
    (found,) = caveats(space(search, "entropy"), {"alpha": 1.0})
    assert found.startswith("chosen by entropy, which the method trains directly: temperature sharpens")
    both = caveats(space(search, "mixval"), {"alpha": 2.0})
    assert len(both) == 2 and both[0].startswith("alpha = 2 is at the upper bound")
    assert both[1].startswith("chosen by mixval")
