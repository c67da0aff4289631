from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from iimt_search.settings import TrainSettings
from iimt_search.space.schema import (
    Budget,
    Choices,
    NumberRange,
    Resources,
    SearchRange,
    Space,
    default_search,
)

SMALLEST = {"schema": 1, "study": "s", "tasks": ["a->b"]}


def space(**keys: Any) -> Space:
    return Space.model_validate({**SMALLEST, **keys})


def test_defaults() -> None:
    made = space()
    assert made.search == default_search()
    assert made.train == TrainSettings()
    assert (made.objective, made.validators, made.scope, made.seed) == ("consensus", None, "joint", 0)
    assert (made.budget.trials, made.budget.steps, made.budget.timeout) == (16, None, None)
    assert (made.sampler.name, made.pruner.name) == ("tpe", "median")
    assert (made.confirm.top, made.confirm.seeds, made.retrain.steps) == (3, 2, None)


def test_default_search_is_the_methods_four_parameters() -> None:
    search = default_search()
    assert set(search) == {"lambda_max", "alpha", "temperature", "k"}
    ranges = {n: (r.low, r.high, r.log, r.type) for n, r in search.items() if isinstance(r, NumberRange)}
    assert ranges == {
        "lambda_max": (0.01, 100, True, None),
        "alpha": (0.1, 2.0, True, None),
        "temperature": (0.1, 1.0, False, None),
        "k": (1, 4, False, "int"),
    }


def test_default_search_includes_the_default_settings() -> None:
    defaults = TrainSettings()
    for name, searched in default_search().items():
        assert isinstance(searched, NumberRange)
        assert searched.low <= getattr(defaults, name) <= searched.high


def test_default_search_is_not_shared() -> None:
    default_search().clear()
    assert len(space().search) == 4


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"low": 3, "high": 1}, r"`low <= high` must hold, got low=3, high=1"),
        ({"low": 0, "high": 1, "log": True}, r"`low > 0` must hold when log is true, got low=0"),
        ({"low": -1, "high": 1, "log": True}, r"`low > 0` must hold when log is true, got low=-1"),
        ({"low": 1, "high": 2, "log": True, "step": 1}, r"`step` and `log` exclude each other"),
        ({"low": 1, "high": 2, "step": 0}, r"greater than 0"),
        ({"low": float("nan"), "high": 2}, r"finite number"),
        ({"low": 1, "high": float("inf")}, r"finite number"),
        ({"low": 1, "high": 2, "type": "bool"}, r"'float' or 'int'"),
    ],
)
def test_wrong_range(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        NumberRange.model_validate(given)


def test_one_point_is_a_range() -> None:
    assert NumberRange(low=1, high=1).low == 1


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        ({"low": 0, "high": 1}, NumberRange),
        ({"choices": [1, 2]}, Choices),
        (NumberRange(low=0, high=1), NumberRange),
        (Choices(choices=("small",)), Choices),
    ],
)
def test_kind_of_search(given: Any, kind: type) -> None:
    assert type(TypeAdapter(SearchRange).validate_python(given)) is kind


def test_choices_keep_their_types() -> None:
    choices = Choices.model_validate({"choices": [True, 1, 1.0, "1"]}).choices
    assert [type(value) for value in choices] == [bool, int, float, str]


def test_no_choices() -> None:
    with pytest.raises(ValidationError, match="at least 1 item"):
        Choices(choices=())


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        ("90s", 90),
        ("30m", 1800),
        ("8h", 28800),
        ("1d", 86400),
        ("1.5 h", 5400),
        (" 2m ", 120),
        ("1:30", 5400),
        ("0:05", 300),
        ("1:30:15", 5415),
        ("36:00", 129600),
        ("1-12:00", 129600),
        ("1h30m", 5400),
        ("1h30", 5400),
        ("1h 30m", 5400),
        ("1 hour 30 minutes", 5400),
        ("1d12h", 129600),
        ("90 min", 5400),
        ("2 Hours", 7200),
        ("45 secs", 45),
        ("90", 90),
        ("1e3", 1000),
        (7, 7),
        (0.5, 0.5),
    ],
)
def test_timeout(given: Any, seconds: float) -> None:
    assert Budget.model_validate({"timeout": given}).timeout == seconds


@pytest.mark.parametrize(
    "given",
    [
        *(
            "soon",
            "5 weeks",
            "-3s",
            "0s",
            "1.2.3s",
            "s",
            "",
            " ",
            "1:75",
            "1:3",
            "30m1h",
            "1h1h",
            "0:00",
            "nan",
        ),
        *(0, -1, float("nan")),
    ],
)
def test_wrong_timeout(given: Any) -> None:
    with pytest.raises(ValidationError, match="1 validation error for Budget\ntimeout\n"):
        Budget.model_validate({"timeout": given})


@pytest.mark.parametrize("key", ["trials", "steps"])
def test_budget_of_nothing(key: str) -> None:
    with pytest.raises(ValidationError, match="greater than or equal to 1"):
        Budget.model_validate({key: 0})


def test_budget_without_end() -> None:
    with pytest.raises(ValidationError, match="a budget needs at least one of trials, steps and timeout"):
        Budget(trials=None)
    assert Budget(trials=None, timeout=1).timeout == 1


@pytest.mark.parametrize("key", ["sampler", "pruner"])
def test_bare_name(key: str) -> None:
    name = {"sampler": "gp", "pruner": "hyperband"}[key]
    assert space(**{key: name}) == space(**{key: {"name": name}})
    assert getattr(space(**{key: name}), key).name == name


@pytest.mark.parametrize("key", ["sampler", "pruner"])
def test_wrong_bare_name(key: str) -> None:
    with pytest.raises(ValidationError, match=f"{key}.name\n  Input should be "):
        space(**{key: "tpee"})


def test_tasks_are_spelled_one_way() -> None:
    assert space(tasks=["a → b", " b->a "]).canonical()["tasks"] == ["a->b", "b->a"]


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        ([], "at least 1 item"),
        (["a"], "a task is named 'source->target', got 'a'"),
        (["a->a"], "source and target must differ"),
        (["a->b", "a → b"], "two tasks are named 'a->b'"),
    ],
)
def test_wrong_tasks(tasks: list[str], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        space(tasks=tasks)


@pytest.mark.parametrize("study", ["", "a/b", "../up", ".hidden", "a b", "x" * 101, "a\n"])
def test_study_is_a_safe_folder_name(study: str) -> None:
    with pytest.raises(ValidationError, match="study\n  String should match pattern"):
        space(study=study)


@pytest.mark.parametrize("seed", [-1, 2**31])
def test_seed_range(seed: int) -> None:
    with pytest.raises(ValidationError, match=r"seed\n"):
        space(seed=seed)


FULL: dict[str, Any] = {
    "search": {
        "alpha": {"low": 0.1, "high": 2, "log": True},
        "k": {"low": 1, "high": 5, "step": 2, "type": "int"},
        "network": {"choices": ["small"]},
        "ramp": {"choices": [True, False]},
        "width": {"choices": [8, 16]},
    },
    "train": {"steps": 7, "ramp": False, "learning_rate": 0.003},
    "objective": "entropy",
    "validators": ["entropy", "reverse_probe"],
    "scope": "per_task",
    "budget": {"trials": None, "steps": 1000, "timeout": "90s"},
    "sampler": "random",
    "pruner": {"name": "percentile", "percentile": 10},
    "confirm": {"top": 1, "seeds": 5},
    "retrain": {"steps": 9},
    "seed": 4,
}


@pytest.mark.parametrize("keys", [{}, FULL], ids=["smallest", "full"])
def test_canonical_round_trip(keys: dict[str, Any]) -> None:
    made = space(**keys)
    again = Space.model_validate(made.canonical())
    assert again == made
    assert again.canonical() == made.canonical()


def test_canonical_writes_every_default_out() -> None:
    canonical = space().canonical()
    assert canonical["schema"] == 1
    assert "schema_version" not in canonical
    assert set(canonical["train"]) == set(TrainSettings.model_fields)
    assert canonical["search"]["k"] == {"low": 1.0, "high": 4.0, "log": False, "step": None, "type": "int"}


def test_canonical_does_not_depend_on_spelling() -> None:
    plain = space(sampler={"name": "tpe"}, budget={"timeout": 90})
    assert space(tasks=["a → b"], sampler="tpe", budget={"timeout": "90s"}).canonical() == plain.canonical()


@pytest.mark.parametrize("keys", [{}, FULL], ids=["smallest", "full"])
def test_canonical_is_plain_json(keys: dict[str, Any]) -> None:
    import json

    canonical = space(**keys).canonical()
    assert json.loads(json.dumps(canonical, allow_nan=False)) == canonical


def test_infinite_timeout() -> None:
    with pytest.raises(ValidationError, match="finite"):
        Budget(timeout=float("inf"))


def test_immutable() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        space().seed = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("given", "count"),
    [("500B", 500), ("2GB", 2 * 10**9), ("1.5 GiB", 3 * 2**29), ("100 kB", 100_000), ("1TiB", 2**40), (7, 7)],
)
def test_memory_is_bytes_or_a_text_with_a_unit(given: Any, count: int) -> None:
    assert Resources(memory=given).memory == count


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"memory": "2 gigs"}, "could not interpret byte unit: gigs"),
        ({"memory": 0}, "greater than or equal to 1"),
        ({"cpus": 0}, "greater than 0"),
        ({"cpus": 1.5}, "`cpus` above 1 must be a whole number, got 1.5"),
        ({"gpus": -1}, "greater than or equal to 0"),
        ({"custom": {"disk": 0}}, "greater than 0"),
        ({"cores": 1}, "Extra inputs are not permitted"),
    ],
)
def test_wrong_resources(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Resources.model_validate(given)


def test_resources_by_rays_names() -> None:
    made = Resources(cpus=2, gpus=0.25, memory="1kB", custom={"disk": 3})  # type: ignore[arg-type]
    assert made.by_ray_name() == {"CPU": 2, "GPU": 0.25, "memory": 1000, "disk": 3}
    assert str(made) == "2 CPU, 0.25 GPU, 1000 memory, 3 disk"
    assert space().resources.by_ray_name() == {"CPU": 1}


@pytest.mark.parametrize("name", ["data_fraction", "evaluation_samples"])
def test_consensus_needs_the_same_samples(name: str) -> None:
    content = {"schema": 1, "study": "s", "tasks": ["a->b"], "search": {name: {"choices": [1]}}}
    with pytest.raises(ValidationError, match=f"{name} must not be searched; fix it under `train`"):
        Space.model_validate(content)
    assert Space.model_validate({**content, "objective": "composite"}).search
