"""From confirmed candidates to an answer."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from iimt_search.records import Answer, Candidate
from iimt_search.study.scope import SOURCE_ONLY_KEY

# Two trainings with other seeds that agree less (Cohen's κ) are not one answer.
LEAST_AGREEMENT = 0.4


@dataclass(frozen=True)
class Decision:
    """The answer, and the candidate whose models are handed out.

    Attributes:
        answer: ``trial``, ``source-only``, or ``none`` for no confident choice: source-only is handed
            out then, as the safest.
        winner: the candidate that is handed out.
        reason: why, for people.
    """

    answer: Answer
    winner: Candidate
    reason: str


def lead(candidate: Candidate, baseline: Candidate, sign: float) -> tuple[float, float | None]:
    """Return by how much a candidate is better than another of the same fresh seeds.

    Args:
        candidate: whose lead it is.
        baseline: compared seed by seed; of as many scores.
        sign: +1 where a higher objective is better, else −1.

    Returns:
        Mean of the differences, and its standard error; None with one seed.
    """
    leads = [sign * (a - b) for a, b in zip(candidate.scores, baseline.scores, strict=True)]
    return fmean(leads), stdev(leads) / math.sqrt(len(leads)) if len(leads) > 1 else None


def _doubt(best: Candidate, baseline: Candidate | None, objective: str, sign: float) -> str:
    """Return why the best candidate cannot be trusted, or ""."""
    if best.agreement is not None and best.agreement < LEAST_AGREEMENT:
        return (
            f"{best.name} is best, but its trainings with other seeds agree on the target by "
            f"κ = {best.agreement:.2f} only, less than {LEAST_AGREEMENT}"
        )
    if baseline is not None:
        ahead, error = lead(best, baseline, sign)
        if error is not None and ahead <= error:
            return (
                f"{best.name} is best, but leads source-only by {ahead:.4f} ± {error:.4f} of {objective} "
                f"only, which is no more than its seeds differ"
            )
    return ""


def decide(candidates: Sequence[Candidate], objective: str, higher_is_better: bool) -> Decision:
    """Decide among confirmed candidates.

    Those that a veto meets are out. The best mean objective over the fresh seeds wins; a configuration
    must lead source-only by more than the standard error of its lead, and agree with itself.

    Args:
        candidates: at least one; source-only among them unless it failed.
        objective: the validator's name.
        higher_is_better: its direction.
    """
    sign = 1.0 if higher_is_better else -1.0
    # Of equal ones source-only comes first: adaptation has to earn its place.
    ranked = sorted(candidates, key=lambda c: (-sign * c.mean, c.name != SOURCE_ONLY_KEY))
    baseline = next((c for c in ranked if c.name == SOURCE_ONLY_KEY), None)
    standing = [c for c in ranked if not c.veto]
    if not standing:
        fallback = baseline or ranked[0]
        return Decision("none", fallback, f"every candidate was vetoed; {ranked[0].name}: {ranked[0].veto}")
    best = standing[0]
    out = len(ranked) - len(standing)
    vetoed = f"; {out} vetoed" if out else ""
    if best is baseline:
        why = "no configuration scored better than the model without adaptation, with fresh seeds"
        if (better := ranked[0]) is not best:  # what is ranked before the best that stands is vetoed
            why = f"every configuration that scored better was vetoed; {better.name}: {better.veto}"
        return Decision("source-only", best, why + vetoed)
    rival = baseline if baseline in standing else None
    if doubt := _doubt(best, rival, objective, sign):
        return Decision("none", rival or best, doubt + vetoed)
    why = f"best mean {objective} of {len(candidates)} candidates, with fresh seeds"
    return Decision("trial", best, why + vetoed)
