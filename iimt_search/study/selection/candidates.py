"""Which configurations are run again with fresh seeds."""

from dataclasses import dataclass

from iimt_search.settings import TrainSettings
from iimt_search.study.scope import SOURCE_ONLY_KEY, Scope
from iimt_search.study.search.sampling import settings_for, source_only_settings
from iimt_search.study.search.trial_record import TrialRecord, default_trial, read_trials
from iimt_search.study.veto import veto


@dataclass(frozen=True)
class Candidates:
    """What a confirmation compares.

    Attributes:
        trials: candidate's name → its trial; source-only has none.
        vetoed: name → why, of complete trials that were left out before the ranking.
    """

    trials: dict[str, TrialRecord]
    vetoed: dict[str, str]

    def settings(self, scope: Scope) -> dict[str, TrainSettings]:
        """Return every candidate's configuration, source-only's last."""
        settings = {name: settings_for(scope.space, trial.params) for name, trial in self.trials.items()}
        return {**settings, SOURCE_ONLY_KEY: source_only_settings(scope.space)}


def select_candidates(scope: Scope) -> Candidates:
    """Return the best trials with different parameters that no veto meets, and the default configuration.

    The default configuration is a candidate however it did: a search whose scores mislead must not lose
    to it. Source-only is one too, and has no trial.
    """
    baseline, trials = scope.baseline(), read_trials(scope.study)
    chosen: list[TrialRecord] = []
    vetoed: dict[str, str] = {}
    for trial in scope.rank(trials):
        if reason := veto(trial.scores, baseline):
            vetoed[trial.name] = reason
        elif len(chosen) < scope.space.confirm.top and all(trial.params != other.params for other in chosen):
            chosen.append(trial)
    default = default_trial(trials)
    if default is not None and default.ended and all(default.params != trial.params for trial in chosen):
        chosen.append(default)
    return Candidates({trial.name: trial for trial in chosen}, vetoed)
