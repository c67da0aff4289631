"""The record of what was chosen, and why."""

import hashlib
import json
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import optuna

SCHEMA = 2
ATTRIBUTE = "choice"

Answer = Literal["trial", "source-only", "none"]


@dataclass(frozen=True)
class Candidate:
    """A configuration that was run again with fresh seeds.

    Attributes:
        name: ``trial-N`` or ``source-only``.
        scores: its objective for each fresh seed, averaged over the tasks.
        agreement: how far its models of different fresh seeds predict the same of the target, as Cohen's
            κ averaged over the tasks; None with one seed.
        veto: why it is out, or "".
    """

    name: str
    scores: tuple[float, ...]
    agreement: float | None = None
    veto: str = ""

    @property
    def mean(self) -> float:
        """Mean over the fresh seeds."""
        return sum(self.scores) / len(self.scores)


@dataclass(frozen=True)
class Choice:
    """What a study answers.

    Attributes:
        study: our study's name.
        tasks: the tasks that the answer is for.
        answer: ``trial``; ``source-only`` where no configuration beat the model without adaptation; or
            ``none``, no confident choice: source-only's models are handed out then, as the safest.
        trial: the number of the trial whose models are handed out; None for source-only.
        params: the searched parameters and their chosen values, with a fork's ``lambda_before``; empty for
            source-only.
        objective: the validator that decided.
        score: the objective's mean over tasks and fresh seeds.
        scores: task → validator → mean over the fresh seeds.
        candidates: everything that was confirmed, best first.
        reason: why this one, for people.
        flags: what to know before trusting it: parameters at a bound, an objective that the method trains,
            a change after an audit.
        vetoed: trial → why it was left out before the ranking.
        models: folder that holds one exported model for each task.
        members: task → keys of the jobs whose models are handed out, the best-scored first.
        retrained: task → validator → score of the first of them.
        few_shot: task → accuracy of the exported model on the labelled target samples that the user gave,
            in [0, 1], their number, and the 95 % interval ``low`` to ``high``; empty where none were given.
    """

    study: str
    tasks: tuple[str, ...]
    answer: Answer
    trial: int | None
    params: dict[str, Any]
    objective: str
    score: float
    scores: dict[str, dict[str, float]]
    candidates: tuple[Candidate, ...]
    reason: str
    flags: tuple[str, ...] = ()
    vetoed: dict[str, str] = field(default_factory=dict)
    models: str = ""
    members: dict[str, tuple[str, ...]] = field(default_factory=dict)
    retrained: dict[str, dict[str, float]] = field(default_factory=dict)
    few_shot: dict[str, dict[str, float]] = field(default_factory=dict)

    @property
    def candidate(self) -> str:
        """The name of the candidate whose models are handed out."""
        return "source-only" if self.trial is None else f"trial-{self.trial}"

    @property
    def title(self) -> str:
        """The answer in a few words, for people."""
        if self.answer == "none":
            return f"no confident choice, {self.candidate} is handed out"
        return self.candidate

    @property
    def digest(self) -> str:
        """A hash of what was chosen and trained; reasons and flags have no part in it."""
        candidates = [[candidate.name, candidate.scores] for candidate in self.candidates]
        content = [self.answer, self.trial, self.params, self.members, self.retrained, candidates]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {"schema": SCHEMA, **asdict(self)}

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> "Choice":
        """Return what :meth:`to_json` made."""
        values = {name: value for name, value in content.items() if name != "schema"}
        values["tasks"] = tuple(values["tasks"])
        values["flags"] = tuple(values["flags"])
        values["members"] = {task: tuple(jobs) for task, jobs in values["members"].items()}
        values["candidates"] = tuple(
            Candidate(**{**found, "scores": tuple(found["scores"])}) for found in values["candidates"]
        )
        return cls(**values)


def read_choice(study: optuna.Study) -> Choice | None:
    """Return the choice that a study holds, or None where it has not come to one (by this version)."""
    found = study.user_attrs.get(ATTRIBUTE)
    return None if found is None or found["schema"] != SCHEMA else Choice.from_json(found)


def write_choice(study: optuna.Study, choice: Choice | None) -> None:
    """Keep the choice in the study; None takes an earlier one back."""
    study.set_user_attr(ATTRIBUTE, None if choice is None else choice.to_json())
