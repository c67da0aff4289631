"""From confirmed candidates to an answer."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from iimt_search.records import Answer, Candidate
from iimt_search.study.scope import SOURCE_ONLY_KEY

# By so much (Cohen's κ) trainings without adaptation must agree more on the target than the better half of
# those with it, to be handed out. Measured, with smaller margins beside: docs/choosing.md.
MARGIN = 0.15


@dataclass(frozen=True)
class Agreement:
    """How far trained models agree on the target, as Cohen's κ, mean over the tasks; NaN where unknown.

    Attributes:
        adapted: of the better half of those with adaptation.
        source_only: of those without, which differ in their seeds only.
    """

    adapted: float = math.nan
    source_only: float = math.nan

    @property
    def against_adaptation(self) -> str:
        """Why adaptation is not to be trusted, or ""."""
        if not self.source_only > self.adapted + MARGIN:
            return ""
        return (
            f"models without adaptation agree on the target (κ = {self.source_only:.2f}) more than the "
            f"better half of those with it (κ = {self.adapted:.2f}), by more than {MARGIN}"
        )


@dataclass(frozen=True)
class Decision:
    """The answer, and the candidate whose models are handed out.

    Attributes:
        answer: ``trial``, ``source-only``, or ``none`` for no confident choice: source-only is handed
            out then, as the safest; the best candidate where there is no source-only.
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


def decide(
    candidates: Sequence[Candidate],
    objective: str,
    higher_is_better: bool,
    agreement: Agreement = Agreement(),
) -> Decision:
    """Decide among confirmed candidates.

    Those that a veto meets are out. The best mean objective over the fresh seeds wins, unless the models
    without adaptation agree more with each other than those with it. Where source-only is missing, nothing
    was compared with it, and the answer is ``none``.

    Args:
        candidates: at least one; source-only among them unless it failed.
        objective: the validator's name.
        higher_is_better: its direction.
        agreement: of the trained models.
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
    if baseline is None:
        why = "the model without adaptation could not be trained, so nothing shows that adaptation helps"
        return Decision("none", best, f"{why}; best mean {objective} of the others")
    out = len(ranked) - len(standing)
    vetoed = f"; {out} vetoed" if out else ""
    if best is baseline:
        why = "no configuration scored better than the model without adaptation, with fresh seeds"
        if (better := ranked[0]) is not best:  # what is ranked before the best that stands is vetoed
            why = f"every configuration that scored better was vetoed; {better.name}: {better.veto}"
        return Decision("source-only", best, why + vetoed)
    if baseline in standing and (why := agreement.against_adaptation):
        return Decision("source-only", baseline, why + vetoed)
    why = f"best mean {objective} of {len(candidates)} candidates, with fresh seeds"
    return Decision("trial", best, why + vetoed)
