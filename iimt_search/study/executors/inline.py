"""Runs jobs within the driver's own process: ``workers=0``, for debugging."""

from collections.abc import Sequence

from iimt_search.records import Event, Job
from iimt_search.study.executors.job_set import JobSet


class InlineExecutor:
    """An executor without processes; each :meth:`wait` trains up to the next evaluation.

    Args:
        debug: the error of a failed job is its traceback.
        population: how many jobs train side by side, as one batched computation.
    """

    def __init__(self, debug: bool = False, population: int = 1) -> None:
        self._capacity, self._jobs = population, JobSet(debug)

    @property
    def capacity(self) -> int:
        """The population."""
        return self._capacity

    def submit(self, job: Job) -> None:
        """Take the job; it runs within :meth:`wait`."""
        if len(self._jobs) == self._capacity:
            raise RuntimeError(f"all {self._capacity} places are taken")
        self._jobs.add(job)

    def wait(self, timeout: float) -> Sequence[Event]:
        """Train up to the next evaluation, whatever ``timeout`` is."""
        return self._jobs.advance()

    def answer(self, key: str, go_on: bool) -> None:
        """Note the answer for the next :meth:`wait`."""
        self._jobs.answer(key, go_on)

    def close(self) -> None:
        """Drop the jobs under way."""
        self._jobs = JobSet()
