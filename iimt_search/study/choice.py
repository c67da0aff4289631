"""The record of what was chosen, and why."""

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import optuna

SCHEMA = 1
ATTRIBUTE = "choice"


@dataclass(frozen=True)
class Candidate:
    """A configuration that was run again with fresh seeds.

    Attributes:
        name: ``trial-N`` or ``source-only``.
        scores: its objective for each fresh seed, averaged over the tasks.
    """

    name: str
    scores: tuple[float, ...]

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
        answer: ``trial``, or ``source-only`` where no configuration beat the model without adaptation.
        trial: the chosen trial's number; None for source-only.
        params: the searched parameters and their chosen values; empty for source-only.
        objective: the validator that decided.
        score: the objective's mean over tasks and fresh seeds.
        scores: task → validator → mean over the fresh seeds.
        candidates: everything that was confirmed, best first.
        reason: why this one, for people.
        models: folder that holds one exported model for each task.
        retrained: task → validator → score of the exported models.
    """

    study: str
    tasks: tuple[str, ...]
    answer: Literal["trial", "source-only"]
    trial: int | None
    params: dict[str, Any]
    objective: str
    score: float
    scores: dict[str, dict[str, float]]
    candidates: tuple[Candidate, ...]
    reason: str
    models: str = ""
    retrained: dict[str, dict[str, float]] = field(default_factory=dict)

    @property
    def candidate(self) -> str:
        """The chosen candidate's name."""
        return self.answer if self.trial is None else f"trial-{self.trial}"

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {"schema": SCHEMA, **asdict(self)}

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> "Choice":
        """Return what :meth:`to_json` made."""
        values = {name: value for name, value in content.items() if name != "schema"}
        values["tasks"] = tuple(values["tasks"])
        values["candidates"] = tuple(
            Candidate(found["name"], tuple(found["scores"])) for found in values["candidates"]
        )
        return cls(**values)


def read_choice(study: optuna.Study) -> Choice | None:
    """Return the choice that a study holds, or None where it has not come to one."""
    found = study.user_attrs.get(ATTRIBUTE)
    return None if found is None else Choice.from_json(found)


def write_choice(study: optuna.Study, choice: Choice | None) -> None:
    """Keep the choice in the study; None takes an earlier one back."""
    study.set_user_attr(ATTRIBUTE, None if choice is None else choice.to_json())
