"""What a study goes on with: the space and data that it is run with now, if they are still its own."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import optuna
from optuna.storages import RDBStorage

from iimt_search.data.assemble import load_task_of
from iimt_search.errors import StudyMismatchError
from iimt_search.models.weights import weights_key
from iimt_search.plain_text import clipped
from iimt_search.settings import NO_FILES
from iimt_search.space import Space, with_defaults
from iimt_search.space.growth import conflicts, differences, growth, with_earlier_values
from iimt_search.space.task_spec import TaskSpec
from iimt_search.study.storage.database import LEFT_OUT, count_trials, optuna_study_names

# So many changed values are told.
_DIFFERENCES = 5
# Whose fingerprint stands beside those of the tasks, where it is a file.
_WEIGHTS = "train.weights"


def fingerprints(space: Space, of_tasks: Mapping[str, str]) -> dict[str, str]:
    """Return task → fingerprint of its data, and that of the file of weights, where one is named.

    Raises:
        DataError: that file cannot be read.
    """
    weights = space.train.weights
    of_weights = {} if weights in NO_FILES else {_WEIGHTS: weights_key(space.train.network, weights)}
    return {**of_tasks, **of_weights}


@dataclass(frozen=True)
class GoingOn:
    """What a study goes on with.

    Attributes:
        space: the space; what is searched has in ``train`` the value of trials from before it was.
        data: as :func:`fingerprints` returns it.
        told: what has changed since the last run, for people.
        grown: whether ranges or searched settings are among it.
        left_out: the name of each Optuna study whose task the space has no more → the task.
    """

    space: Space
    data: dict[str, str]
    told: list[str] = field(default_factory=list)
    grown: bool = False
    left_out: dict[str, str] = field(default_factory=dict)


def _renamed(before: dict[str, str], now: dict[str, str]) -> str:
    """Return what to say where names of tasks have changed and their data has not; of task → fingerprint."""
    if list(before.values()) != list(now.values()) or before.keys() == now.keys():
        return ""
    names = ", ".join(f"`name: {name}`" for name in before)
    return f"the data is the same under another name: give its tasks theirs back, {names}; or "


def optuna_studies(space: Space) -> dict[str, tuple[TaskSpec, ...]]:
    """Return name → tasks of the Optuna studies of a space."""
    if space.scope == "joint":
        return {space.study: space.tasks}
    return {f"{space.study}:{task.name}": (task,) for task in space.tasks}


def _check(space: Space, stored: Mapping[str, Any], data: dict[str, str]) -> None:
    """Check that a study can go on with a space and data, given its attributes.

    Raises:
        StudyMismatchError: it cannot; says what differs.
    """
    before, now = conflicts(stored["space"], space)
    changed, values = list(before), differences(before, now)
    told = [f"{key}: {clipped(one, 80)}, now {clipped(other, 80)}" for key, (one, other) in values.items()]
    known = stored.get("data", data)
    if space.scope == "per_task" and {known[task] for task in known.keys() - data.keys()}.intersection(
        data[task] for task in data.keys() - known.keys()
    ):
        changed.insert(0, "tasks")
    different = [task for task in data if known.get(task, "") not in ("", data[task])]
    changed += [f"content of {task}" if task == _WEIGHTS else f"data of {task}" for task in different]
    if changed:
        more = f" and {len(told) - _DIFFERENCES} more" if len(told) > _DIFFERENCES else ""
        listed = f" ({'; '.join(told[:_DIFFERENCES])}{more})" if told else ""
        wider = "ranges may be widened and settings added, no others; " if "search" in changed else ""
        raise StudyMismatchError(
            f"study {space.study!r} was begun with other {', '.join(dict.fromkeys(changed))}{listed}; "
            f"{wider}{_renamed(known, data)}give this space file another study name (`study=NAME`), "
            f"or the old values back"
        )


def go_on(storage: RDBStorage, space: Space, data: dict[str, str]) -> GoingOn:
    """Return what a study goes on with, or begins with where it is a new one.

    Args:
        storage: where the study lies.
        space: what the user gives.
        data: as :func:`fingerprints` returns it.

    Raises:
        StudyMismatchError: it was begun with another space or data; says what differs.
    """
    names = optuna_study_names(storage, space.study)
    attributes = {name: optuna.load_study(study_name=name, storage=storage).user_attrs for name in names}
    # One that was killed at its birth has no space, and nothing in it.
    known = {name: stored for name, stored in attributes.items() if "space" in stored}
    asked, now = space.train, optuna_studies(space)
    for stored in known.values():
        space = with_earlier_values(stored["space"], space)
    if space.train != asked:  # the samples may be those of another size
        of_tasks = {task.name: load_task_of(task, space.train).fingerprint for task in space.tasks}
        data = fingerprints(space, of_tasks)
    for stored in known.values():
        _check(space, stored, data)
    counts = {name: sum(count_trials(storage, name).values()) for name in known}
    tasks = {name: name.removeprefix(f"{space.study}:") for name in (*now, *known)}
    current = [name for name in now if name in known]
    trials = sum(counts[name] for name in current)
    search = with_defaults(space.canonical())["search"]
    told = [text for name in current for text in growth(known[name]["space"], space, trials)]
    told += [f"task {tasks[name]} is added" for name in now if known and name not in known]
    for name, stored in known.items():
        if name not in now and not stored.get(LEFT_OUT):
            told.append(f"task {tasks[name]} is left out from now on; its {counts[name]} trials are kept")
        if name in now and stored.get(LEFT_OUT):
            told.append(f"task {tasks[name]} is back with its {counts[name]} trials")
    return GoingOn(
        space,
        data,
        list(dict.fromkeys(told)),
        any(with_defaults(known[name]["space"])["search"] != search for name in current),
        {name: tasks[name] for name in known if name not in now},
    )
