"""The channel between the driver's thread and Tune's thread: jobs, events and answers."""

import threading
from collections import deque
from collections.abc import Sequence
from typing import Any

from iimt_search.records import Evaluation, Event, Report


class Channel:
    """Jobs and answers go to Tune's thread, events come back; either side may close it.

    Attributes:
        closed: no more jobs come, and nobody answers.
        error: what ended Tune's thread, or None.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._jobs: deque[dict[str, Any]] = deque()
        self._events: deque[Event] = deque()
        self._answers: dict[str, tuple[bool, Evaluation | None]] = {}
        self.closed = False
        self.error: BaseException | None = None

    def __getstate__(self) -> dict[str, object]:
        return {}  # Tune writes down what it was given; there is nothing in here to read back

    def _put(self, queue: deque[Any], item: Any) -> None:
        with self._changed:
            queue.append(item)
            self._changed.notify_all()

    def submit(self, config: dict[str, Any]) -> None:
        """Send a job to Tune: ``job``, and what its trial's configuration holds beside."""
        self._put(self._jobs, config)

    def publish(self, event: Event) -> None:
        """Send an event to the driver."""
        self._put(self._events, event)

    def answer(self, key: str, go_on: bool, scored: Evaluation | None = None) -> None:
        """Answer a job's report: whether it goes on, and the evaluation with the driver's scores."""
        with self._changed:
            self._answers[key] = go_on, scored
            self._changed.notify_all()

    def close(self, error: BaseException | None = None) -> None:
        """End the channel and wake whoever waits."""
        with self._changed:
            self.closed, self.error = True, self.error or error
            self._changed.notify_all()

    def events(self, timeout: float) -> Sequence[Event]:
        """Return what has happened, waiting at most ``timeout`` seconds for it."""
        with self._changed:
            self._changed.wait_for(lambda: self._events or self.closed, timeout)
            events = tuple(self._events)
            self._events.clear()
            return events

    def wait_for_job(self, timeout: float) -> None:
        """Wait at most ``timeout`` seconds for a job, and leave it where it is."""
        with self._changed:
            self._changed.wait_for(lambda: self._jobs or self.closed, timeout)

    def next_job(self, timeout: float) -> dict[str, Any] | None:
        """Return the next job, waiting at most ``timeout`` seconds for one."""
        self.wait_for_job(timeout)
        return self._jobs.popleft() if self._jobs and not self.closed else None

    def request(self, report: Report) -> tuple[bool, Evaluation | None] | None:
        """Send a report to the driver and return its answer, None where the channel is closed."""
        with self._changed:
            self._answers.pop(report.key, None)
            self.publish(report)
            self._changed.wait_for(lambda: report.key in self._answers or self.closed)
            return self._answers.pop(report.key, None)
