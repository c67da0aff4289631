"""Runs jobs within one process, side by side; the trainings of several are one batched computation.

The driver's own process with ``workers=0``, for debugging; a worker's otherwise.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from iimt_search.errors import describe, machine_failed
from iimt_search.records import Evaluation, Event, Finished, Job, Report, Status

if TYPE_CHECKING:
    from iimt_search.training.trainable import Trainable


@dataclass
class _Member:
    job: Job
    trainable: "Trainable | None" = None
    unreported: deque[Evaluation] = field(default_factory=deque)
    waits: bool = False
    go_on: bool = True


def _report(member: _Member, evaluation: Evaluation, again: bool = False) -> Report:
    """Return a job's report, with what there is to be told of it, once."""
    notes = [] if member.trainable is None else member.trainable.notes
    told = "; ".join(notes)
    notes.clear()
    return Report(member.job.key, evaluation, told, again)


def _without_training(member: _Member) -> Event | None:
    """Return a job's event that needs no training; None where it is ready to train."""
    if not member.go_on:
        return Finished(member.job.key, "stopped")
    if member.trainable is None:
        from iimt_search.training.trainable import Trainable

        member.trainable = Trainable(member.job)
        member.unreported.extend(member.trainable.history)
    if member.unreported:
        return _report(member, member.unreported.popleft(), again=True)
    return Finished(member.job.key, "complete") if member.trainable.done else None


def _train(member: _Member) -> Event | None:
    """Train a job up to its next evaluation, and evaluate it."""
    return None if member.trainable is None else _report(member, member.trainable.advance())


def _train_together(trainables: "list[Trainable]") -> None:
    from iimt_search.training.population import advance_together

    pairs = [(training, trainable.next_step) for trainable in trainables for training in trainable.trainings]
    advance_together([training for training, _ in pairs], [step for _, step in pairs])


class InlineExecutor:
    """An executor without processes.

    Evaluations that a checkpoint already holds are reported again first, so that a driver which lost them
    gets the whole curve. A job that raises ends alone: ``failed``, or ``lost`` where the machine failed it.

    Args:
        debug: the error of a failed job is its traceback.
        population: how many jobs train side by side.
    """

    def __init__(self, debug: bool = False, population: int = 1) -> None:
        self._debug, self._capacity = debug, population
        self._members: dict[str, _Member] = {}

    def __len__(self) -> int:
        return len(self._members)

    @property
    def capacity(self) -> int:
        """The population."""
        return self._capacity

    @property
    def waiting(self) -> bool:
        """Whether a job waits for the answer to its report."""
        return any(member.waits for member in self._members.values())

    def submit(self, job: Job) -> None:
        """Take a job; it begins at the next :meth:`wait`."""
        if len(self) == self._capacity:
            raise RuntimeError(f"all {self._capacity} places are taken")
        self._members[job.key] = _Member(job)

    def answer(self, key: str, go_on: bool, scored: Evaluation | None = None) -> None:
        """Note the answer for the next :meth:`wait`."""
        member = self._members[key]
        member.waits, member.go_on = False, go_on

    def close(self) -> None:
        """Drop the jobs under way."""
        self._members = {}

    def _guarded(self, member: _Member, work: Callable[[_Member], Event | None]) -> Event | None:
        """Do some of a job's work; what it raises becomes the job's end."""
        try:
            event = work(member)
        except Exception as error:  # whatever a job raises fails that job, not its process
            return self._fail(member, error)
        if isinstance(event, Report):
            member.waits = True
        elif isinstance(event, Finished):
            del self._members[member.job.key]
        return event

    def _fail(self, member: _Member, error: Exception) -> Event:
        del self._members[member.job.key]
        status: Status = "lost" if machine_failed(error) else "failed"
        return Finished(member.job.key, status, describe(error, self._debug))

    def wait(self, timeout: float) -> list[Event]:
        """Train the jobs that wait for no answer up to their next evaluation, whatever ``timeout`` is.

        Where a job has an event without training, as a report from its checkpoint, nothing is trained.

        Returns:
            What happened, at least one event where a job waits for no answer.
        """
        ready = [member for member in self._members.values() if not member.waits]
        before = [self._guarded(member, _without_training) for member in ready]
        if events := [event for event in before if event is not None]:
            return events
        if len(ready) > 1:
            try:
                _train_together([member.trainable for member in ready if member.trainable is not None])
            except Exception as error:  # of what they do together: none of them can go on
                return [self._fail(member, error) for member in ready]
        trained = [self._guarded(member, _train) for member in ready]
        return [event for event in trained if event is not None]
