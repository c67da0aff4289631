"""The source of trials: asks Optuna for them, reports to it, prunes, and says how each ended."""

import math
import shutil
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, Trial, TrialState

from iimt_search.records import Evaluation, Finished, Fork, Job, shown_cost
from iimt_search.settings import shown_value, with_new_names
from iimt_search.space.growth import earlier_values
from iimt_search.study import notes
from iimt_search.study.scope import Scope
from iimt_search.study.search.budget import MACHINE, BudgetTracker
from iimt_search.study.search.forks import DRAWN, EARLIER, FORKED_AT, branch_off, forked_at
from iimt_search.study.search.reference import Reference
from iimt_search.study.search.sampling import default_params, distributions, make_sampler
from iimt_search.study.search.trial_record import DEFAULT_ORIGIN, SCORES, not_a_number
from iimt_search.study.storage.driver import transaction
from iimt_search.study.veto import veto
from iimt_search.training.trainable import evaluation_steps


def _suggest(trial: Trial, name: str, dist: optuna.distributions.BaseDistribution) -> Any:
    """Suggest by the public API what ``study.ask`` suggests; a stored value is returned as it is."""
    match dist:
        case FloatDistribution():
            return trial.suggest_float(name, dist.low, dist.high, step=dist.step, log=dist.log)
        case IntDistribution():
            return trial.suggest_int(name, dist.low, dist.high, step=dist.step, log=dist.log)
        case CategoricalDistribution():
            return trial.suggest_categorical(name, dist.choices)
        case _:
            raise TypeError(f"no such distribution: {dist!r}")


# The origin of a configuration that the space file lists.
_NAMED = "space file"


@dataclass
class _Running:
    """A trial under way.

    Attributes:
        trial: Optuna's.
        job: what runs.
        params: its configuration.
        forked_at: the step after which it branched off another trial, 0 for one of its own.
        reported: the steps whose objective Optuna has.
        last: the last evaluation.
        error: what was wrong with it, or "".
    """

    trial: Trial
    job: Job
    params: Mapping[str, Any]
    forked_at: int
    reported: set[int]
    last: Evaluation | None = None
    error: str = ""


class TrialSource:
    """Trials of one Optuna study, until the budget is used.

    Trials that a dead driver left RUNNING come first: they go on from their checkpoint, or from the
    start where they had none, under the same number, parameters and seed. A fork, which branches off
    another trial's training, takes the place of the trial that ended for it.

    Where the objective compares with the study's reference, trials that end before it is made are held, and
    told to Optuna when the first few have ended and it is there.

    Args:
        scope: the study, its space and tasks.
        line: takes a line of text for each finished trial.
        out_of_time: returns whether the budget's wall time is over.
        ended: called with its job's key after each trial's end.
        source_only_over: returns whether source-only's trainings have ended, on which the reference leans.

    Attributes:
        budget: what the trials have used, and the best of them.
        reference: the study's.
    """

    def __init__(
        self,
        scope: Scope,
        line: Callable[[str], None],
        out_of_time: Callable[[], bool],
        ended: Callable[[str], None],
        source_only_over: Callable[[], bool] = lambda: True,
    ) -> None:
        self._source_only_over = source_only_over
        self._scope, self._line, self._out_of_time, self._ended = scope, line, out_of_time, ended
        self._space, self._study = scope.space, scope.study
        self.reference = Reference(scope)
        self._running: dict[str, _Running] = {}
        self._held: list[_Running] = []
        trials = self._study.get_trials(deepcopy=False)
        self.budget = BudgetTracker(trials, self._space.train.steps, scope.higher_is_better)
        self._left_running = [trial for trial in trials if trial.state is TrialState.RUNNING]
        self._baseline: dict[str, dict[str, float]] | None = None
        self._enqueue_first(trials)

    def _enqueue_first(self, trials: list[FrozenTrial]) -> None:
        """Enqueue the default configuration and those of the space file that are not there.

        In one transaction where the storage can; where it cannot, a kill in between leaves the first few.
        """
        default = default_params(self._space)
        for trial in trials:
            fixed = trial.system_attrs.get("fixed_params")
            whole = earlier_values(self._space.canonical()) if forked_at(trial) else default
            if trial.state is TrialState.WAITING and fixed and whole.keys() - fixed.keys():
                # Queued before some of the parameters were searched.
                given = {**whole, **fixed}
                self._study._storage.set_trial_system_attr(trial._trial_id, "fixed_params", given)
        rows = [(default, DEFAULT_ORIGIN), *(({**default, **row}, _NAMED) for row in self._space.first)]
        if any(trial.user_attrs.get("origin") not in (DEFAULT_ORIGIN, _NAMED) for trial in trials):
            return  # the search has gone on since
        with transaction(self._study):
            for params, origin in rows[len(trials) :]:
                self._study.enqueue_trial(params, user_attrs={"origin": origin})

    def _budget_left(self) -> bool:
        budget, tracker = self._space.budget, self.budget
        if budget.trials is not None and tracker.begun >= budget.trials and not self._fork_waits():
            return False
        if budget.steps is not None and tracker.steps * len(self._scope.tasks) >= budget.steps:
            return False
        return not self._out_of_time()

    def _waiting(self) -> list[FrozenTrial]:
        return self._study.get_trials(deepcopy=False, states=[TrialState.WAITING])

    def _fork_waits(self) -> bool:
        """Return whether the trial that would be begun next is a fork."""
        return any(forked_at(trial) > 0 for trial in self._waiting()[:1])

    def next_job(self) -> Job | None:
        """Return the next trial as a job."""
        if self._held:
            self._settle()  # source-only's trainings may have ended meanwhile
        while (running := self._next()) is not None:
            job = running.job
            if not (self.reference.objective and self._scope.have(job)):
                self._running[job.key] = running
                return job
            running.last = self._scope.stored(job.key)  # it was held when the driver died
            self._hold(running)
            self._settle()  # before the next is asked for, as where no driver has died
        self._settle(none_follows=not self._running)
        return None

    def _next(self) -> _Running | None:
        """Return the next trial; None where there is none."""
        with transaction(self._study):
            if self._left_running:
                left = self._left_running.pop(0)
                self._study.sampler = make_sampler(self._space, left.number)
                trial = Trial(self._study, left._trial_id)
                reported = set(left.intermediate_values)
                self._line(f"trial {left.number} was left unfinished, goes on")
            elif self._budget_left():
                trial, reported = self._ask(), set()
                if (drawn := self._scope.drawn) and not forked_at(trial):  # a fork is as its donor
                    trial.set_user_attr(DRAWN, drawn)
            else:
                return None
            with warnings.catch_warnings():
                # An enqueued default may leave a parameter to the sampler; that is meant so.
                warnings.simplefilter("ignore")
                params = {
                    name: _suggest(trial, name, dist) for name, dist in distributions(self._space).items()
                }
        attributes = trial.user_attrs  # a copy, each time
        if (earlier := with_new_names(attributes).get(EARLIER)) is not None:
            params[EARLIER] = earlier
        branched = attributes.get(FORKED_AT, 0)
        job = self._scope.trial_job(trial.number, params, attributes)
        job = replace(job, known_step=max([*reported, branched]))
        return _Running(trial, job, params, branched, reported)

    def _ask(self) -> Trial:
        waiting = self._waiting()
        number = waiting[0].number if waiting else len(self._study.get_trials(deepcopy=False))
        self._study.sampler = make_sampler(self._space, number)
        trial = self._study.ask()
        self.budget.begin(trial.number, forked_at(trial))
        return trial

    def evaluated(self, job: Job, evaluation: Evaluation) -> bool:
        """Report the objective to Optuna; returns False to prune, or where it is not a number."""
        running, objective = self._running[job.key], self._space.objective
        trial, reported = running.trial, running.reported
        running.last = evaluation
        if objective not in evaluation.validators:
            self.budget.reach(trial.number, evaluation.step)
            return True  # computed at the training's end, or when the reference is there
        value = evaluation.mean(objective)
        if not math.isfinite(value):
            running.error = not_a_number(objective, value, evaluation.step)
            return False
        if evaluation.step not in reported:
            self._report(running, evaluation)
        elif evaluation.step < max(reported):
            return True  # reported before, and let go on then
        # Up to the fork it is its donor's; at its end a trial is complete, whatever the pruner thinks.
        between = running.forked_at < evaluation.step < job.settings.steps
        return not (between and not self._space.cost.is_objective and trial.should_prune())

    def finished(self, job: Job, outcome: Finished) -> None:
        """Take a trial's end: tell Optuna, or hold it until its objective can be computed."""
        running = self._running.pop(job.key)
        last, steps = running.last, job.settings.steps
        unscored = last is not None and self._space.objective not in last.validators
        if outcome.status == "complete" and self.reference.objective and unscored:
            if last is not None and last.step == steps:
                self._scope.store(job, last)  # else it would be trained again after a kill
            self._hold(running)
        else:
            self._tell(running, outcome)
        self._settle()

    def _hold(self, running: _Running) -> None:
        self._held.append(running)
        self.budget.held = len(self._held)

    def _settle(self, none_follows: bool = False) -> None:
        """Make the reference when the first trials have ended, and tell the trials that waited for it.

        Args:
            none_follows: no trial is under way or will begin: it is made of those that there are.
        """
        if not self.reference.wanted or (self.reference.made and not self._held):
            return
        if not self.reference.made:
            if not self._make_reference(none_follows):
                return
            for running in self._running.values():
                if running.last is not None and self.reference.kept(running.job, running.last.step):
                    self._report_earlier(running)
        held, self._held = sorted(self._held, key=lambda running: running.trial.number), []
        self.budget.held = 0
        for running in held:
            self._report_earlier(running)
            self._tell(running, Finished(running.job.key, "complete"))

    def _report_earlier(self, running: _Running) -> None:
        """Report the objective of a trial's evaluations that were made before the reference."""
        last = running.last
        if last is None or not self.reference.objective:
            return
        for step in evaluation_steps(running.job.settings):
            if step < last.step and self.reference.kept(running.job, step):
                unscored = Evaluation(step, {task: {} for task in self._scope.task_names})
                self._report(running, self.reference.complete(running.job, unscored))
        running.last = self.reference.complete(running.job, last)
        self._report(running, running.last)

    def _make_reference(self, none_follows: bool) -> bool:
        """Make the reference where the first trials have ended; returns whether it was made."""
        if not self._source_only_over():
            return False
        first = self._space.reference.trials
        trials = {trial.number: trial for trial in self._study.get_trials(deepcopy=False)}
        jobs = {running.trial.number: running.job for running in self._held}
        for number, trial in trials.items():
            if trial.state is TrialState.COMPLETE:
                jobs[number] = self._scope.trial_job(number, trial.params)
        failed = {number for number, trial in trials.items() if trial.state.is_finished()}
        if not none_follows:
            if not failed.union(jobs).issuperset(range(first)):
                return False
            jobs = {number: job for number, job in jobs.items() if number < first}
        if not jobs or not self.reference.make([jobs[number] for number in sorted(jobs)]):
            return False
        self._line(f"reference: what {len(jobs)} trials and source-only together say of the target")
        return True

    def _report(self, running: _Running, evaluation: Evaluation) -> None:
        """Report the objective of a step to Optuna, once."""
        value, step = evaluation.mean(self._space.objective), evaluation.step
        if not math.isfinite(value):
            running.error = not_a_number(self._space.objective, value, step)
        elif step not in running.reported:
            if self._space.cost.is_objective:  # it refuses two; the curve is of the first
                self._study._storage.set_trial_intermediate_value(running.trial._trial_id, step, value)
            else:
                running.trial.report(value, step)
            running.reported.add(step)
            self.budget.reach(running.trial.number, step)

    def _tell(self, running: _Running, outcome: Finished) -> None:
        """Tell Optuna COMPLETE, PRUNED or FAIL, with every validator's score as attribute."""
        job, trial, evaluation = running.job, running.trial, running.last
        error, second = running.error or outcome.error, self._space.cost.is_objective
        cost = self._space.cost.name
        if outcome.status == "complete" and evaluation and second and cost not in evaluation.cost:
            error = error or f"its {cost} are not known"  # an objective has to be
        if error:
            state, value = TrialState.FAIL, None
        elif outcome.status == "stopped" or evaluation is None:
            state, value = TrialState.PRUNED, None
        else:
            state, value = TrialState.COMPLETE, evaluation.mean(self._space.objective)
        # A driver that is killed before this trial's end is written goes on with both.
        branched = "" if outcome.fork is None else self._branch(outcome.fork)
        lost = outcome.status == "lost"  # the machine's fault: no verdict on the configuration
        with transaction(self._study):
            if lost:
                trial.set_user_attr(MACHINE, True)
            vetoed = self._note(trial, job, evaluation, error)
            origin = trial.user_attrs.get("origin", "")
            notes.note_trial(trial, job, running.params, origin, evaluation, error, vetoed)
            costs = [evaluation.cost.get(cost, 0.0)] if evaluation is not None and second else []
            self._study.tell(trial, None if value is None else [value, *costs], state=state)
        self.budget.end(trial.number, state, value, counts=not lost)
        self._line(self._describe(running, state, error) + ("; it does not count" if lost else ""))
        if branched:
            self._line(branched)
        self._ended(job.key)

    def _branch(self, fork: Fork) -> str:
        """Add the trial that goes on from another one's checkpoint, to be begun next; returns a line."""
        donor = self._running.get(fork.donor)
        number = len(self._study.get_trials(deepcopy=False))
        attributes = None
        if donor is not None:
            job = self._scope.trial_job(number, donor.trial.params)
            attributes = branch_off(donor.job, donor.trial.number, Path(job.folder))
            if attributes is not None and DRAWN in donor.trial.user_attrs:
                attributes[DRAWN] = donor.trial.user_attrs[DRAWN]
            shutil.rmtree(job.kept, ignore_errors=True)  # of an earlier training under this key
        if donor is None:
            return f"no fork of {fork.donor}, which has ended meanwhile"
        if attributes is None:
            return f"no fork of {fork.donor}: it has no checkpoint that can be read, or little left to train"
        self._study.enqueue_trial({**donor.trial.params, "lambda_max": fork.lambda_max}, attributes)
        return f"trial {number:<3d} {attributes['origin']}, lambda_max {fork.lambda_max:.4g}"

    def _note(self, trial: Trial, job: Job, evaluation: Evaluation | None, error: str) -> str:
        """Keep what a trial came to as attributes; returns why it is vetoed, or ""."""
        trial.set_user_attr("seed", job.seed)
        vetoed = ""
        if evaluation is not None:
            for name in evaluation.validators:  # the means are apart, to be sorted by in the dashboard
                trial.set_user_attr(name, evaluation.mean(name))
            for name, known in evaluation.cost.items():
                trial.set_user_attr(name, known)
            trial.set_user_attr(SCORES, {task: dict(scores) for task, scores in evaluation.scores.items()})
            # Source-only's scores are there once and for all, and reading them takes time.
            self._baseline = self._baseline or self._scope.baseline()
            vetoed = veto(evaluation.scores, self._baseline)
            if vetoed:
                trial.set_user_attr("veto", vetoed)
        if error:
            trial.set_user_attr("error", error)
        return vetoed

    def _describe(self, running: _Running, state: TrialState, error: str) -> str:
        objective, evaluation = self._space.objective, running.last
        text = f"trial {running.trial.number:<3d} {state.name.lower():<8s}"
        if error:
            return f"{text} {error}"
        if evaluation is not None and objective in evaluation.validators:
            text += f" {objective} {evaluation.mean(objective):.4f}"
            if (cost := self._space.cost.name) in evaluation.cost:
                text += f", {shown_cost(cost, evaluation.cost[cost])}"
            if state is TrialState.PRUNED:
                text += f" at step {evaluation.step}"
        params = ", ".join(f"{name} {shown_value(value)}" for name, value in running.params.items())
        return f"{text}  {params}"
