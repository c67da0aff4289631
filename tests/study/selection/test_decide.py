import math
from dataclasses import replace
from typing import Any

import pytest

from iimt_search.records import Candidate
from iimt_search.space.schema import CostSettings
from iimt_search.study.selection.decide import Agreement, Decision, decide, lead


def source_only(*scores: float, veto: str = "", agreement: float | None = 0.9) -> Candidate:
    return Candidate("source-only", scores, agreement, veto)


def trial(number: int, *scores: float, veto: str = "", agreement: float | None = 0.9) -> Candidate:
    return Candidate(f"trial-{number}", scores, agreement, veto)


def answer(*candidates: Candidate, higher_is_better: bool = True) -> tuple[str, str]:
    found = decide(candidates, "composite", higher_is_better)
    return found.answer, found.winner.name


def reason(*candidates: Candidate, higher_is_better: bool = True) -> str:
    return decide(candidates, "composite", higher_is_better).reason


def test_the_best_mean_wins() -> None:
    found = decide(
        [trial(1, 0.5, 0.9), trial(2, 0.8, 0.8), source_only(0.4, 0.4), trial(3, 0.1, 0.9)], "composite", True
    )
    assert found == Decision(
        "trial", trial(2, 0.8, 0.8), "best mean composite of 4 candidates, with fresh seeds"
    )


def test_lower_is_better() -> None:
    given = (source_only(1.0, 1.1), trial(1, 0.5, 0.6), trial(2, 2.0, 2.0))
    assert answer(*given, higher_is_better=False) == ("trial", "trial-1")
    assert answer(*given, higher_is_better=True) == ("trial", "trial-2")
    worse = (trial(1, 1.5, 1.6), source_only(1.0, 1.1))
    assert answer(*worse, higher_is_better=False) == ("source-only", "source-only")


def test_source_only_where_nothing_is_better() -> None:
    given = (source_only(0.7, 0.7), trial(1, 0.6, 0.6), trial(2, 0.1, 0.99))
    assert answer(*given) == ("source-only", "source-only")
    assert reason(*given) == (
        "no configuration scored better than the model without adaptation, with fresh seeds"
    )


def test_source_only_alone() -> None:
    assert answer(source_only(0.1, 0.1)) == ("source-only", "source-only")


def test_vetoed_candidates_are_out() -> None:
    given = (trial(1, 0.9, 0.9, veto="a->b: collapsed"), trial(2, 0.7, 0.7), source_only(0.5, 0.5))
    assert answer(*given) == ("trial", "trial-2")
    assert reason(*given) == "best mean composite of 3 candidates, with fresh seeds; 1 vetoed"
    beaten = (trial(1, 0.9, 0.9, veto="x"), trial(2, 0.9, 0.9, veto="y"), source_only(0.5, 0.5))
    assert answer(*beaten) == ("source-only", "source-only")
    assert reason(*beaten) == "every configuration that scored better was vetoed; trial-1: x; 2 vetoed"
    worse = (trial(1, 0.3, 0.3, veto="x"), source_only(0.5, 0.5))
    assert reason(*worse).endswith("with fresh seeds; 1 vetoed") and reason(*worse).startswith("no config")


def test_none_where_source_only_could_not_be_trained() -> None:
    given = (trial(1, 0.5, 0.5), trial(2, 0.9, 0.9))
    assert answer(*given) == ("none", "trial-2")
    assert reason(*given).startswith("the model without adaptation could not be trained, so nothing shows")


def test_none_where_every_candidate_is_vetoed() -> None:
    given = (source_only(0.5, 0.5, veto="x"), trial(1, 0.9, 0.9, veto="a->b: collapsed"))
    assert answer(*given) == ("none", "source-only")
    assert reason(*given) == "every candidate was vetoed; trial-1: a->b: collapsed"
    without = (trial(1, 0.4, 0.4, veto="x"), trial(2, 0.9, 0.9, veto="y"))
    assert answer(*without) == ("none", "trial-2")


def test_a_lead_of_any_size_will_do() -> None:
    # Abstaining handed out worse models than it saved from: docs/choosing.md.
    assert answer(trial(1, 0.49, 0.55), source_only(0.5, 0.5)) == ("trial", "trial-1")
    assert answer(trial(1, 0.6, 0.6, agreement=0.1), source_only(0.5, 0.5)) == ("trial", "trial-1")


@pytest.mark.parametrize(
    ("adapted", "without", "expected"),
    [
        (0.6, 0.74, "trial"),
        (0.6, 0.76, "source-only"),
        (0.9, 0.2, "trial"),
        (math.nan, 0.9, "trial"),
        (0.2, math.nan, "trial"),
    ],
)
def test_source_only_where_its_models_agree_clearly_more(
    adapted: float, without: float, expected: str
) -> None:
    given = [trial(1, 0.9, 0.9), source_only(0.5, 0.5)]
    found = decide(given, "composite", True, Agreement(adapted, without))
    assert found.answer == expected
    if expected == "source-only":
        assert found.reason == (
            "models without adaptation agree on the target (κ = 0.76) more than the better half of those "
            "with it (κ = 0.60), by more than 0.15"
        )
    vetoed = [trial(1, 0.9, 0.9), source_only(0.5, 0.5, veto="x")]
    assert decide(vetoed, "composite", True, Agreement(adapted, without)).answer == "trial"


def test_source_only_need_not_agree_with_itself() -> None:
    assert answer(source_only(0.9, 0.9, agreement=0.0), trial(1, 0.5, 0.5))[0] == "source-only"


def test_one_seed_has_no_error_and_any_lead_will_do() -> None:
    assert answer(source_only(0.5, agreement=None), trial(1, 0.5001, agreement=None)) == ("trial", "trial-1")
    assert answer(source_only(0.5, agreement=None), trial(1, 0.4999, agreement=None))[0] == "source-only"


def test_the_mean_is_over_the_fresh_seeds() -> None:
    assert trial(1, 0.25, 0.5, 0.75).mean == pytest.approx(0.5)
    assert math.isclose(decide([trial(1, 0.2, 0.4)], "composite", True).winner.mean, 0.3)


def test_a_tie_goes_to_source_only() -> None:
    assert answer(trial(1, 0.8), source_only(0.8)) == ("source-only", "source-only")
    assert answer(trial(1, 0.8, 0.6), source_only(0.8, 0.6)) == ("source-only", "source-only")


def test_a_vetoed_source_only_is_no_rival_and_not_handed_out() -> None:
    collapsed = Candidate("source-only", (0.9, 0.9), 0.9, "task: collapsed")
    assert answer(trial(1, 0.8, 0.81), collapsed) == ("trial", "trial-1")


def test_the_lead_is_the_mean_of_the_differences_seed_by_seed_with_its_standard_error() -> None:
    given = trial(1, 0.8, 0.6, 0.7), source_only(0.5, 0.5, 0.6)
    ahead, error = lead(*given, 1)
    # 0.3, 0.1, 0.1: mean 1/6, sample variance 0.04/3, over three seeds.
    assert ahead == pytest.approx(1 / 6) and error == pytest.approx(math.sqrt(0.04 / 9))
    assert lead(*given, -1) == pytest.approx((-ahead, error))
    assert lead(trial(1, 0.75), source_only(0.5), 1) == (0.25, None)


def test_several_baselines() -> None:
    given = [
        Candidate("a", (0.9,)),
        Candidate("b", (0.7,)),
        Candidate("erm", (0.6,)),
        Candidate("dan", (0.8,)),
    ]

    def found(*baselines: str, candidates: list[Candidate] = given) -> tuple[str, str]:
        decision = decide(candidates, "composite", True, baselines=baselines, seeds="")
        return decision.answer, decision.winner.name

    assert found("erm", "b") == ("trial", "a")
    assert found("a", "erm") == ("source-only", "a")
    assert found() == ("none", "a")
    vetoed = [Candidate("a", (0.9,), veto="x"), *given[1:]]
    assert found("a", "erm", candidates=vetoed) == ("trial", "dan")
    assert found("a", "dan", candidates=vetoed) == ("source-only", "dan")
    assert decide(given, "composite", True, no_baseline="none was named").reason == (
        "none was named, so nothing shows that adaptation helps; best mean composite of the others"
    )


def test_an_objective_that_is_no_number_comes_last() -> None:
    broken = trial(1, math.nan, math.nan, veto="composite is not finite")
    assert answer(broken, trial(2, 0.7, 0.7), source_only(0.5, 0.5)) == ("trial", "trial-2")


def priced(candidate: Candidate, seconds: float) -> Candidate:
    return replace(candidate, cost={"seconds": seconds})


def cheapest(*candidates: Candidate, tolerance: float = 0.1, higher_is_better: bool = True) -> Decision:
    cost = CostSettings(name="seconds", tolerance=tolerance)
    return decide(candidates, "composite", higher_is_better, cost=cost)


def test_the_cheapest_within_the_tolerance_is_chosen_where_cost_is_an_objective() -> None:
    given = (
        priced(trial(1, 0.9), 40.0),
        priced(trial(2, 0.85), 10.0),
        priced(trial(3, 0.7), 1.0),
        priced(source_only(0.5), 0.5),
    )
    found = cheapest(*given)
    assert (found.answer, found.winner.name) == ("trial", "trial-2")
    assert found.reason == (
        "cheapest of 2 candidates within 0.1 of the best mean composite, trial-1's 0.9000, with fresh seeds: "
        "10.0 s of training, trial-1 takes 40.0 s"
    )
    assert cheapest(*given, tolerance=0.01).winner.name == "trial-1"
    assert "none within 0.01" in cheapest(*given, tolerance=0.01).reason
    assert cheapest(*given, tolerance=0.3).winner.name == "trial-3"
    assert cheapest(*given, tolerance=0.5).answer == "source-only"  # good enough, and cheaper than any


def test_a_vetoed_candidate_and_one_of_unknown_cost_are_never_the_cheapest() -> None:
    given = (priced(trial(1, 0.9), 40.0), priced(trial(2, 0.89, veto="x"), 1.0), trial(3, 0.88))
    assert cheapest(*given, priced(source_only(0.5), 0.5)).winner.name == "trial-1"


def test_the_cheapest_where_lower_is_better() -> None:
    given = (priced(trial(1, 0.1), 9.0), priced(trial(2, 0.15), 3.0), priced(source_only(1.0), 1.0))
    assert cheapest(*given, higher_is_better=False).winner.name == "trial-2"


def test_cost_alone_changes_nothing() -> None:
    given = (priced(trial(1, 0.9), 40.0), priced(trial(2, 0.89), 1.0), priced(source_only(0.5), 0.5))
    assert decide(given, "composite", True).winner.name == "trial-1"
    assert decide(given, "composite", True, cost=CostSettings()).winner.name == "trial-1"


def test_a_winner_that_is_taught_needs_not_beat_source_only() -> None:
    def taught(*candidates: Candidate, **more: Any) -> Decision:
        return decide(candidates, "consensus", True, taught=True, **more)

    given = (source_only(0.7, 0.7), trial(1, 0.6, 0.6), trial(2, 0.1, 0.9))
    found = taught(*given)
    assert (found.answer, found.winner.name) == ("trial", "trial-1")
    assert found.reason == (
        "best mean consensus of the 2 candidates with adaptation, with fresh seeds; source-only has 0.7000 "
        "by itself, and a say in what is taught"
    )
    # Nor does it matter how far the models without adaptation agree.
    found = taught(trial(1, 0.8, 0.8), source_only(0.1, 0.1), agreement=Agreement(0.1, 0.9))
    assert (found.answer, found.reason) == ("trial", "best mean consensus of 2 candidates, with fresh seeds")
    vetoed = (source_only(0.1, 0.1), trial(1, 0.6, 0.6, veto="a->b: collapsed"))
    assert taught(*vetoed).answer == "source-only"
    assert taught(trial(1, 0.6, 0.6)).answer == "none"
    cheap = replace(source_only(0.7, 0.7), cost={"seconds": 1.0})
    found = taught(
        cheap,
        *(replace(each, cost={"seconds": 2.0}) for each in given[1:]),
        cost=CostSettings(name="seconds"),
    )
    assert (found.answer, found.winner.name) == ("trial", "trial-1")
