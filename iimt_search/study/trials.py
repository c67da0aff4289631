"""The source of trials: asks Optuna, hears reports, prunes, and tells how each ended."""

import math
import warnings
from collections.abc import Callable, Iterable
from typing import Any

import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, Trial, TrialState

from iimt_search.records import Evaluation, Finished, Job
from iimt_search.study import notes
from iimt_search.study.proposals import default_params, distributions, make_sampler
from iimt_search.study.scope import Scope
from iimt_search.study.veto import veto

# Of the trial that has the method's default configuration.
DEFAULT_ORIGIN = "default"
# The attribute that holds task → validator → score.
SCORES = "scores"


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


def trial_scores(trial: FrozenTrial, tasks: Iterable[str]) -> dict[str, dict[str, float]]:
    """Return task → validator → a trial's last score, as its attributes hold them."""
    found = trial.user_attrs.get(SCORES, {})
    return {task: dict(found.get(task, {})) for task in tasks}


def trial_steps(trial: FrozenTrial) -> int:
    """Return the training steps that a trial was evaluated after last, 0 for none."""
    return max(trial.intermediate_values, default=0)


class TrialSource:
    """Trials of one Optuna study, until the budget is used.

    Trials that a dead driver left RUNNING come first: they go on from their checkpoint, or from the
    start where they had none, under the same number, parameters and seed.

    Args:
        scope: the study, its space and tasks.
        line: takes a line of text for each finished trial.
        out_of_time: tells whether the budget's wall time is over.
        ended: called after each trial's end.
    """

    def __init__(
        self,
        scope: Scope,
        line: Callable[[str], None],
        out_of_time: Callable[[], bool],
        ended: Callable[[], None],
    ) -> None:
        self._scope, self._line, self._out_of_time, self._ended = scope, line, out_of_time, ended
        self._space, self._study = scope.space, scope.study
        self._trials: dict[str, Trial] = {}
        self._last: dict[str, Evaluation] = {}
        self._errors: dict[str, str] = {}
        self._reported: dict[str, set[int]] = {}
        self._left_running = self._study.get_trials(deepcopy=False, states=[TrialState.RUNNING])
        if not self._study.get_trials(deepcopy=False):
            default = default_params(self._space)
            self._study.enqueue_trial(default, user_attrs={"origin": DEFAULT_ORIGIN})
            for row in self._space.first:
                self._study.enqueue_trial({**default, **row}, user_attrs={"origin": "space file"})

    def _budget_left(self) -> bool:
        budget = self._space.budget
        trials = self._study.get_trials(deepcopy=False)
        begun = [trial for trial in trials if trial.state is not TrialState.WAITING]
        if budget.trials is not None and len(begun) >= budget.trials:
            return False
        used = sum(map(self._spent, begun)) * len(self._scope.tasks)
        if budget.steps is not None and used >= budget.steps:
            return False
        return not self._out_of_time()

    def _spent(self, trial: FrozenTrial) -> int:
        """Return a trial's steps; one that failed before its first report has spent a whole trial's."""
        steps = trial_steps(trial)
        return self._space.train.steps if trial.state is TrialState.FAIL and steps == 0 else steps

    def next_job(self) -> Job | None:
        """Return the next trial as a job."""
        if self._left_running:
            found = self._left_running.pop(0)
            self._study.sampler = make_sampler(self._space, found.number)
            trial = Trial(self._study, found._trial_id)
            reported = set(found.intermediate_values)
            self._line(f"trial {found.number} was left unfinished, goes on")
        elif self._budget_left():
            number = len(self._study.get_trials(deepcopy=False))
            waiting = self._study.get_trials(deepcopy=False, states=[TrialState.WAITING])
            number = waiting[0].number if waiting else number
            self._study.sampler = make_sampler(self._space, number)
            trial, reported = self._study.ask(), set()
        else:
            return None
        with warnings.catch_warnings():
            # An enqueued default may leave a parameter to the sampler; that is meant so.
            warnings.simplefilter("ignore")
            params = {name: _suggest(trial, name, dist) for name, dist in distributions(self._space).items()}
        job = self._scope.trial_job(trial.number, params)
        self._trials[job.key], self._reported[job.key] = trial, reported
        return job

    def evaluated(self, job: Job, evaluation: Evaluation) -> bool:
        """Report the objective to Optuna; returns False to prune, or where it is not a number."""
        trial, objective = self._trials[job.key], self._space.objective
        self._last[job.key] = evaluation
        if objective not in evaluation.validators:
            return True  # computed at the training's end only
        value = evaluation.mean(objective)
        if not math.isfinite(value):
            self._errors[job.key] = f"objective {objective} was {value} at step {evaluation.step}"
            return False
        reported = self._reported[job.key]
        if evaluation.step not in reported:
            trial.report(value, evaluation.step)
            reported.add(evaluation.step)
        elif evaluation.step < max(reported):
            return True  # told before, and was let go on then
        if evaluation.step >= job.settings.steps:
            return True  # done already: a finished trial is complete, whatever the pruner thinks
        return not trial.should_prune()

    def finished(self, job: Job, outcome: Finished) -> None:
        """Tell Optuna COMPLETE, PRUNED or FAIL, with every validator's score as attribute."""
        trial = self._trials.pop(job.key)
        evaluation = self._last.pop(job.key, None)
        error = self._errors.pop(job.key, "") or outcome.error
        trial.set_user_attr("seed", job.seed)
        vetoed = ""
        if evaluation is not None:
            self._note_scores(trial, evaluation)
            vetoed = veto(evaluation.scores, self._scope.baseline())
            if vetoed:
                trial.set_user_attr("veto", vetoed)
        if error:
            trial.set_user_attr("error", error)
            state, value = TrialState.FAIL, None
        elif outcome.status == "stopped" or evaluation is None:
            state, value = TrialState.PRUNED, None
        else:
            state, value = TrialState.COMPLETE, evaluation.mean(self._space.objective)
        notes.note_trial(trial, job, evaluation, error, vetoed)
        self._study.tell(trial, value, state=state)
        del self._reported[job.key]
        self._line(self._describe(trial.number, state, evaluation, error))
        self._ended()

    @staticmethod
    def _note_scores(trial: Trial, evaluation: Evaluation) -> None:
        # Each attribute is a transaction: the means are apart, to be sorted by in the dashboard.
        for name in evaluation.validators:
            trial.set_user_attr(name, evaluation.mean(name))
        trial.set_user_attr(SCORES, {task: dict(scores) for task, scores in evaluation.scores.items()})

    def _describe(self, number: int, state: TrialState, evaluation: Evaluation | None, error: str) -> str:
        objective = self._space.objective
        text = f"trial {number:<3d} {state.name.lower():<8s}"
        if error:
            return f"{text} {error}"
        if evaluation is not None and objective in evaluation.validators:
            text += f" {objective} {evaluation.mean(objective):.4f}"
            if state is TrialState.PRUNED:
                text += f" at step {evaluation.step}"
        params = self._study.get_trials(deepcopy=False)[number].params
        return (
            text
            + "  "
            + ", ".join(
                f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}"
                for name, value in params.items()
            )
        )
