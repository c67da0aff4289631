"""Runs one job at a time within the driver's own process: ``--workers 0``, for debugging."""

from collections.abc import Iterator, Sequence

from iimt_search.records import Event, Finished, Job, Report
from iimt_search.study.worker import describe, run_job


class InlineExecutor:
    """An executor without processes; each :meth:`wait` trains up to the next evaluation."""

    def __init__(self, debug: bool = False) -> None:
        self._debug = debug
        self._key = ""
        self._reports: Iterator[Report] | None = None
        self._go_on = True

    @property
    def capacity(self) -> int:
        """One."""
        return 1

    def submit(self, job: Job) -> None:
        """Take the job; it runs within :meth:`wait`."""
        if self._reports is not None:
            raise RuntimeError(f"job {self._key} is under way")
        self._key, self._reports, self._go_on = job.key, run_job(job), True

    def wait(self, timeout: float) -> Sequence[Event]:
        """Train up to the next evaluation, whatever ``timeout`` is."""
        if self._reports is None:
            return ()
        try:
            if self._go_on:
                return (next(self._reports),)
            outcome = Finished(self._key, "stopped")
        except StopIteration:
            outcome = Finished(self._key, "complete")
        except Exception as error:  # whatever a job raises fails that job, not the driver
            outcome = Finished(self._key, "failed", describe(error, self._debug))
        self._reports = None
        return (outcome,)

    def answer(self, key: str, go_on: bool) -> None:
        """Note the answer for the next :meth:`wait`."""
        self._go_on = go_on

    def close(self) -> None:
        """Drop the job under way."""
        self._reports = None
