"""Tune's side: the searcher that suggests the driver's jobs, and the scheduler that asks the driver."""

import logging
import re
from pathlib import Path
from typing import Any

import ray
from ray.tune import Stopper
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from iimt_search.errors import MachineError
from iimt_search.records import Evaluation, Finished, Report
from iimt_search.study.executors.ray.channel import Channel
from iimt_search.study.executors.ray.schedules import Schedule, job_of

# With nothing under way Tune asks once a second only; it is kept waiting within the question instead.
_IDLE_SUGGEST_SECONDS = 60.0


class JobSearcher(Searcher):
    """Suggests each submitted job once.

    Args:
        channel: where the driver puts jobs.
        constants: what every trial's configuration holds beside its job.
    """

    def __init__(self, channel: Channel, constants: dict[str, Any]) -> None:
        super().__init__()
        self._channel, self._constants = channel, constants
        self._begun = False

    def suggest(self, trial_id: str) -> Any:
        """Return a job as a configuration, None where there is none yet."""
        job = self._channel.next_job(0.0 if self._begun else _IDLE_SUGGEST_SECONDS)
        if job is None:
            return Searcher.FINISHED if self._channel.closed else None
        self._begun = True
        return {**self._constants, **job}

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Nothing: the scheduler publishes it to the driver."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the study is the state."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: a restarted driver submits its jobs again."""


# What Ray's text has in it → what to say; the first that fits.
_NO_MEMORY = "out of memory: Ray ended its process, its machine had almost no memory left"
_KILLED = "its process was killed; the machine may be out of memory"
_KNOWN = {
    "running low on memory": _NO_MEMORY,
    "outofmemoryerror": _NO_MEMORY,
    "node died": "its node is gone",
    "node was terminated": "its node is gone",
    "node failure": "its node is gone",
    "unavailable": "its node or its process is gone",
    "sigkill": _KILLED,
    "died unexpectedly": _KILLED,
}


def failure_reason(text: str) -> str:
    """Return one line on why a process died, from Ray's account of it, which is many lines."""
    if said := re.findall(rf"{MachineError.__name__}: (.+)", text):
        return str(said[-1]).strip()
    for mark, reason in _KNOWN.items():
        if mark in text.lower():
            return reason
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("Failure #")]
    return f"its process could not go on: {lines[-1]}" if lines else "its process is gone, nobody knows why"


_IDLE_SECONDS = 0.1
logger = logging.getLogger("ray.iimt_search")  # beside what Ray itself says, in the study's folder


class DriverScheduler(FIFOScheduler):
    """Turns results into reports and the driver's answers into decisions.

    A trial that has ended keeps its actor until the next job comes: Tune keeps at most one idle actor
    by itself, and starting one takes seconds.
    """

    def __init__(self, channel: Channel, schedule: Schedule | None = None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._channel, self._schedule = channel, schedule
        self._furthest: dict[str, int] = {}
        self._held: list[Trial] = []
        self._running = 0
        self._placed: set[Trial] = set()
        self._killed = False

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        """Count it."""
        self._running += 1
        if self._schedule is not None:
            self._schedule.add(trial)

    def _gone(self, trial: Trial) -> None:
        self._running -= 1
        if self._schedule is not None:
            self._schedule.remove(trial)

    def _end(self, trial: Trial, outcome: Finished) -> str:
        self._gone(trial)
        self._held.append(trial)
        self._channel.publish(outcome)
        return str(TrialScheduler.NOOP)

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """Report an evaluation and wait for the answer, or publish how the job ended."""
        key = job_of(trial).key
        if "ended" in result:
            return self._end(trial, Finished(key, result["ended"], result["error"]))
        answer = self._channel.request(Report(key, result["evaluation"], result["note"], result["again"]))
        if answer is None:  # closing: Tune stops every trial by itself
            return str(TrialScheduler.NOOP)
        go_on, scored = answer
        if not go_on:
            return self._end(trial, Finished(key, "stopped"))
        if (ended := self._ended_by_schedule(trial, scored or result["evaluation"])) is not None:
            return self._end(trial, ended)
        return str(TrialScheduler.CONTINUE)

    def _ended_by_schedule(self, trial: Trial, evaluation: Evaluation) -> Finished | None:
        """Return how Tune's own schedule, where there is one, ends the trial."""
        if self._schedule is None:
            return None
        job = job_of(trial)
        decided = max(job.known_step, self._furthest.get(job.key, 0))
        self._furthest[job.key] = max(evaluation.step, decided)
        return self._schedule.end(trial, evaluation, decided)

    def on_trial_error(self, tune_controller: Any, trial: Trial) -> None:
        """Publish that the process which ran the job is gone; the driver submits the job again."""
        self._gone(trial)
        try:
            text = Path(trial.error_file).read_text(encoding="utf-8", errors="replace")
        except OSError:
            text = ""
        logger.warning("%s is lost:\n%s", job_of(trial).key, text)
        self._channel.publish(Finished(job_of(trial).key, "lost", failure_reason(text)))

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        """Return the waiting trial that takes over an idle actor, None to leave the choice to Tune."""
        if self._channel.closed:
            self._kill(tune_controller)
            return None
        if self._running == 0:
            self._channel.wait_for_job(_IDLE_SECONDS)  # Tune has nothing to wait for and would spin
        if not self._held:
            return None
        self._placed = {trial for trial in self._placed if trial.status == Trial.PENDING}
        for trial in tune_controller.get_live_trials():
            if trial.status == Trial.PENDING and trial not in self._placed:
                self._placed.add(trial)
                tune_controller.stop_trial(self._held.pop())
                chosen: Trial = trial
                return chosen
        return None

    def _kill(self, tune_controller: Any) -> None:
        """Kill every actor, once: a training under way would not end for minutes."""
        trials = [] if self._killed else tune_controller.get_live_trials()
        self._killed = True
        for trial in trials:
            if (actor := trial.temporary_state.ray_actor) is not None:
                ray.kill(actor)


class ClosedStopper(Stopper):
    """Ends the Tune run when the channel is closed."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Return False: no result ends a trial by itself."""
        return False

    def stop_all(self) -> bool:
        """Return whether the run is over."""
        return self._channel.closed
