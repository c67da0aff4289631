"""From confirmed candidates to an answer."""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from iimt_search.records import Answer, Candidate, shown_cost
from iimt_search.space.schema import CostSettings
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

    def known(self) -> dict[str, float | None]:
        """Return both by name, None where it is unknown."""
        return {name: value if math.isfinite(value) else None for name, value in vars(self).items()}

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
    *,
    baselines: Collection[str] = (SOURCE_ONLY_KEY,),
    seeds: str = ", with fresh seeds",
    no_baseline: str = "the model without adaptation could not be trained",
    cost: CostSettings | None = None,
    taught: bool = False,
) -> Decision:
    """Decide among confirmed candidates, or among models that others trained.

    Those that a veto meets are out. The best mean objective over the fresh seeds wins, unless the models
    without adaptation agree more with each other than those with it, or cost is an objective, too: then it is
    the cheapest of those within the tolerance. Where source-only is missing, nothing
    was compared with it, and the answer is ``none``.

    A winner that will be taught by all models needs not be better by itself than source-only: its own virtual
    labels have no part in what is handed out. Source-only wins then only where no other candidate stands.

    Args:
        candidates: at least one; source-only among them unless it failed. One whose objective is not finite
            has a veto.
        objective: the validator's name.
        higher_is_better: its direction.
        agreement: of the trained models.
        baselines: names of the candidates without adaptation.
        seeds: how the scores were made, in the reasons.
        no_baseline: why no baseline is among the candidates, in the reasons.
        cost: which cost is an objective, too, and the tolerance.
        taught: whether the winner is retrained with the labels that all models together give the target.
    """
    sign = 1.0 if higher_is_better else -1.0
    # Of equal ones source-only comes first: adaptation has to earn its place.
    ranked = sorted(candidates, key=lambda c: (math.isnan(c.mean), -sign * c.mean, c.name not in baselines))
    standing = [c for c in ranked if not c.veto]
    baseline = next((c for c in (*standing, *ranked) if c.name in baselines), None)
    if not standing:
        fallback = baseline or ranked[0]
        return Decision("none", fallback, f"every candidate was vetoed; {ranked[0].name}: {ranked[0].veto}")
    best = standing[0]
    if baseline is None:
        why = f"{no_baseline}, so nothing shows that adaptation helps"
        return Decision("none", best, f"{why}; best mean {objective} of the others")
    out = len(ranked) - len(standing)
    vetoed = f"; {out} vetoed" if out else ""
    adapted = [c for c in standing if c.name not in baselines]
    why = f"best mean {objective} of {len(candidates)} candidates{seeds}"
    if taught and adapted:
        if best is baseline:
            why = f"best mean {objective} of the {len(adapted)} candidates with adaptation{seeds}; "
            why += f"{best.name} has {best.mean:.4f} by itself, and a say in what is taught"
        standing, best = adapted, adapted[0]
    elif best is baseline:
        why = f"no configuration scored better than the model without adaptation{seeds}"
        if (better := ranked[0]) is not best:  # what is ranked before the best that stands is vetoed
            why = f"every configuration that scored better was vetoed; {better.name}: {better.veto}"
        return Decision("source-only", best, why + vetoed)
    elif baseline in standing and (against := agreement.against_adaptation):
        return Decision("source-only", baseline, against + vetoed)
    if cost is not None and cost.name in best.cost:
        near = [c for c in standing if cost.name in c.cost and sign * (best.mean - c.mean) <= cost.tolerance]
        cheap = min(near, key=lambda c: c.cost[cost.name])
        within = f"within {cost.tolerance:g} of the best mean {objective}"
        if cheap is best:
            return Decision("trial", best, f"{why}, and none {within} is cheaper{vetoed}")
        costs = [shown_cost(cost.name, c.cost[cost.name]) for c in (cheap, best)]
        why = f"cheapest of {len(near)} candidates {within}, {best.name}'s {best.mean:.4f}{seeds}: "
        why += f"{costs[0]} of training, {best.name} takes {costs[1]}{vetoed}"
        return Decision("source-only" if cheap.name in baselines else "trial", cheap, why)
    return Decision("trial", best, why + vetoed)
