"""The tool's own choice on the pool: the very procedure of a study, on models that are trained already."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from benchmarks.pool import Member, accuracy, test_predictions
from benchmarks.scores import Scores
from iimt_search.records import Candidate
from iimt_search.study.selection.confirm import kept_agreement
from iimt_search.study.selection.decide import Decision, decide
from iimt_search.study.veto import veto

OBJECTIVE = "composite"
TOP = 3
FRESH_SEEDS = (100, 101)
_SOURCE_ONLY, _DEFAULT = "source-only", "default"


@dataclass(frozen=True)
class Chosen:
    """What the procedure comes to.

    Attributes:
        decision: the answer and why.
        model: the best-scored of the winner's.
        accuracy: of what is handed out, the ensemble of the winner's trainings, in percent.
        single: of the best-scored alone.
    """

    decision: Decision
    model: Member
    accuracy: float
    single: float


def _baseline(pool: Sequence[Member], scores: Mapping[Member, Scores]) -> dict[str, Scores]:
    return {m.task: scores[m] for m in pool if m.configuration == _SOURCE_ONLY}


def to_confirm(pool: Sequence[Member], scores: Mapping[Member, Scores]) -> list[Member]:
    """Return the models to train with fresh seeds: of the best that no veto meets, default and source-only.

    Args:
        pool: the models of one task and seed.
        scores: theirs.
    """
    baseline = _baseline(pool, scores)
    sound = [m for m in pool if not veto({m.task: scores[m]}, baseline) and m.configuration != _SOURCE_ONLY]
    ranked = sorted(sound, key=lambda m: -scores[m][OBJECTIVE])
    always = [m for m in pool if m.configuration in (_DEFAULT, _SOURCE_ONLY)]
    chosen = list(dict.fromkeys([*ranked[:TOP], *always]))
    return [replace(member, seed=seed) for member in chosen for seed in FRESH_SEEDS]


def _candidates(
    pool: Sequence[Member], fresh: Sequence[Member], scores: Mapping[Member, Scores], root: Path
) -> tuple[list[Candidate], dict[str, list[Member]]]:
    """Return the candidates as a study has them, and each one's models with fresh seeds."""
    baseline = _baseline(pool, scores)
    by_name: dict[str, list[Member]] = {}
    for member in fresh:
        by_name.setdefault(member.configuration, []).append(member)
    candidates = []
    for name, mine in by_name.items():
        known = None if name == _SOURCE_ONLY else baseline
        reasons = dict.fromkeys(veto({m.task: scores[m]}, known) for m in mine)
        candidates.append(
            Candidate(
                name=name,
                scores=tuple(scores[m][OBJECTIVE] for m in mine),
                agreement=kept_agreement([m.files(root)[-1] for m in mine]),
                veto=" | ".join(reason for reason in reasons if reason),
            )
        )
    return candidates, by_name


def _by_agreement(candidate: Candidate) -> float:
    return candidate.agreement or 0.0


def _by_both(candidate: Candidate) -> float:
    return candidate.mean * (candidate.agreement or 0.0)


# Other ways to decide among the same confirmed candidates, tried and measured beside the tool's own.
OTHER_WAYS: dict[str, Callable[[Candidate], float]] = {
    "ranked by agreement of fresh seeds": _by_agreement,
    "ranked by objective × agreement": _by_both,
}


def choose(
    pool: Sequence[Member],
    fresh: Sequence[Member],
    scores: Mapping[Member, Scores],
    root: Path,
    way: str = "",
) -> Chosen:
    """Decide as a study does, and hand out the winner's models.

    Args:
        pool: the models of one task and seed.
        fresh: what :func:`to_confirm` named.
        scores: of all of them.
        root: where they are.
        way: one of :data:`OTHER_WAYS` instead.
    """
    candidates, by_name = _candidates(pool, fresh, scores, root)
    if way:
        standing = [c for c in candidates if not c.veto] or candidates
        decision = Decision("trial", max(standing, key=OTHER_WAYS[way]), way)
    else:
        decision = decide(candidates, OBJECTIVE, higher_is_better=True)
    name, baseline = decision.winner.name, _baseline(pool, scores)
    trained = [*by_name[name], *(m for m in pool if m.configuration == name)]
    mine = [m for m in trained if not veto({m.task: scores[m]}, baseline)] or trained[:1]
    model = max(mine, key=lambda m: scores[m][OBJECTIVE])
    found = [test_predictions(m, root) for m in mine]
    together = torch.stack([logits.softmax(dim=-1) for logits, _ in found]).mean(dim=0)
    return Chosen(decision, model, accuracy(together, found[0][1]), scores[model]["accuracy"])
