"""The whole job: baseline and search, confirmation, retraining, choice."""

import threading
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.storages import BaseStorage, RDBStorage

from iimt_search.data.assemble import load_trainable, shared_with_target
from iimt_search.errors import (
    DataError,
    IimtSearchError,
    MachineError,
    StudyInterruptedError,
    StudyMismatchError,
    collecting,
    describe,
    machine_failed,
)
from iimt_search.features.prepare import prepare_features
from iimt_search.plain_text import clipped
from iimt_search.records import Choice
from iimt_search.space import Space, with_defaults
from iimt_search.study.compare import differences
from iimt_search.study.executors.base import Executor
from iimt_search.study.executors.runner import CONTINUE
from iimt_search.study.folder import StudyFolder
from iimt_search.study.progress import Listener
from iimt_search.study.scope import Scope
from iimt_search.study.scope_run import run_scopes
from iimt_search.study.search.sampling import make_pruner
from iimt_search.study.storage import sql
from iimt_search.study.storage.database import (
    PASSWORD_VARIABLE,
    has_password,
    opened_storage,
    optuna_study_names,
)
from iimt_search.study.storage.driver import DriverStorage
from iimt_search.study.storage.guard import GuardedWrites
from iimt_search.study.storage.lock import driver_session
from iimt_search.validators.registry import VALIDATORS

# Seconds between two lines on features that are computed.
_FEATURES_EVERY = 10.0

# What makes two space files the same study: change one of these, and the trials no longer compare.
_IDENTITY = ("tasks", "search", "first", "train", "objective", "reference", "scope", "seed")
# So many changed values are told.
_DIFFERENCES = 5


@dataclass(frozen=True)
class RunOptions:
    """How a run is carried out; none of it changes what a job computes.

    Attributes:
        storage_url: an Optuna storage.
        device: where jobs train.
    """

    storage_url: str
    device: str = "cpu"


def _identity(content: dict[str, Any]) -> dict[str, Any]:
    """Return what makes two space files the same study, of one's canonical content.

    Of a domain its name, or how it is augmented: what its samples are their fingerprints say, not the paths
    that they are read from.
    """

    def domain(spec: Any) -> Any:
        return {key: spec.get(key) for key in ("named", "augmentation")} if isinstance(spec, dict) else spec

    def task(spec: Any) -> Any:
        if not isinstance(spec, dict):
            return spec
        domains = [*spec.get("source", ()), spec.get("target"), spec.get("few_shot")]
        return spec.get("name"), [domain(each) for each in domains]

    return {key: content.get(key) for key in _IDENTITY} | {"tasks": [task(t) for t in content["tasks"]]}


def _renamed(before: dict[str, str], now: dict[str, str]) -> str:
    """Return what to say where names of tasks have changed and their data has not; of task → fingerprint."""
    if list(before.values()) != list(now.values()) or before.keys() == now.keys():
        return ""
    names = ", ".join(f"`name: {name}`" for name in before)
    return f"the data is the same under another name: give its tasks theirs back, {names}; or "


def _check_identity(storage: RDBStorage, space: Space, data: dict[str, str]) -> None:
    """Check that what the storage holds under the study's name was begun with this space and data.

    Raises:
        StudyMismatchError: it was not; says what differs.
    """
    content = with_defaults(space.canonical())
    for name in optuna_study_names(storage, space.study):
        stored = optuna.load_study(study_name=name, storage=storage).user_attrs
        known = stored.get("space")
        if known is None:
            continue  # killed at its birth: there is nothing in it
        before, now = _identity(with_defaults(known)), _identity(content)
        changed = [key for key in _IDENTITY if before[key] != now[key]]
        values = differences({key: before[key] for key in changed}, {key: now[key] for key in changed})
        told = [
            f"{key}: {clipped(one, 80)}, now {clipped(other, 80)}" for key, (one, other) in values.items()
        ]
        data_before = stored.get("data", data)
        changed += [f"data of {task}" for task in data if data_before.get(task, "") not in ("", data[task])]
        if changed:
            more = f" and {len(told) - _DIFFERENCES} more" if len(told) > _DIFFERENCES else ""
            listed = f" ({'; '.join(told[:_DIFFERENCES])}{more})" if told else ""
            raise StudyMismatchError(
                f"study {space.study!r} was begun with other {', '.join(changed)}{listed}; "
                f"{_renamed(data_before, data)}give this space file another study name (`study=NAME`), "
                f"or the old values back"
            )


def _driver_storage(storage: RDBStorage, writes: GuardedWrites, line: Callable[[str], None]) -> BaseStorage:
    """Return the driver's own storage, or Optuna's where its tables are not those that we know."""
    known, there = sql.OPTUNA_TABLES, storage.get_head_version()
    if there == known:
        return DriverStorage(storage, writes)
    line(f"Optuna {optuna.__version__} has tables {there}, not {known}: studies are written its way, slower")
    return storage


def _open_study(storage: BaseStorage, name: str, space: Space, data: dict[str, str]) -> optuna.Study:
    validator = VALIDATORS[space.objective]
    study = optuna.create_study(
        study_name=name,
        storage=storage,
        load_if_exists=True,
        direction="maximize" if validator.higher_is_better else "minimize",
        pruner=make_pruner(space),
    )
    if isinstance(storage, DriverStorage):
        storage.sign(study._study_id)
    for key, value in (("data", data), ("space", space.canonical())):
        if study.user_attrs.get(key) != value:
            study.set_user_attr(key, value)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        if study.metric_names is None:
            study.set_metric_names([f"{space.objective}, mean over tasks"])
    return study


def _open_scopes(
    storage: BaseStorage, space: Space, data: dict[str, str], folder: StudyFolder, device: str
) -> list[Scope]:
    if space.scope == "joint":
        groups = {space.study: space.tasks}
    else:
        groups = {f"{space.study}:{task.name}": (task,) for task in space.tasks}
    return [
        Scope(space, tasks, _open_study(storage, name, space, data), folder, device)
        for name, tasks in groups.items()
    ]


def _told_features(study: str, listener: Listener, stop: threading.Event) -> Callable[[str, int, int], None]:
    """Return what tells a listener how many features are computed."""
    shown = time.monotonic()

    def told(what: str, done: int, of: int) -> None:
        nonlocal shown
        if stop.is_set():
            raise StudyInterruptedError(f"study {study!r} is stopped; what is computed is kept")
        if time.monotonic() - shown >= _FEATURES_EVERY:
            shown = time.monotonic()
            listener.line(f"{what}: {done} of {of} images")

    return told


def _prepare(space: Space, device: str, listener: Listener, stop: threading.Event) -> dict[str, str]:
    """Prepare every task's data before a worker starts: all that is wrong with it is raised once, here.

    Features of pretrained networks, too: they are computed on ``device``.

    Returns:
        Task name → fingerprint of its data.
    """
    fingerprints, wrong = {}, list[str]()
    for spec in space.tasks:
        if stop.is_set():
            raise StudyInterruptedError(f"study {space.study!r} is stopped before it began")
        task = None
        with collecting(wrong):
            task = load_trainable(spec, space)
        if task is None:
            continue
        source, target = f"{len(task.source_train)} + {len(task.source_val)} source", len(task.target)
        shape = "×".join(map(str, task.sample_shape))
        listener.line(
            f"{task.name}: {source}, {target} target samples of {shape}, {len(task.classes)} classes"
        )
        for note in (*task.notes, *shared_with_target(task)):
            listener.line(f"{'warning' if note.warning else 'note'}: {note.message}")
        fingerprints[spec.name] = task.fingerprint
    if wrong:
        raise DataError(*wrong)

    told = _told_features(space.study, listener, stop)
    for spec in space.tasks:
        with collecting(wrong):
            prepare_features(spec, space, device, told)
    if wrong:
        raise DataError(*dict.fromkeys(wrong))
    return fingerprints


def run_study(
    space: Space,
    folder: StudyFolder,
    options: RunOptions,
    start_executor: Callable[[], Executor],
    listener: Listener,
    stop: threading.Event,
) -> list[Choice]:
    """Begin or continue a study and carry it to its choice.

    Args:
        space: what to search.
        folder: where the study lives; made where absent.
        options: storage and device.
        start_executor: called once the study is open and locked.
        listener: receives how it goes.
        stop: set it to end the run cleanly; what is under way goes on at the next run.

    Returns:
        One choice; with ``scope: per_task`` one for each task.

    Raises:
        StudyLockedError: another driver runs the study.
        StudyMismatchError: the study was begun with another space.
        StudyInterruptedError: ``stop`` was set.
        StudyError: the storage cannot be opened, or every candidate of a task failed; other tasks come to
            their choices before.
        MachineError: the machine fails again and again.
        DataError: a task's data cannot be made.
    """
    if has_password(options.storage_url):
        listener.line(
            f"process lists show the password in `storage`; ${PASSWORD_VARIABLE} keeps it to itself"
        )
    with folder.driver_lock():
        folder.clear()
        # Data that cannot be made leaves no database behind.
        data = _prepare(space, options.device, listener, stop)
        with (
            opened_storage(options.storage_url) as storage,
            driver_session(storage.engine, space.study, folder.path) as session,
        ):
            _check_identity(storage, space, data)
            writes = GuardedWrites(session, listener.line, stop.wait)
            driver_storage = _driver_storage(storage, writes, listener.line)
            scopes = _open_scopes(driver_storage, space, data, folder, options.device)
            folder.describe(options.storage_url, space.canonical())
            executor = start_executor()
            try:
                choices = run_scopes(scopes, executor, listener, stop)
                folder.clear(jobs=True)
                return choices
            except StudyInterruptedError as error:
                raise StudyInterruptedError(f"study {space.study!r} is stopped; nothing is lost") from error
            except Exception as error:  # of the driver's own files
                if isinstance(error, IimtSearchError) or not machine_failed(error):
                    raise
                raise MachineError(f"the machine failed: {describe(error, False)}; {CONTINUE}") from error
            finally:
                executor.close()
