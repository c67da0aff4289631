"""The executor contract: runs jobs, reports their evaluations, and takes the answer: go on, or stop.

An executor knows nothing of Optuna, samplers or selection. The driver is the only one that does, and
the only writer of the study.
"""

from collections.abc import Sequence
from typing import Protocol

from iimt_search.records import Evaluation, Event, Job


class Executor(Protocol):
    """Runs jobs for the driver.

    The life of a job: :meth:`submit`, then for each evaluation a
    :class:`~iimt_search.records.Report` out of :meth:`wait` and one :meth:`answer`, then one
    :class:`~iimt_search.records.Finished`. A stopped job ends as ``stopped``, one that raised
    as ``failed``, one that the machine failed as ``lost``: its process died, or there was no memory or disk.
    """

    @property
    def capacity(self) -> int:
        """How many jobs can run at once, at least 1."""

    def submit(self, job: Job) -> None:
        """Start a job. At most ``capacity`` may be under way."""

    def wait(self, timeout: float) -> Sequence[Event]:
        """Return what has happened, waiting at most ``timeout`` seconds for it; may be empty."""

    def answer(self, key: str, go_on: bool, scored: Evaluation | None = None) -> None:
        """Answer a job's report.

        Args:
            key: the job's.
            go_on: whether it shall.
            scored: the evaluation that was reported, with what only the driver can score, for an executor
                that stops jobs by itself.
        """

    def close(self) -> None:
        """End every job and process. Jobs under way keep their last checkpoint."""
