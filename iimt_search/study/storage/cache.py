"""What a driver keeps of a study in memory."""

import re

from optuna.distributions import BaseDistribution
from optuna.storages import RDBStorage

# Notes on trials lie among the study's attributes and are never read again by the driver.
_TRIAL_NOTE = re.compile(r"dashboard:\d+:note_")


def is_trial_note(key: str) -> bool:
    """Tell whether a study's system attribute is a piece of a note on one of its trials."""
    return _TRIAL_NOTE.match(key) is not None


class StudyCache:
    """What the driver knows of one Optuna study: attributes without the notes on trials, trials by number.

    Args:
        storage: where it lies.
        study_id: Optuna's.
    """

    def __init__(self, storage: RDBStorage, study_id: int) -> None:
        self.name = storage.get_study_name_from_id(study_id)
        self.directions = storage.get_study_directions(study_id)
        self.user_attrs = storage.get_study_user_attrs(study_id)
        attrs = storage.get_study_system_attrs(study_id)
        self.system_attrs = {key: value for key, value in attrs.items() if not is_trial_note(key)}
        self.distributions: dict[str, BaseDistribution] = {}
        trials = storage.get_all_trials(study_id, deepcopy=False)
        self.trials = sorted(trials, key=lambda trial: trial.number)
        for trial in self.trials:
            # The same few distributions belong to every trial: one object each is enough.
            trial.distributions = {n: self.distribution(n, d) for n, d in trial.distributions.items()}

    def distribution(self, name: str, given: BaseDistribution) -> BaseDistribution:
        """Return the study's distribution of a parameter, which is the given one or equal to it."""
        known = self.distributions.setdefault(name, given)
        return known if known == given else given
