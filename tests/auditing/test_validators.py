import math
from dataclasses import asdict

import pytest

from iimt_search.auditing.validators import (
    ValidatorAudit,
    audit_validator,
    mean_finite,
    pick_summary,
    validator_summary,
)
from iimt_search.files import strict_json

NAN = math.nan


def test_the_pick_is_the_best_scored() -> None:
    found = audit_validator(True, [0.2, 0.9, 0.5], [50.0, 60.0, 80.0], oracle=85.0)
    assert found is not None
    assert (found.target_accuracy, found.oracle_gap) == (60.0, 25.0)
    # Ranks (1, 3, 2) and (1, 2, 3): 1 − 6 · 2 / (3 · 8); weighted by (1, 9, 9) / 19 it is −45/126.
    assert found.spearman == pytest.approx(0.5)
    assert found.weighted_spearman == pytest.approx(-45 / 126)


def test_where_lower_is_better() -> None:
    found = audit_validator(False, [0.2, 0.9, 0.5], [50.0, 60.0, 80.0], oracle=80.0)
    assert found is not None and (found.target_accuracy, found.oracle_gap) == (50.0, 30.0)
    assert found.spearman == pytest.approx(-0.5)


def test_of_equal_scores_the_first() -> None:
    found = audit_validator(True, [0.9, 0.9], [50.0, 60.0], oracle=60.0)
    assert found is not None and found.target_accuracy == 50.0


@pytest.mark.parametrize("bad", [NAN, math.inf, -math.inf])
def test_a_model_without_a_score_is_not_picked_and_not_ranked(bad: float) -> None:
    found = audit_validator(True, [bad, 0.1, 0.2], [99.0, 10.0, 20.0], oracle=99.0)
    assert found is not None and (found.target_accuracy, found.oracle_gap) == (20.0, 79.0)
    assert found.spearman == pytest.approx(1)


def test_a_validator_that_has_scored_nothing() -> None:
    assert audit_validator(True, [NAN, NAN], [1.0, 2.0], oracle=2.0) is None
    assert audit_validator(True, [], [], oracle=2.0) is None


def test_one_model_has_no_order() -> None:
    found = audit_validator(True, [NAN, 0.5], [1.0, 2.0], oracle=2.0)
    assert found is not None and (found.target_accuracy, found.oracle_gap) == (2.0, 0.0)
    assert math.isnan(found.spearman) and math.isnan(found.weighted_spearman)


def test_numbers_for_json() -> None:
    assert [strict_json(value) for value in (0.0, -1.5, NAN, math.inf)] == [0.0, -1.5, None, None]
    assert mean_finite([1.0, NAN, 2.0]) == 1.5
    assert math.isnan(mean_finite([NAN])) and math.isnan(mean_finite([]))


ORACLE = {"a->b": 90.0, "c->d": 60.0, "e->f": 80.0}
SOURCE_ONLY = {"a->b": 70.0, "c->d": 50.0, "e->f": 40.0}


def test_what_was_picked_in_summary() -> None:
    found = pick_summary({"a->b": 85.0, "c->d": 20.0, "e->f": 60.0}, ORACLE, SOURCE_ONLY)
    assert found == {
        "target_accuracy": pytest.approx(55.0),
        "oracle_gap": pytest.approx((5 + 40 + 20) / 3),
        "worst_oracle_gap": 40.0,
        "mean_gain": pytest.approx((15 - 30 + 20) / 3),
        "worst_gain": -30.0,
        "below_source_only_rate": pytest.approx(1 / 3),
        "catastrophic_rate": pytest.approx(1 / 3),  # 20 of 50
    }


def test_as_good_as_source_only_is_not_below_and_half_of_it_no_catastrophe() -> None:
    found = pick_summary({"a->b": 70.0, "c->d": 25.0}, ORACLE, SOURCE_ONLY)
    assert (found["below_source_only_rate"], found["catastrophic_rate"]) == (0.5, 0.0)
    assert pick_summary({"a->b": 34.9}, ORACLE, SOURCE_ONLY)["catastrophic_rate"] == 1.0


def test_a_validator_over_the_tasks_that_it_has_scored() -> None:
    audits = {
        "a->b": ValidatorAudit(80.0, 10.0, 0.5, NAN),
        "e->f": ValidatorAudit(40.0, 40.0, NAN, NAN),
    }
    found = validator_summary(audits, ORACLE, SOURCE_ONLY)
    assert found["target_accuracy"] == 60.0 and found["oracle_gap"] == 25.0
    assert (found["mean_gain"], found["worst_oracle_gap"]) == (5.0, 40.0)
    assert found["spearman"] == 0.5 and found["weighted_spearman"] is None
    assert set(asdict(audits["a->b"])) == {"target_accuracy", "oracle_gap", "spearman", "weighted_spearman"}
