"""How long jobs take, measured as they report, and how long the jobs that are to come will take."""

import heapq
import time
from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from iimt_search.methods import active_groups
from iimt_search.records import Job

if TYPE_CHECKING:
    from iimt_search.study.executors.runner import UnderWay

# A step without virtual labels and mixtures takes about a fifth of a full one.
PLAIN_STEP = 0.2


def is_plain(job: Job) -> bool:
    """Return whether a job's steps are without virtual labels and mixtures, as source-only's are."""
    return set(active_groups(job.settings)) <= {"s", "t"}


def steps_of(job: Job) -> int:
    """Return a job's training steps over all its tasks."""
    return job.settings.steps * len(job.tasks)


class Pace:
    """Seconds that a training step takes, with its share of evaluations, for each scope and kind of step."""

    def __init__(self) -> None:
        self._seconds: dict[tuple[str, bool], float] = defaultdict(float)
        self._steps: dict[tuple[str, bool], int] = defaultdict(int)
        self._noted: dict[str, tuple[int, float, int]] = {}
        self._first: set[str] = set()
        self._started = 0

    def note(self, running: "Mapping[str, UnderWay]", capacity: int) -> None:
        """Take what the jobs under way, by key, have reported; as many as ``capacity`` run at once."""
        for gone in self._noted.keys() - running.keys():
            del self._noted[gone]
            self._first.discard(gone)
        for key, each in running.items():
            if key not in self._noted:
                self._noted[key] = (0, 0.0, 0)
                if self._started < capacity:
                    self._first.add(key)
                self._started += 1
            count, seconds, steps = self._noted[key]
            if len(each.times) != count:
                now, done = self._measured(each, key in self._first)
                kind = each.job.prefix, is_plain(each.job)
                self._seconds[kind] += now - seconds
                self._steps[kind] += done - steps
                self._noted[key] = len(each.times), now, done

    def _measured(self, each: "UnderWay", first: bool) -> tuple[float, int]:
        """Return seconds and steps of what a job has trained since it was started.

        Of a worker's first job the start of its process is left out, once that can be told: its first
        evaluation counts as no longer than its second.
        """
        between = [b - a for a, b in zip([each.began, *each.times], each.times, strict=False)]
        if first and len(between) > 1:
            between[0] = min(between[:2])
        steps = each.curve[-1].step - each.resumed if each.curve else 0
        return sum(between), steps * len(each.job.tasks)

    def of_step(self, prefix: str, plain: bool) -> float | None:
        """Return the seconds of one step on one task; None where nothing like it was measured.

        Where the scope has trained nothing of the kind, it is taken for as fast as the others.
        """
        if self._steps.get((prefix, plain)):
            return self._seconds[prefix, plain] / self._steps[prefix, plain]
        alike = [kind for kind, steps in self._steps.items() if kind[1] is plain and steps]
        if alike:
            return sum(self._seconds[kind] for kind in alike) / sum(self._steps[kind] for kind in alike)
        full = self.of_step(prefix, False) if plain else None
        return None if full is None else PLAIN_STEP * full

    def left(self, each: "UnderWay") -> float | None:
        """Return the seconds that a job under way will still take; None where nothing was measured."""
        of_step = self.of_step(each.job.prefix, is_plain(each.job))
        if of_step is None:
            return None
        reported = each.times[-1] if each.times else each.began
        whole = (1 - each.share) * steps_of(each.job) * of_step
        return max(0.0, whole - (time.monotonic() - reported))


def makespan(
    under_way: Sequence[Sequence[float]], to_come: Sequence[Sequence[Sequence[float]]], capacity: int
) -> float:
    """Return how many seconds several plans take side by side, as a runner hands out their jobs.

    Args:
        under_way: of each plan, the seconds that each of its jobs under way still takes.
        to_come: of each plan, its steps, the present one first; of each step the seconds of each job.
        capacity: how many jobs run at once.
    """
    queues = [deque(map(deque, steps)) for steps in to_come]
    at_work = [len(jobs) for jobs in under_way]
    ends = [(seconds, plan) for plan, jobs in enumerate(under_way) for seconds in jobs]
    heapq.heapify(ends)
    now, plans = 0.0, range(len(queues))

    def next_of(plan: int) -> float | None:
        steps = queues[plan]
        while steps and not steps[0] and not at_work[plan]:
            steps.popleft()
        return steps[0].popleft() if steps and steps[0] else None

    while True:
        while len(ends) < capacity:
            for plan in sorted(plans, key=at_work.__getitem__):
                if (seconds := next_of(plan)) is not None:
                    at_work[plan] += 1
                    heapq.heappush(ends, (now + seconds, plan))
                    break
            else:
                break
        if not ends:
            return now
        now, plan = heapq.heappop(ends)
        at_work[plan] -= 1
