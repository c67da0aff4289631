"""What a run tells whoever watches it."""

from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True)
class Snapshot:
    """Where a run stands.

    Attributes:
        phase: ``search``, ``confirm`` or ``retrain``.
        done: share of the whole run's training steps that are done or will not be needed, in [0, 1].
        running: key of each job under way → share of its steps done.
        best: the best trial so far and its objective, as text, or "".
        curves: key of each job under way → its objective at each evaluation.
        states: state of ended trials, such as ``pruned`` → how many.
    """

    phase: str
    done: float
    running: dict[str, float]
    best: str
    curves: dict[str, tuple[float, ...]] = field(default_factory=dict)
    states: dict[str, int] = field(default_factory=dict)


class Listener(Protocol):
    """Receives a run's progress. Only the command line prints."""

    def line(self, text: str) -> None:
        """Something happened that is worth a line."""

    def snapshot(self, snapshot: Snapshot) -> None:
        """The run has moved on."""


class Silent:
    """A listener that hears nothing."""

    def line(self, text: str) -> None:
        """Ignore the line."""

    def snapshot(self, snapshot: Snapshot) -> None:
        """Ignore the snapshot."""
