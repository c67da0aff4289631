"""The way of each scope from its search to its choice, and of several side by side."""

import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

from iimt_search.errors import IimtSearchError, ModelFileError, NoChoiceError
from iimt_search.plain_text import markdown
from iimt_search.records import Choice, Evaluation, Job
from iimt_search.study import notes
from iimt_search.study.executors.base import Executor
from iimt_search.study.executors.runner import FixedJobs, JobRunner, Steps, UnderWay
from iimt_search.study.kept import KeptLimit, kept_limit
from iimt_search.study.progress import Listener, RunProgress, ScopeProgress
from iimt_search.study.retraining.retrain import Retraining
from iimt_search.study.scope import Scope
from iimt_search.study.search.budget import BudgetTracker, SearchTime
from iimt_search.study.search.reference import Reference
from iimt_search.study.search.trials import TrialSource
from iimt_search.study.selection.caveats import untrained
from iimt_search.study.selection.choice import note_change, read_choice, write_choice
from iimt_search.study.selection.confirm import Confirmation
from iimt_search.study.storage.driver import flush
from iimt_search.study.tracking import Tracking


class ScopeRun:
    """The way of one scope from its search to its choice.

    Args:
        scope: what is run.
        limit: of what the whole study keeps.
        listener: takes lines; where the study has several scopes, each with its task's name.

    Attributes:
        scope: the scope.
        clock: how long its search has had the workers.
        progress: how far it has come.
    """

    def __init__(self, scope: Scope, limit: KeptLimit, listener: Listener) -> None:
        self.scope, self._limit, self._listener = scope, limit, listener
        trials = scope.study.get_trials(deepcopy=False)
        tracker = BudgetTracker(trials, scope.space.train.steps, scope.higher_is_better)
        self.clock = SearchTime(scope.space.budget.timeout)
        self.progress = ScopeProgress(scope, tracker, self.clock)
        self._reference = Reference(scope)

    def _line(self, text: str) -> None:
        name = self.scope.task_names[0]
        told = not self.scope.prefix or name in text or text.startswith(self.scope.prefix)
        self._listener.line(text if told else f"{name}: {text}")

    def score(self, job: Job, evaluation: Evaluation) -> Evaluation:
        """Return an evaluation with what only the driver can score."""
        return self._reference.complete(job, evaluation)

    def _enter(self, phase: str, jobs: list[Job]) -> None:
        self._limit.look_again()
        self.progress.enter(phase, jobs)
        self._line(f"{phase}: {len(jobs)} trainings" if jobs else f"{phase}: nothing left to do")

    def _note(self, choice: str) -> None:
        scope = self.scope
        source_only = scope.stored(scope.source_only_job().key)
        notes.note_study(scope.study, scope.task_names, scope.objective, source_only, choice)

    def _source_only_missing(self) -> list[Job]:
        """Return source-only's jobs that are not there; of the baseline, its scores are enough."""
        scope = self.scope
        baseline, *fresh = scope.source_only_jobs()
        known = scope.stored(baseline.key)
        scored = known is not None and (scope.objective in known.validators or scope.have(baseline))
        return [*([] if scored else [baseline]), *(job for job in fresh if not scope.have(job))]

    def steps(self) -> Steps[Choice]:
        """Search, confirm, retrain and choose.

        Raises:
            NoChoiceError: every candidate failed, or a retraining of the chosen one.
            ModelFileError: what a job has kept is missing or damaged.
        """
        scope, line = self.scope, self._line
        self.clock.begin()
        previous = read_choice(scope.study)
        self._note("" if previous is None else markdown(previous.reason))
        tracking, limit = Tracking(scope, scope.space.track, line), kept_limit(scope, self._limit, line)

        def ended(key: str) -> None:
            limit(key)
            tracking.update()

        if scope.space.pruning != scope.space.pruner:
            line("no trial is pruned: Optuna's search of two objectives, the cost among them, has no pruner")
        alone = FixedJobs(self._source_only_missing(), scope.objective, scope.store, line)
        source = TrialSource(scope, line, self.clock.over, ended, alone.over)
        over = f"; {source.budget.over} trials are there already" if source.budget.over else ""
        line(f"search: {', '.join(scope.task_names)}{over}")
        self.progress.budget, reference = source.budget, source.reference
        self._limit.look_again()
        self.progress.enter("search")
        yield alone, source
        for job in scope.source_only_jobs():
            if (known := scope.stored(job.key)) is not None:
                if reference.wanted and not reference.made:  # every trial failed
                    reference.make([job])
                scope.store(job, reference.complete(job, known))

        confirmation = Confirmation(scope, line, alone.errors)
        self._enter("confirm", confirmation.missing())
        choice = yield from confirmation.steps()
        choice = replace(choice, caveats=(*choice.caveats, *untrained(alone.errors)))
        retraining = Retraining(scope, choice, line)
        self._enter("retrain", retraining.missing())
        choice = note_change(scope.study, (yield from retraining.steps()))
        write_choice(scope.study, choice)
        tracking.choose(choice)
        head = f"**{markdown(choice.title)}**: {markdown(choice.reason)}"
        listed = "".join(f"- Note: {markdown(caveat)}\n" for caveat in choice.caveats)
        score = f"{choice.objective} {choice.score:.4f}"
        self._note(f"{head}; {score}\n\n{listed}\n{notes.score_table(choice.scores)}")
        return choice

    def steps_to_the_end(self) -> Steps[Choice | IimtSearchError]:
        """Return the choice, or why there is none: other scopes go on."""
        try:
            return (yield from self.steps())
        except (NoChoiceError, ModelFileError) as error:
            if self.scope.prefix:
                self._line(f"{self.scope.task_names[0]}: no choice: {error}")
            return error
        finally:
            self.progress.enter("")


def run_scopes(
    scopes: list[Scope], executor: Executor, listener: Listener, stop: threading.Event
) -> list[Choice]:
    """Run all scopes side by side.

    Raises:
        NoChoiceError: one of them came to no choice; the others have theirs.
    """
    space, folder = scopes[0].space, scopes[0].folder
    limit = KeptLimit(folder, [task.name for task in space.tasks], space.keep.megabytes * 1_000_000)
    runs = {scope.prefix: ScopeRun(scope, limit, listener) for scope in scopes}
    progress = RunProgress([run.progress for run in runs.values()], executor, listener)

    def watch(running: Mapping[str, UnderWay]) -> None:
        flush(scopes[0].study)
        jobs = Counter(each.job.prefix for each in running.values())
        for prefix, run in runs.items():
            run.clock.charge(jobs[prefix], len(running))
        progress.watch(running)

    def score(job: Job, evaluation: Evaluation) -> Evaluation:
        return runs[job.prefix].score(job, evaluation)

    runner = JobRunner(executor, stop, watch, score, listener.line)
    found = runner.carry_out([run.steps_to_the_end() for run in runs.values()])
    errors = {
        scope.task_names[0]: error
        for scope, error in zip(scopes, found, strict=True)
        if isinstance(error, IimtSearchError)
    }
    if errors and not scopes[0].prefix:
        raise next(iter(errors.values()))
    if errors:
        raise NoChoiceError("; ".join(f"{name}: {error}" for name, error in errors.items()))
    return [choice for choice in found if isinstance(choice, Choice)]
