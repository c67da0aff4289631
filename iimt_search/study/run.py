"""The whole job: baseline and search, confirmation, retraining, choice."""

import threading
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.storages import BaseStorage, RDBStorage
from optuna.study import StudyDirection
from optuna.trial import TrialState

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
from iimt_search.records import Choice, job_key
from iimt_search.space import Space
from iimt_search.space.growth import earlier_values
from iimt_search.study.executors.base import Executor
from iimt_search.study.executors.runner import CONTINUE
from iimt_search.study.folder import StudyFolder
from iimt_search.study.progress import Listener
from iimt_search.study.scope import Scope
from iimt_search.study.scope_run import run_scopes
from iimt_search.study.search.going_on import GoingOn, fingerprints, go_on, optuna_studies
from iimt_search.study.search.sampling import distributions, make_pruner
from iimt_search.study.search.trial_record import trial_name
from iimt_search.study.storage import sql
from iimt_search.study.storage.database import (
    LEFT_OUT,
    PASSWORD_VARIABLE,
    has_password,
    opened_storage,
)
from iimt_search.study.storage.driver import DriverStorage, transaction
from iimt_search.study.storage.guard import GuardedWrites
from iimt_search.study.storage.lock import driver_session
from iimt_search.task_name import slug
from iimt_search.validators.registry import VALIDATORS

# Seconds between two lines on features that are computed.
_FEATURES_EVERY = 10.0


@dataclass(frozen=True)
class RunOptions:
    """How a run is carried out; none of it changes what a job computes.

    Attributes:
        storage_url: an Optuna storage.
        device: where jobs train.
    """

    storage_url: str
    device: str = "cpu"


def _driver_storage(
    storage: RDBStorage, writes: GuardedWrites, space: Space, grown: bool, line: Callable[[str], None]
) -> BaseStorage:
    """Return the driver's own storage, or Optuna's where its tables are not those that we know.

    Raises:
        StudyMismatchError: those tables do not take what the search has ``grown`` to.
    """
    known, there = sql.OPTUNA_TABLES, storage.get_head_version()
    if there == known:
        return DriverStorage(storage, writes, distributions(space), earlier_values(space.canonical()))
    line(f"Optuna {optuna.__version__} has tables {there}, not {known}: studies are written its way, slower")
    if grown:
        raise StudyMismatchError("the search cannot grow in such tables: give it its old ranges back")
    return storage


def _costs(space: Space) -> list[str]:
    return [space.cost.name] if space.cost.is_objective else []


def _open_study(storage: BaseStorage, name: str, space: Space) -> optuna.Study:
    better = "maximize" if VALIDATORS[space.objective].higher_is_better else "minimize"
    costs = _costs(space)
    study = optuna.create_study(
        study_name=name,
        storage=storage,
        load_if_exists=True,
        directions=[StudyDirection[name.upper()] for name in (better, *["minimize"] * len(costs))],
        pruner=make_pruner(space),
    )
    if isinstance(storage, DriverStorage):
        storage.sign(study._study_id)
    return study


def _describe(studies: Mapping[str, optuna.Study], space: Space, data: dict[str, str]) -> None:
    """Note in Optuna studies what they are of."""
    for name, study in studies.items():
        if name not in optuna_studies(space):
            study.set_user_attr(LEFT_OUT, True)
            continue
        attributes = study.user_attrs
        for key, value in (("data", data), ("space", space.canonical())):
            if attributes.get(key) != value:
                study.set_user_attr(key, value)
        if attributes.get(LEFT_OUT):
            study.set_user_attr(LEFT_OUT, False)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            if study.metric_names is None:
                study.set_metric_names([f"{space.objective}, mean over tasks", *_costs(space)])


def _open_scopes(
    storage: BaseStorage, going_on: GoingOn, folder: StudyFolder, device: str
) -> tuple[list[Scope], set[str]]:
    """Return the scopes of a space, and the keys of jobs under way of tasks that it has no more."""
    space, groups = going_on.space, optuna_studies(going_on.space)
    studies = {name: _open_study(storage, name, space) for name in (*groups, *going_on.left_out)}
    # All of them at once: a kill leaves the study as it was, or as what it has grown to.
    with transaction(next(iter(studies.values()))):
        _describe(studies, space, going_on.data)
    under_way = {
        job_key("trial", trial_name(trial.number), prefix=f"{slug(task)}-")
        for name, task in going_on.left_out.items()
        for trial in studies[name].get_trials(deepcopy=False, states=[TrialState.RUNNING])
    }
    return [Scope(space, tasks, studies[name], folder, device) for name, tasks in groups.items()], under_way


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
        Fingerprints of the tasks' data and of a file of weights.
    """
    of_tasks, wrong = {}, list[str]()
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
        of_tasks[spec.name] = task.fingerprint
    if wrong:
        raise DataError(*wrong)

    told = _told_features(space.study, listener, stop)
    for spec in space.tasks:
        with collecting(wrong):
            prepare_features(spec, space, device, told)
    if wrong:
        raise DataError(*dict.fromkeys(wrong))
    return fingerprints(space, of_tasks)


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
            going_on = go_on(storage, space, data)
            space = going_on.space
            writes = GuardedWrites(session, listener.line, stop.wait)
            driver_storage = _driver_storage(storage, writes, space, going_on.grown, listener.line)
            scopes, under_way = _open_scopes(driver_storage, going_on, folder, options.device)
            folder.describe(options.storage_url, space.canonical())
            for text in going_on.told:
                listener.line(text)
            executor = start_executor()
            try:
                choices = run_scopes(scopes, executor, listener, stop)
                folder.clear(jobs=True, keep=under_way)
                return choices
            except StudyInterruptedError as error:
                raise StudyInterruptedError(f"study {space.study!r} is stopped; nothing is lost") from error
            except Exception as error:  # of the driver's own files
                if isinstance(error, IimtSearchError) or not machine_failed(error):
                    raise
                raise MachineError(f"the machine failed: {describe(error, False)}; {CONTINUE}") from error
            finally:
                executor.close()
