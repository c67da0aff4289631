"""The driver's Optuna storage: reads from memory, writes through one guarded session.

The driver is a study's only writer, so what it has read or written once it knows. Optuna's own storage
reads every unfinished trial again at each question, of which a sampler and a pruner ask several for each
evaluation: with a thousand trials under way that alone takes seconds.
"""

import copy
import re
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from datetime import datetime
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, check_distribution_compatibility
from optuna.exceptions import DuplicatedStudyError
from optuna.storages import BaseStorage, RDBStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy.engine import Connection

from iimt_search.study.storage import sql
from iimt_search.study.storage.guard import GuardedWrites

# Notes on trials lie among the study's attributes and are never read again by the driver.
_TRIAL_NOTE = re.compile(r"dashboard:\d+:note_")


def _is_trial_note(key: str) -> bool:
    """Tell whether a study's system attribute is a piece of a note on one of its trials."""
    return _TRIAL_NOTE.match(key) is not None


class _Study:
    """What the driver knows of one Optuna study: attributes without the notes on trials, trials by number.

    Trials are as they would be had the search always been what it is now: a sampler learns from those that
    share a search space.

    Args:
        storage: where it lies.
        study_id: Optuna's.
        searched: parameter → distribution; wider than those of earlier trials may be.
        earlier: parameter → value of trials that lack it.
    """

    def __init__(
        self,
        storage: RDBStorage,
        study_id: int,
        searched: Mapping[str, BaseDistribution],
        earlier: Mapping[str, Any],
    ) -> None:
        self.name = storage.get_study_name_from_id(study_id)
        self.directions = storage.get_study_directions(study_id)
        self.user_attrs = storage.get_study_user_attrs(study_id)
        attrs = storage.get_study_system_attrs(study_id)
        self.system_attrs = {key: value for key, value in attrs.items() if not _is_trial_note(key)}
        self.distributions = dict(searched)
        trials = storage.get_all_trials(study_id, deepcopy=False)
        self.trials = sorted(trials, key=lambda trial: trial.number)
        for trial in self.trials:
            given = trial.distributions
            if trial.params:
                trial.params = {**earlier, **trial.params}
                given = {**{name: searched[name] for name in earlier}, **given}
            # The same few distributions belong to every trial: one object each is enough.
            trial.distributions = {n: searched.get(n, self.distribution(n, d)) for n, d in given.items()}

    def distribution(self, name: str, given: BaseDistribution) -> BaseDistribution:
        """Return the study's distribution of a parameter, which is the given one or equal to it."""
        known = self.distributions.setdefault(name, given)
        return known if known == given else given


class DriverStorage(BaseStorage):
    """An Optuna storage for the one process that writes its studies; use it from one thread.

    Args:
        storage: where the studies lie.
        writes: the guarded session through which everything is written.
        searched: parameter → its distribution now, which those of earlier trials are within.
        earlier: those of them that earlier trials may lack → the value that they had.
    """

    def __init__(
        self,
        storage: RDBStorage,
        writes: GuardedWrites,
        searched: Mapping[str, BaseDistribution] | None = None,
        earlier: Mapping[str, Any] | None = None,
    ) -> None:
        self._storage, self._writes = storage, writes
        self._searched, self._earlier = searched or {}, earlier or {}
        self._studies: dict[int, _Study] = {}
        self._places: dict[int, tuple[int, int]] = {}
        self._waiting: list[sql.Row] = []
        self._depth = 0

    def sign(self, study_id: int) -> None:
        """Note in a study that this driver runs it."""
        self._writes.sign(study_id)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Write what happens within in one transaction, at its end; after an error nothing of it."""
        before = len(self._waiting)
        self._depth += 1
        try:
            yield
        except BaseException:
            del self._waiting[before:]
            raise
        finally:
            self._depth -= 1
        self.flush()

    def _write(self, *new: sql.Row) -> None:
        self._waiting += new
        self.flush()

    def flush(self) -> None:
        """Write the reports that are still waiting."""
        if self._waiting and not self._depth:
            waiting, self._waiting = self._waiting, []
            self._writes.run(lambda connection, _: sql.write(connection, waiting))

    def _cache(self, study_id: int) -> _Study:
        if study_id not in self._studies:
            self._read(study_id)
        return self._studies[study_id]

    def _read(self, study_id: int) -> None:
        cache = _Study(self._storage, study_id, self._searched, self._earlier)
        self._studies[study_id] = cache
        self._places |= {trial._trial_id: (study_id, trial.number) for trial in cache.trials}

    # Studies.

    def create_new_study(self, directions: Sequence[StudyDirection], study_name: str | None = None) -> int:
        """Create a study."""
        if study_name is not None:
            with suppress(KeyError):
                self._storage.get_study_id_from_name(study_name)
                raise DuplicatedStudyError(f"study {study_name!r} exists")
        return self._storage.create_new_study(directions, study_name)

    def delete_study(self, study_id: int) -> None:
        """Refuse: a driver deletes nothing."""
        raise NotImplementedError("a driver deletes no study")

    def set_study_user_attr(self, study_id: int, key: str, value: Any) -> None:
        """Set a study's user attribute."""
        self._cache(study_id).user_attrs[key] = value
        self._write(sql.attribute("study", study_id, "user", key, value))

    def set_study_system_attr(self, study_id: int, key: str, value: Any) -> None:
        """Set a study's system attribute."""
        if not _is_trial_note(key):
            self._cache(study_id).system_attrs[key] = value
        self._write(sql.attribute("study", study_id, "system", key, value))

    def get_study_id_from_name(self, study_name: str) -> int:
        """Return a study's id."""
        return self._storage.get_study_id_from_name(study_name)

    def get_study_name_from_id(self, study_id: int) -> str:
        """Return a study's name."""
        return self._cache(study_id).name

    def get_study_directions(self, study_id: int) -> list[StudyDirection]:
        """Return a study's directions."""
        return self._cache(study_id).directions

    def get_study_user_attrs(self, study_id: int) -> dict[str, Any]:
        """Return a study's user attributes; not to be changed."""
        return self._cache(study_id).user_attrs

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        """Return a study's system attributes, notes on trials left out; not to be changed."""
        return self._cache(study_id).system_attrs

    def get_all_studies(self) -> Any:
        """Return all studies as they are stored."""
        return self._storage.get_all_studies()

    # Trials.

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        """Create a running trial, or a waiting one like the template; at once: the database numbers it."""
        trial = copy.deepcopy(template_trial or create_trial(state=TrialState.RUNNING))
        if trial.state not in (TrialState.RUNNING, TrialState.WAITING):
            raise NotImplementedError("a driver adds no finished trial")
        cache, waiting = self._cache(study_id), self._waiting
        expected = len(cache.trials)

        def create(connection: Connection, again: bool) -> tuple[int, int]:
            number = expected if again else None
            made = sql.new_trial(connection, study_id, trial.state, trial.datetime_start, number)
            user = [sql.attribute("trial", made[0], "user", *item) for item in trial.user_attrs.items()]
            own = [sql.attribute("trial", made[0], "system", *item) for item in trial.system_attrs.items()]
            sql.write(connection, [*waiting, *user, *own])
            return made

        self._waiting = []
        trial._trial_id, trial.number = self._writes.run(create)
        if trial.number == expected:
            cache.trials.append(trial)
            self._places[trial._trial_id] = (study_id, expected)
        else:  # somebody else has added trials
            self._read(study_id)
        return trial._trial_id

    def get_trial(self, trial_id: int) -> FrozenTrial:
        """Return a trial; not to be changed."""
        study_id, number = self._places[trial_id]
        return self._studies[study_id].trials[number]

    def _changed(self, trial_id: int) -> FrozenTrial:
        """Replace an unfinished trial by a copy to change: whoever has been given it keeps what it was."""
        trial = self.get_trial(trial_id)
        self.check_trial_is_updatable(trial_id, trial.state)
        study_id, number = self._places[trial_id]
        changed = self._studies[study_id].trials[number] = copy.copy(trial)
        return changed

    def set_trial_param(
        self, trial_id: int, param_name: str, param_value_internal: float, distribution: BaseDistribution
    ) -> None:
        """Set a trial's parameter."""
        cache, trial = self._studies[self._places[trial_id][0]], self._changed(trial_id)
        if param_name in cache.distributions:
            check_distribution_compatibility(cache.distributions[param_name], distribution)
        distribution = cache.distribution(param_name, distribution)
        value = distribution.to_external_repr(param_value_internal)
        trial.params = {**trial.params, param_name: value}
        trial.distributions = {**trial.distributions, param_name: distribution}
        self._write(sql.param(trial_id, param_name, param_value_internal, distribution))

    def set_trial_state_values(
        self, trial_id: int, state: TrialState, values: Sequence[float] | None = None
    ) -> bool:
        """Set a trial's state and, where it is complete, its values."""
        if state is TrialState.RUNNING and self.get_trial(trial_id).state is not TrialState.WAITING:
            return False
        trial, now = self._changed(trial_id), datetime.now()
        trial.state = state
        if values is not None:
            trial.values = list(values)
        if state is TrialState.RUNNING:
            trial.datetime_start = now
        else:
            trial.datetime_complete = now
        self._write(*sql.state(trial_id, state, values, now))
        return True

    def set_trial_intermediate_value(self, trial_id: int, step: int, intermediate_value: float) -> None:
        """Report a finite value at a step; written with the next change, or by :meth:`flush`.

        A commit waits for the disk. A report may be lost with the driver: the trial's checkpoint holds it.
        """
        trial = self._changed(trial_id)
        trial.intermediate_values = {**trial.intermediate_values, step: intermediate_value}
        self._waiting.append(sql.report(trial_id, step, intermediate_value))

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Set a trial's user attribute."""
        trial = self._changed(trial_id)
        trial.user_attrs = {**trial.user_attrs, key: value}
        self._write(sql.attribute("trial", trial_id, "user", key, value))

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Set a trial's system attribute."""
        trial = self._changed(trial_id)
        trial.system_attrs = {**trial.system_attrs, key: value}
        self._write(sql.attribute("trial", trial_id, "system", key, value))

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        """Return a study's trials by number."""
        trials = self._cache(study_id).trials
        chosen = [trial for trial in trials if states is None or trial.state in states]
        return copy.deepcopy(chosen) if deepcopy else chosen


def flush(study: optuna.Study) -> None:
    """Write what is still waiting to be written to a study."""
    if isinstance(study._storage, DriverStorage):
        study._storage.flush()


def transaction(study: optuna.Study) -> AbstractContextManager[None]:
    """Write what happens to a study within in one transaction, where its storage can."""
    storage = study._storage
    return storage.transaction() if isinstance(storage, DriverStorage) else nullcontext()
