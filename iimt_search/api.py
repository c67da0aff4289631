"""The public library: what the command line does, as functions. See ``docs/library.md``.

Importing this file imports neither torch nor Optuna nor Ray.
"""

import inspect
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from iimt_search.data.registry import DOMAINS
from iimt_search.errors import UsageError
from iimt_search.space import KnownNames, Space
from iimt_search.space import load_space as read_space
from iimt_search.study.executors.script_guard import check_script_guard
from iimt_search.validators.registry import VALIDATORS

if TYPE_CHECKING:
    from iimt_search.auditing.measure import AuditOptions, TaskAudit
    from iimt_search.exporting.export_models import ExportedModel
    from iimt_search.records import Choice
    from iimt_search.study.executors.base import Executor
    from iimt_search.study.open import OpenStudy
    from iimt_search.study.progress import Snapshot

_MAX_WORKERS = 8


def known_names() -> KnownNames:
    """Return what a space file may name."""
    return KnownNames(
        DOMAINS,
        VALIDATORS,
        comparing=lambda name: VALIDATORS[name].cost == "pool",
        few_shot=lambda name: "few-shot labels" in VALIDATORS[name].needs,
    )


def usable_cores() -> int:
    """Return how many processor cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def default_workers(cores: int) -> int:
    """Return one worker a core, at most 8: small networks gain more by trials than by threads."""
    return max(1, min(cores, _MAX_WORKERS))


def overridden(space: Space, **values: Any) -> Space:
    """Return a space with some values in the place of the file's.

    Args:
        space: as the file says.
        values: those of :func:`load_space`; None leaves the file's.

    Raises:
        ValidationError: a value cannot be.
    """
    given = {name: value for name, value in values.items() if value is not None}
    content = space.canonical()
    if "steps" in given:
        content["retrain"]["steps"] = None  # as many as the trials then
    for name, value in given.items():
        part = {"trials": "budget", "timeout": "budget", "steps": "train", "data_fraction": "train"}.get(name)
        (content if part is None else content[part])[name] = value
    return Space.model_validate(content)


def load_space(
    path: str | Path,
    *,
    study: str | None = None,
    seed: int | None = None,
    trials: int | None = None,
    timeout: float | str | None = None,
    steps: int | None = None,
    data_fraction: float | None = None,
) -> Space:
    """Read, parse and check a space file; see ``docs/space-file.md``.

    Args:
        path: the file, YAML. Relative paths in it are seen from its folder.
        study: another name for the study.
        seed: another seed of everything, 0 or more.
        trials: another budget of finished trials, at least 1.
        timeout: another budget of wall time: seconds, or a text such as ``30m``.
        steps: a reduced size: training steps, of the retraining too; at least 1.
        data_fraction: a reduced size: share of every task's samples, in (0, 1].

    Raises:
        SpaceError: the file cannot be read, or is wrong; says file, line, key and what would be right.
        UsageError: one of the other values cannot be.
    """
    space = read_space(Path(path), known_names())
    try:
        return overridden(
            space,
            study=study,
            seed=seed,
            trials=trials,
            timeout=timeout,
            steps=steps,
            data_fraction=data_fraction,
        )
    except ValidationError as error:
        found = error.errors()[0]
        raise UsageError(f"{found['loc'][-1]}={found['input']!r}: {found['msg']}") from error


class _Lines:
    """A listener that passes lines on."""

    def __init__(self, line: Callable[[str], None]) -> None:
        self.line = line

    def snapshot(self, snapshot: "Snapshot") -> None:
        """Ignore the snapshot."""


def local_executor(
    space: Space, device: str, workers: int | None, population: int = 1, debug: bool = False
) -> tuple[Callable[[], "Executor"], int]:
    """Return what starts the executor of this machine, and its worker processes; nothing is started yet.

    Raises:
        UsageError: the space or the device asks for what is not here.
    """
    from iimt_search.study.executors.inline import InlineExecutor
    from iimt_search.study.executors.local import LocalExecutor
    from iimt_search.training.device import resolve_device

    space.pruner.check_without_ray()
    resolve_device(device)  # told once, before anything is begun
    cores = usable_cores()
    # A population is there to fill the device that several workers would have to share.
    default = default_workers(cores) if population == 1 else 1
    count = default if workers is None else workers
    if count < 0:
        raise UsageError(f"`workers >= 0` must hold, got {count}")
    if count == 0:
        return partial(InlineExecutor, debug, population), 0
    return partial(LocalExecutor, count, max(1, cores // count), debug, population), count


def run(
    space: Space,
    *,
    studies_dir: str | Path = "studies",
    storage: str | None = None,
    workers: int | None = None,
    device: str = "auto",
    progress: Callable[[str], None] | None = None,
    stop: threading.Event | None = None,
) -> "list[Choice]":
    """Search, confirm and retrain, as a space says; call it again to continue.

    Args:
        space: what to search.
        studies_dir: folder that holds the studies; this one's is made in it.
        storage: database URL; by default ``study.db`` in the study's folder.
        workers: processes that train; by default one for each core, at most 8; 0: within this process.
            A script that starts processes does so under ``if __name__ == "__main__":``; a notebook needs
            no such thing.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        progress: takes a line of text for each thing that happens, such as ``print``.
        stop: set it from another thread to end the run cleanly.

    Returns:
        One choice; with ``scope: per_task`` one for each task.

    Raises:
        UsageError: a script without a guard, a pruner of Ray Tune's, a GPU that is not here, or a value that
            cannot be.
        StudyLockedError: another driver runs the study.
        StudyMismatchError: the study was begun with another space.
        StudyInterruptedError: ``stop`` was set.
        StudyError: the storage cannot be opened, or every candidate failed.
        DataError: a task's data cannot be made.
    """
    start, count = local_executor(space, device, workers)
    if count:
        check_script_guard(inspect.currentframe())
    from iimt_search.study.folder import StudyFolder
    from iimt_search.study.progress import Silent
    from iimt_search.study.run import RunOptions, run_study
    from iimt_search.study.search.sampling import quiet_optuna

    quiet_optuna()
    folder = StudyFolder(Path(studies_dir) / space.study)
    options = RunOptions(folder.choose_storage(storage), device)
    listener = Silent() if progress is None else _Lines(progress)
    return run_study(space, folder, options, start, listener, stop or threading.Event())


def _open(study: str | None, studies_dir: str | Path, storage: str | None) -> "OpenStudy":
    from iimt_search.study.open import open_study

    return open_study(Path(studies_dir), study, storage)


def best(
    study: str | None = None, *, studies_dir: str | Path = "studies", storage: str | None = None
) -> "list[Choice]":
    """Return what a study chose.

    Args:
        study: its name; by default the newest in ``studies_dir``.
        studies_dir: folder that holds the studies.
        storage: database URL of a study that runs on another machine.

    Returns:
        One choice; with ``scope: per_task`` one for each task.

    Raises:
        StudyError: there is no such study, or it has not come to a choice.
    """
    return _open(study, studies_dir, storage).made_choices()


def export(
    folder: str | Path,
    study: str | None = None,
    *,
    formats: Sequence[str] = (),
    single: bool = False,
    studies_dir: str | Path = "studies",
    storage: str | None = None,
) -> "dict[str, ExportedModel]":
    """Write one exported model for each task of a study, with its card; see ``docs/export.md``.

    Args:
        folder: made where absent; each task has a folder of its own in it.
        study: its name; by default the newest in ``studies_dir``.
        formats: beside safetensors: ``torch-export``, ``onnx``.
        single: one model a task, the best-scored, instead of the ensemble of its trainings.
        studies_dir: folder that holds the studies.
        storage: database URL of the study, where it is not its own.

    Returns:
        Task → what was written, and how far each format's logits differ.

    Raises:
        UsageError: a format cannot be written here, or something that is not ours stands in the way.
        StudyError: there is no such study, no choice, or its models are not on this machine.
        ModelFileError: a format does not compute the same as the safetensors model.
    """
    return export_opened(_open(study, studies_dir, storage), Path(folder), formats, single)


def export_opened(
    opened: "OpenStudy",
    folder: Path,
    formats: Sequence[str] = (),
    single: bool = False,
    progress: Callable[[str, int, int], None] | None = None,
) -> "dict[str, ExportedModel]":
    """Export the models of a study that is open; as :func:`export`, and ``progress`` is told what is done."""
    from iimt_search.auditing.record import read_audit
    from iimt_search.exporting.card import Provenance
    from iimt_search.exporting.export_models import export_models
    from iimt_search.exporting.formats import check_formats

    check_formats(formats)
    choices = opened.made_choices()
    opened.need_folder("its models are")
    space, audit = Space.model_validate(opened.space), read_audit(opened.folder.path)
    stories: dict[str, Provenance] = {}
    for choice in choices:
        audited = audit.content["tasks"] if audit is not None and choice.digest in audit.digests else None
        stories |= {task: Provenance(choice, space, audited) for task in choice.tasks}
    return export_models(stories, opened.folder.models, folder, formats, single, progress)


def audit_opened(opened: "OpenStudy", options: "AuditOptions") -> "dict[str, TaskAudit]":
    """Audit a study that is open, mark it, and keep what was found in its folder.

    Returns:
        Task → accuracies.

    Raises:
        StudyError: there is no choice, or its models are not on this machine.
        StudyLockedError: the study runs.
        DataError: a target has no labels.
    """
    from iimt_search.auditing.measure import audit_choice, audit_json
    from iimt_search.auditing.record import write_audit
    from iimt_search.report.audit_page import write_audit_picture
    from iimt_search.study.selection.choice import leave_mark
    from iimt_search.study.storage.lock import driver_session

    opened.need_folder("its models are")
    folder = opened.folder
    # The mark is written to the study, and a driver is its only writer.
    with folder.driver_lock(), driver_session(opened.storage.engine, folder.name, folder.path):
        choices, space = opened.made_choices(), Space.model_validate(opened.space)
        audits: dict[str, TaskAudit] = {}
        for choice in choices:
            audits |= audit_choice(choice, space, folder, options)
        for optuna_study, choice in zip(opened.studies, choices, strict=True):
            leave_mark(optuna_study, choice)
        content = audit_json(folder.name, audits)
        write_audit(folder.path, content, audits, choices)
        write_audit_picture(content, folder.path / "audit.html")
    return audits


def _unheard(what: str, done: int, of: int) -> None:
    return


def audit(
    study: str | None = None,
    *,
    train: bool = True,
    device: str = "auto",
    progress: Callable[[str, int, int], None] | None = None,
    studies_dir: str | Path = "studies",
    storage: str | None = None,
) -> "Mapping[str, TaskAudit]":
    """After the choice, measure it and every validator with the sealed target test labels.

    Nothing else reads them, and nothing here changes the choice. The study is marked as audited: a choice
    that changes afterwards says so.

    Args:
        study: its name; by default the newest in ``studies_dir``.
        train: train the default configuration and a model on the target's labels, to compare with.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        progress: told what is done, how many of how many.
        studies_dir: folder that holds the studies.
        storage: database URL of the study, where it is not its own.

    Returns:
        Task → accuracies, in percent.

    Raises:
        StudyError: there is no such study, no choice, or its models are not on this machine.
        StudyLockedError: the study runs.
        DataError: a target has no labels.
    """
    from iimt_search.auditing.measure import AuditOptions

    options = AuditOptions(train, device, tuple(VALIDATORS), progress or _unheard)
    return audit_opened(_open(study, studies_dir, storage), options)
