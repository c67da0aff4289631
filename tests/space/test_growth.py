from typing import Any

import pytest

from iimt_search.space import Space
from iimt_search.space.growth import conflicts, earlier_values, growth, holds, with_earlier_values

SPACE: dict[str, Any] = {
    "schema": 1,
    "study": "s",
    "tasks": ["digits->digits-m"],
    "search": {
        "alpha": {"low": 0.1, "high": 1.0, "log": True},
        "dropout": {"low": 0.2, "high": 0.4, "step": 0.1},
        "k": {"low": 2, "high": 3},
        "network": {"choices": ["auto", "small"]},
    },
    "train": {"steps": 50, "w_d": 0.5, "batch_size": 32},
}


def spaces(search: dict[str, Any], **more: Any) -> tuple[dict[str, Any], Space]:
    """The stored space, and that with some ranges in the place of its own; None: not searched."""
    ranges = {**SPACE["search"], **search}
    content = {**SPACE, "search": {name: r for name, r in ranges.items() if r is not None}, **more}
    stored = Space.model_validate(SPACE).canonical()
    return stored, with_earlier_values(stored, Space.model_validate(content))


@pytest.mark.parametrize(
    "search",
    [
        {"alpha": {"low": 0.01, "high": 2.0, "log": True}},
        {"alpha": {"low": 0.1, "high": 1.0, "log": True}},
        {"dropout": {"low": 0.1, "high": 0.6, "step": 0.1}},
        {"dropout": {"low": 0.2, "high": 0.4, "step": 0.05}},
        {"dropout": {"low": 0.0, "high": 0.5}},
        {"k": {"low": 1, "high": 8, "type": "int"}},
        {"network": {"choices": ["conv9-small", "small", "auto"]}},
        {"temperature": {"low": 0.1, "high": 1.0}},
        {"w_d": {"choices": [0.5, 1.0]}},
        {},
    ],
)
def test_a_search_may_grow(search: dict[str, Any]) -> None:
    assert conflicts(*spaces(search)) == ({}, {})


@pytest.mark.parametrize(
    "name, searched",
    [
        ("alpha", {"low": 0.2, "high": 1.0, "log": True}),
        ("alpha", {"low": 0.1, "high": 0.9, "log": True}),
        ("alpha", {"low": 0.1, "high": 1.0}),
        ("alpha", {"choices": [0.1, 1.0]}),
        ("alpha", None),
        ("dropout", {"low": 0.15, "high": 0.5, "step": 0.1}),
        ("dropout", {"low": 0.2, "high": 0.4, "step": 0.2}),
        ("k", {"low": 2, "high": 4, "step": 2}),
        ("network", {"choices": ["auto", "conv9-small"]}),
    ],
)
def test_a_search_does_not_shrink(name: str, searched: dict[str, Any] | None) -> None:
    before, now = conflicts(*spaces({name: searched}))
    assert list(before) == list(now) == ["search"]
    assert list(before["search"]) == [name] and (now["search"][name] is None) == (searched is None)


@pytest.mark.parametrize(
    "key, value",
    [
        ("train", {**SPACE["train"], "steps": 60}),
        ("train", {**SPACE["train"], "temperature": 0.4}),
        ("seed", 1),
        ("objective", "entropy"),
        ("scope", "per_task"),
        ("reference", {"trials": 2}),
        ("first", [{"alpha": 0.5}]),
        ("tasks", ["digits->digits-m", "digits->syn-digits"]),
        ("tasks", ["digits->syn-digits"]),
    ],
)
def test_what_scores_depend_on_stays(key: str, value: Any) -> None:
    before, now = conflicts(*spaces({}, **{key: value}))
    assert list(before) == list(now) == [key]


def test_tasks_may_come_and_go_where_each_is_searched_for_itself() -> None:
    stored = Space.model_validate({**SPACE, "scope": "per_task"}).canonical()
    now = Space.model_validate({**SPACE, "scope": "per_task", "tasks": ["digits->syn-digits"]})
    assert conflicts(stored, now) == ({}, {})
    other = [{"source": {"named": "digits"}, "target": {"named": "usps"}, "name": "digits->digits-m"}]
    assert list(
        conflicts(stored, Space.model_validate({**SPACE, "scope": "per_task", "tasks": other}))[0]
    ) == ["tasks"]


def test_a_setting_that_is_searched_now_keeps_what_it_was_fixed_to() -> None:
    train = {name: value for name, value in SPACE["train"].items() if name not in ("w_d", "batch_size")}
    wide = {"low": 0.0, "high": 2.0}
    stored, now = spaces({"w_d": wide, "batch_size": {"choices": [8, 64, 32]}}, train=train)
    assert (now.train.w_d, now.train.batch_size, now.train.temperature) == (0.5, 32, 0.5)
    assert now.baseline == Space.model_validate(stored).baseline
    # And so at every resume after that, with the same file.
    again = with_earlier_values(now.canonical(), now.model_copy(update={"train": type(now.train)(**train)}))
    assert again == now and growth(now.canonical(), again, 3) == []


def test_a_wider_range_does_not_change_the_batch_of_source_only() -> None:
    content = {**SPACE, "search": {"batch_size": {"low": 8, "high": 16}}, "train": {"steps": 50}}
    stored = Space.model_validate(content).canonical()
    wider = Space.model_validate({**content, "search": {"batch_size": {"low": 4, "high": 128}}})
    assert wider.baseline.batch_size == 64
    assert with_earlier_values(stored, wider).baseline.batch_size == 16


def test_what_has_grown_is_told_in_a_line_each() -> None:
    search = {
        "alpha": {"low": 0.01, "high": 2.0, "log": True},
        "network": {"choices": ["auto", "small", "conv9-small"]},
        "w_d": {"low": 0.0, "high": 1.0},
        "weight_decay": {"low": 1e-6, "high": 1e-2, "log": True},
    }
    train = {"steps": 50, "batch_size": 32}
    more = {"budget": {"trials": 32}, "validators": ["entropy"], "confirm": {"seeds": 4}}
    assert growth(*spaces(search, train=train, **more), 12) == [
        "alpha is searched in 0.01 to 2 now, 0.1 to 1 before; its 12 trials are kept",
        "network is searched in auto, small, conv9-small now, auto, small before; its 12 trials are kept",
        "w_d is searched now, 0 to 1; the 12 trials so far had 0.5 and are kept",
        "weight_decay is searched now, 1e-06 to 0.01; the 12 trials so far had 0 and are kept, though that "
        "lies outside: the sampler learns nothing of it from them",
        "goes on with other settings: validators None, now ['entropy']; budget.trials 16, now 32; "
        "confirm.seeds 2, now 4; its 12 trials are kept",
    ]
    assert growth(*spaces({}), 12) == []


def test_trials_that_lack_a_setting_had_its_fixed_value_where_the_range_has_it() -> None:
    _, now = spaces({"w_d": {"low": 0.0, "high": 1.0}, "weight_decay": {"low": 1e-6, "high": 1, "log": True}})
    values = earlier_values(now.canonical())
    assert values["w_d"] == 0.5 and "weight_decay" not in values
    assert earlier_values({}) == {}


@pytest.mark.parametrize(
    "value, inside", [(0.2, True), (0.3, True), (0.25, False), (0.5, False), (True, False), ("a", False)]
)
def test_a_grid_holds_its_points(value: Any, inside: bool) -> None:
    assert holds(Space.model_validate(SPACE).search["dropout"], value) is inside
