"""Which configurations are run again with fresh seeds."""

from dataclasses import dataclass

from optuna.trial import FrozenTrial, TrialState

from iimt_search.settings import TrainSettings
from iimt_search.study.scope import SOURCE_ONLY_KEY, Scope
from iimt_search.study.search.forks import configuration
from iimt_search.study.search.sampling import settings_for, source_only_settings
from iimt_search.study.search.trials import DEFAULT_ORIGIN, trial_scores
from iimt_search.study.veto import veto


@dataclass(frozen=True)
class Candidates:
    """What a confirmation compares.

    Attributes:
        trials: candidate's name → its trial; source-only has none.
        vetoed: name → why, of complete trials that were left out before the ranking.
    """

    trials: dict[str, FrozenTrial]
    vetoed: dict[str, str]

    def settings(self, scope: Scope) -> dict[str, TrainSettings]:
        """Return every candidate's configuration, source-only's last."""
        found = {name: settings_for(scope.space, configuration(trial)) for name, trial in self.trials.items()}
        return {**found, SOURCE_ONLY_KEY: source_only_settings(scope.space)}


def best_trials(scope: Scope) -> list[FrozenTrial]:
    """Return the complete trials, best objective first; of equal ones the earlier first."""
    trials = scope.study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
    sign = -1.0 if scope.higher_is_better else 1.0
    return sorted(trials, key=lambda trial: (sign * (trial.value or 0.0), trial.number))


def _default_trial(scope: Scope) -> FrozenTrial | None:
    """Return the trial of the method's default configuration, however it ended."""
    trials = scope.study.get_trials(deepcopy=False)
    found = [t for t in trials if t.user_attrs.get("origin") == DEFAULT_ORIGIN and t.state.is_finished()]
    return found[0] if found else None


def select_candidates(scope: Scope) -> Candidates:
    """Return the best trials with different parameters that no veto meets, and the default configuration.

    The default configuration is a candidate however it did: a search whose scores mislead must not lose
    to it. Source-only is one too, and has no trial.
    """
    baseline = scope.baseline()
    chosen: list[FrozenTrial] = []
    vetoed: dict[str, str] = {}
    for trial in best_trials(scope):
        if reason := veto(trial_scores(trial, scope.task_names), baseline):
            vetoed[f"trial-{trial.number}"] = reason
        elif len(chosen) < scope.space.confirm.top and all(
            configuration(trial) != configuration(t) for t in chosen
        ):
            chosen.append(trial)
    default = _default_trial(scope)
    if default is not None and all(default.params != configuration(trial) for trial in chosen):
        chosen.append(default)
    return Candidates({f"trial-{trial.number}": trial for trial in chosen}, vetoed)
