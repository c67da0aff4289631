import math

import pytest

from iimt_search.records import Candidate
from iimt_search.study.selection.decide import Decision, decide, lead


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


def test_none_where_every_candidate_is_vetoed() -> None:
    given = (source_only(0.5, 0.5, veto="x"), trial(1, 0.9, 0.9, veto="a->b: collapsed"))
    assert answer(*given) == ("none", "source-only")
    assert reason(*given) == "every candidate was vetoed; trial-1: a->b: collapsed"
    without = (trial(1, 0.4, 0.4, veto="x"), trial(2, 0.9, 0.9, veto="y"))
    assert answer(*without) == ("none", "trial-2")


# The standard error of two leads is half their distance: both must be above 0.
@pytest.mark.parametrize(
    ("leads", "sure"),
    [((0.1, 0.3), True), ((-0.01, 0.3), False), ((0.01, 0.3), True), ((0.2, 0.2), True)],
)
def test_a_lead_must_be_larger_than_its_standard_error(leads: tuple[float, float], sure: bool) -> None:
    baseline = (0.5, 0.25)
    best = tuple(b + lead for b, lead in zip(baseline, leads, strict=True))
    found = answer(trial(1, *best), source_only(*baseline))
    assert found == (("trial", "trial-1") if sure else ("none", "source-only"))
    lower = answer(
        trial(1, *(-b for b in best)), source_only(*(-b for b in baseline)), higher_is_better=False
    )
    assert lower == found


def test_none_by_a_small_lead_says_how_small() -> None:
    # Leads 0.4, −0.2 and 0.1: mean 0.1, standard deviation 0.3, standard error 0.3 / √3 = 0.1732.
    given = (source_only(0.1, 0.6, 0.4), trial(7, 0.5, 0.4, 0.5), trial(8, 0.9, 0.9, 0.9, veto="x"))
    assert answer(*given) == ("none", "source-only")
    assert reason(*given) == (
        "trial-7 is best, but leads source-only by 0.1000 ± 0.1732 of composite only, which is no more "
        "than its seeds differ; 1 vetoed"
    )


def test_none_by_low_agreement() -> None:
    given = (trial(1, 0.9, 0.9, agreement=0.39), trial(2, 0.8, 0.8), source_only(0.5, 0.5))
    assert answer(*given) == ("none", "source-only")
    assert reason(*given).startswith("trial-1 is best, but its trainings with other seeds agree")
    assert "κ = 0.39 only, less than 0.4" in reason(*given)
    assert answer(trial(1, 0.9, 0.9, agreement=0.4), source_only(0.5, 0.5)) == ("trial", "trial-1")
    assert answer(trial(1, 0.9, 0.9, agreement=None), source_only(0.5, 0.5)) == ("trial", "trial-1")


def test_source_only_need_not_agree_with_itself() -> None:
    assert answer(source_only(0.9, 0.9, agreement=0.0), trial(1, 0.5, 0.5))[0] == "source-only"


def test_one_seed_has_no_error_and_any_lead_will_do() -> None:
    assert answer(source_only(0.5, agreement=None), trial(1, 0.5001, agreement=None)) == ("trial", "trial-1")
    assert answer(source_only(0.5, agreement=None), trial(1, 0.4999, agreement=None))[0] == "source-only"


def test_without_source_only_the_best_stands_alone() -> None:
    assert answer(trial(1, 0.1, 0.9), trial(2, 0.4, 0.4)) == ("trial", "trial-1")
    assert answer(trial(1, 0.5, 0.9, agreement=0.1), trial(2, 0.4, 0.4)) == ("none", "trial-1")


def test_the_mean_is_over_the_fresh_seeds() -> None:
    assert trial(1, 0.25, 0.5, 0.75).mean == pytest.approx(0.5)
    assert math.isclose(decide([trial(1, 0.2, 0.4)], "composite", True).winner.mean, 0.3)


def test_a_tie_goes_to_source_only() -> None:
    assert answer(trial(1, 0.8), source_only(0.8)) == ("source-only", "source-only")
    assert answer(trial(1, 0.8, 0.6), source_only(0.8, 0.6)) == ("source-only", "source-only")


def test_a_vetoed_source_only_is_no_rival_and_not_handed_out() -> None:
    collapsed = Candidate("source-only", (0.9, 0.9), 0.9, "task: collapsed")
    assert answer(trial(1, 0.8, 0.81), collapsed) == ("trial", "trial-1")
    unsure = Candidate("trial-1", (0.8, 0.81), 0.1)
    assert answer(unsure, collapsed) == ("none", "trial-1")


def test_the_lead_is_the_mean_of_the_differences_seed_by_seed_with_its_standard_error() -> None:
    given = trial(1, 0.8, 0.6, 0.7), source_only(0.5, 0.5, 0.6)
    ahead, error = lead(*given, 1)
    # 0.3, 0.1, 0.1: mean 1/6, sample variance 0.04/3, over three seeds.
    assert ahead == pytest.approx(1 / 6) and error == pytest.approx(math.sqrt(0.04 / 9))
    assert lead(*given, -1) == pytest.approx((-ahead, error))
    assert lead(trial(1, 0.75), source_only(0.5), 1) == (0.25, None)
