import math

import pytest

from iimt_search.study.veto import CHECKS, reasons_against, veto

HEALTHY = {"source_accuracy": 0.9, "classes_predicted": 1.0, "embedding_spread": 0.5}
BASELINE = {"a->b": {"source_accuracy": 1.0, "embedding_spread": 0.6}}


def scores(**changes: float) -> dict[str, dict[str, float]]:
    return {"a->b": {**HEALTHY, **changes}}


def test_a_healthy_model_stays() -> None:
    assert veto(scores(), BASELINE) == "" == veto(scores(), None)
    assert set(HEALTHY) == set(CHECKS)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (
            {"source_accuracy": 0.79},
            "a->b: 79 % is the source validation accuracy left, source-only has 100 %",
        ),
        ({"embedding_spread": 0.09}, "a->b: the target embeddings have collapsed (spread 0.09)"),
        ({"source_accuracy": math.nan}, "a->b: source_accuracy is not finite"),
        (
            {"embedding_spread": math.nan, "source_accuracy": math.inf},
            "a->b: source_accuracy is not finite; embedding_spread is not finite",
        ),
    ],
)
def test_each_reason(changes: dict[str, float], reason: str) -> None:
    assert veto(scores(**changes), BASELINE) == reason


@pytest.mark.parametrize("changes", [{"source_accuracy": 0.8}, {"embedding_spread": 0.1}])
def test_the_least_that_is_enough(changes: dict[str, float]) -> None:
    assert veto(scores(**changes), BASELINE) == ""


def test_a_model_is_held_to_what_source_only_has() -> None:
    weak = {"a->b": {"source_accuracy": 0.5, "embedding_spread": 0.6}}
    assert veto(scores(source_accuracy=0.4), weak) == ""
    reason = veto(scores(source_accuracy=0.39), weak)
    assert reason == "a->b: 39 % is the source validation accuracy left, source-only has 50 %"


def test_a_target_need_not_have_every_class() -> None:
    assert veto(scores(classes_predicted=0.1, diversity=0.0), BASELINE) == ""


@pytest.mark.parametrize(
    "baseline",
    [None, {}, {"c->d": BASELINE["a->b"]}, {"a->b": {}}, {"a->b": dict.fromkeys(CHECKS, math.nan)}],
    ids=["none", "no task", "another task", "no checks", "not finite"],
)
def test_without_a_baseline_only_what_is_wrong_in_itself(
    baseline: dict[str, dict[str, float]] | None,
) -> None:
    assert veto(scores(source_accuracy=0.1), baseline) == ""
    assert "collapsed" in veto(scores(embedding_spread=0.0), baseline)
    assert "not finite" in veto(scores(source_accuracy=math.nan), baseline)


def test_all_reasons_of_all_tasks_are_told() -> None:
    bad = {**HEALTHY, "source_accuracy": 0.5, "embedding_spread": 0.01}
    given = {"a->b": bad, "c->d": HEALTHY, "e->f": {**HEALTHY, "embedding_spread": 0.0}}
    first, second = veto(given, BASELINE).split(" | ")
    assert first.startswith("a->b: 50 % is the source") and first.count("; ") == 1
    assert second == "e->f: the target embeddings have collapsed (spread 0.00)"


@pytest.mark.parametrize("name", CHECKS)
def test_scores_of_an_earlier_version_without_the_checks_stay(name: str) -> None:
    bad = {check: 0.0 for check in CHECKS if check != name}
    assert veto({"a->b": bad}, BASELINE) == ""


def test_no_other_score_matters() -> None:
    assert veto({"a->b": {**HEALTHY, "entropy": math.nan, "composite": -1.0}}, BASELINE) == ""


def test_what_is_not_known_is_no_reason() -> None:
    assert reasons_against({}, {}) == reasons_against({"source_accuracy": 0.1}, {}) == []
    assert reasons_against({"embedding_spread": 0.01}, {"source_accuracy": 1.0}) == [
        "the target embeddings have collapsed (spread 0.01)"
    ]
    assert reasons_against({"classes_predicted": math.nan}, {}) == ["classes_predicted is not finite"]
