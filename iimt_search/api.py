"""The public library: what the command line does, as functions. See ``docs/library.md``.

Importing this file imports neither torch nor Optuna nor Ray. Several functions take:

- ``study``: a study's name; by default the newest in ``studies_dir``.
- ``studies_dir``: folder that holds the studies.
- ``storage``: database URL of the study; by default the one that its folder says. It opens a study that
  runs on another machine, too.
- ``device``: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
- ``data_root``: folder for downloaded data; by default ``$IIMT_DATA``, else the user's cache folder.
- ``progress``: takes what is done, and how many of how many.

Whoever takes a ``study`` raises :class:`iimt_search.errors.StudyError` where there is no such study.
"""

import inspect
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeVar

from pydantic import ValidationError

from iimt_search.data.registry import DOMAINS
from iimt_search.errors import IimtSearchError, StudyError, UsageError
from iimt_search.plain_text import clipped, without_passwords
from iimt_search.space import KnownNames, Space
from iimt_search.space import load_space as read_space
from iimt_search.validators.registry import VALIDATORS

if TYPE_CHECKING:
    from iimt_search.auditing.measure import TaskAudit
    from iimt_search.exporting.export_models import ExportedModel
    from iimt_search.records import Choice
    from iimt_search.report.write import WrittenFigures
    from iimt_search.study.open import OpenStudy
    from iimt_search.study.progress import Listener, Snapshot
    from iimt_search.study.rerun import Rerun
    from iimt_search.study.scoring import StudyScores

Count = Callable[[str, int, int], None]
_P = ParamSpec("_P")
_R = TypeVar("_R")


def known_names() -> KnownNames:
    """Return what a space file may name."""
    return KnownNames(
        DOMAINS,
        VALIDATORS,
        comparing=lambda name: VALIDATORS[name].cost == "pool",
        few_shot=lambda name: "few-shot labels" in VALIDATORS[name].needs,
    )


def load_space(
    path: str | Path,
    *,
    study: str | None = None,
    seed: int | None = None,
    trials: int | None = None,
    timeout: float | str | None = None,
    steps: int | None = None,
    data_fraction: float | None = None,
    track: Sequence[str] | None = None,
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
        track: other trackers: any of ``mlflow``, ``tensorboard`` and ``wandb``.

    Raises:
        SpaceError: the file cannot be read, or is wrong; says file, line, key and what would be right.
        UsageError: one of the other values cannot be.
    """
    content = read_space(Path(path), known_names()).canonical()
    if steps is not None:
        content["retrain"]["steps"] = None  # as many as the trials then
    for part, given in (
        (content, {"study": study, "seed": seed, "track": track}),
        (content["budget"], {"trials": trials, "timeout": timeout}),
        (content["train"], {"steps": steps, "data_fraction": data_fraction}),
    ):
        part.update({name: value for name, value in given.items() if value is not None})
    try:
        return Space.model_validate(content)
    except ValidationError as error:
        wrong = error.errors()[0]
        raise UsageError(f"`{wrong['loc'][-1]}={wrong['input']}`: {wrong['msg']}") from error


class _Lines:
    """A listener that passes lines on."""

    def __init__(self, line: Callable[[str], None]) -> None:
        self._line = line

    def line(self, text: str) -> None:
        """Pass the line on; to an output that is not UTF-8 with other letters in the place of some."""
        text = without_passwords(text)
        try:
            self._line(text)
        except UnicodeEncodeError:
            self._line(text.encode("ascii", "replace").decode())

    def snapshot(self, snapshot: "Snapshot") -> None:
        """Ignore the snapshot."""


@contextmanager
def _data_in(folder: str | Path | None) -> Iterator[None]:
    """Let downloaded data lie in a folder, for worker processes too; None: where it lies in any case."""
    before = os.environ.get("IIMT_DATA")
    if folder is not None:
        os.environ["IIMT_DATA"] = str(Path(folder).absolute())
    try:
        yield
    finally:
        if folder is not None:
            os.environ.pop("IIMT_DATA")
            os.environ.update({} if before is None else {"IIMT_DATA": before})


def run(
    space: Space,
    *,
    studies_dir: str | Path = "studies",
    storage: str | None = None,
    backend: Literal["local", "ray"] = "local",
    workers: int | None = None,
    device: str = "auto",
    population: int = 1,
    ray_address: str | None = None,
    ray_storage: str | None = None,
    resources: Mapping[str, Any] | None = None,
    data_root: str | Path | None = None,
    debug: bool = False,
    progress: "Callable[[str], None] | Listener | None" = None,
    stop: threading.Event | None = None,
) -> "list[Choice]":
    """Search, confirm and retrain, as a space says; call it again to continue.

    Args:
        space: what to search.
        storage: database URL; by default ``study.db`` in the study's folder, made in ``studies_dir``.
        backend: where trials run: ``local``, processes on this machine, or ``ray``, Ray Tune.
        workers: trials at once, each in a process of its own; by default one for each core, at most 8;
            0: within this process. A script that starts processes does so under
            ``if __name__ == "__main__":``; a notebook needs no such thing. With Ray: at most so many.
        population: trials that each worker trains as one batched computation, to fill a GPU; without Ray.
        ray_address: Ray cluster, ``auto`` or ``HOST:PORT``; by default Ray is started on this machine.
        ray_storage: where nodes without a shared disk exchange files: a mounted path, or a URI.
        resources: what each trial takes of a machine with Ray, in the place of what the space says: any of
            ``cpus``, ``gpus``, ``memory`` and ``custom``.
        debug: failed trials tell their traceback.
        progress: takes a line of text for each thing that happens, such as ``print``; or a
            :class:`iimt_search.study.progress.Listener`, which gets a snapshot of the run each time too.
        stop: set it from another thread to end the run cleanly.

    Returns:
        One choice; with ``scope: per_task`` one for each task. Its figures are in the Optuna dashboard.

    Raises:
        UsageError: a script without a guard, a pruner of Ray Tune's without Ray, a GPU or a tracker's package
            that is not here, arguments that contradict each other, or a value that cannot be.
        StudyLockedError: another driver runs the study.
        StudyMismatchError: the study was begun with another space.
        StudyInterruptedError: ``stop`` was set.
        StudyError: the storage cannot be opened, Ray cannot be reached, or every candidate failed.
        DataError: a task's data cannot be made.
    """
    from iimt_search.features.photographs import with_backbone
    from iimt_search.study.executors.choose import Backend, check_script_guard, choose_executor
    from iimt_search.study.folder import StudyFolder

    listener = progress if progress is not None and not callable(progress) else _Lines(progress or _ignore)
    path = Path(studies_dir) / space.study
    with _data_in(data_root):
        space = with_backbone(space, listener.line, StudyFolder(path).network())
    asked = Backend(backend, device, workers, population, ray_address, ray_storage, resources, debug)
    executor = choose_executor(space, path, asked, listener.line)
    if executor.spawns:
        check_script_guard(inspect.currentframe())

    # Optuna takes most of a second to import; what is wrong so far is told before that.
    from iimt_search.dashboard.publish import publish_after_run
    from iimt_search.study.run import RunOptions, run_study
    from iimt_search.study.search.sampling import quiet_optuna
    from iimt_search.study.tracking import check_trackers

    check_trackers(space.track)
    quiet_optuna()
    folder = StudyFolder(path)
    listener.line(f"study {space.study!r} in {path}/, {executor.text}")
    options = RunOptions(folder.choose_storage(storage), device)
    with _data_in(data_root):
        choices = run_study(space, folder, options, executor.start, listener, stop or threading.Event())
        with _open(studies_dir, space.study, storage) as opened:
            listener.line(publish_after_run(opened))
    return choices


def _reads(read: Callable[_P, _R]) -> Callable[_P, _R]:
    """Tell what a damaged study's records raise, which may be anything, as an error of the study."""

    @wraps(read)
    def told(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        try:
            return read(*args, **kwargs)
        except (IimtSearchError, OSError, MemoryError, ImportError):
            raise
        except Exception as error:
            if isinstance(error, RuntimeError) and not isinstance(error, RecursionError):
                raise  # torch's, as of a device
            text = clipped(f"{type(error).__name__}: {error}", 300)
            raise StudyError(f"what the study holds is damaged, or of a later version: {text}") from error

    return told


def _ignore(*_: object) -> None:
    return


def _open(studies_dir: str | Path, study: str | None, storage: str | None) -> "OpenStudy":
    from iimt_search.study.open import open_study

    return open_study(studies_dir, study, storage)


@_reads
def best(
    study: str | None = None, *, studies_dir: str | Path = "studies", storage: str | None = None
) -> "list[Choice]":
    """Return what a study chose.

    Returns:
        One choice; with ``scope: per_task`` one for each task.

    Raises:
        StudyError: it has not come to a choice.
    """
    with _open(studies_dir, study, storage) as opened:
        return opened.made_choices()


@_reads
def status(
    study: str | None = None, *, studies_dir: str | Path = "studies", storage: str | None = None
) -> dict[str, Any]:
    """Return where a study stands, as JSON values; works while it runs.

    Returns:
        ``study``: its name; ``place``: where it lies; ``driver``: who runs it, or None; ``parts``: one, with
        ``scope: per_task`` one for each task, each with ``trials`` by state, ``budget``, ``best_trial`` with
        its ``cost``, the ``seconds`` of all trials' training together, and ``choice``.
    """
    from iimt_search.study.open import study_status

    with _open(studies_dir, study, storage) as opened:
        return study_status(opened)


@_reads
def compare(
    first: str, second: str, *, studies_dir: str | Path = "studies", storage: str | None = None
) -> dict[str, Any]:
    """Return two studies side by side, as JSON values.

    Args:
        first: name of one study.
        second: name of the other.

    Returns:
        ``studies``: for each, its parts with trials, best trial and choice; ``space``: what differs between
        their space files, both values each; ``incomparable``: why their objectives cannot be compared.

    Raises:
        UsageError: they are the same.
    """
    if first == second:
        raise UsageError(f"two different studies are compared, got {first!r} twice")
    from iimt_search.study.compare import compare_studies

    with _open(studies_dir, first, storage) as one, _open(studies_dir, second, storage) as other:
        return compare_studies(one, other)


@_reads
def score(
    study: str | None = None,
    *,
    validators: Sequence[str] = (),
    every_step: bool = False,
    export: str | Path | None = None,
    progress: Count | None = None,
    studies_dir: str | Path = "studies",
    storage: str | None = None,
) -> "StudyScores":
    """Score the kept checkpoints of a study by any validator, without training.

    Args:
        validators: names; by default all.
        every_step: every evaluated checkpoint, not the last of each training.
        export: with one validator: where to write the models of the checkpoints that it prefers.

    Raises:
        UsageError: there is no such validator, or ``export`` is given without exactly one.
        StudyError: its checkpoints are not on this machine, or none is preferred.
        ModelFileError: a checkpoint is damaged.
    """
    for name in validators:
        if name not in VALIDATORS:
            raise UsageError(f"there is no validator {name!r}; see `iimt-search validators`")
    if export is not None and len(validators) != 1:
        raise UsageError("`export` needs exactly one `validator`: whose preferred checkpoint to write")
    from iimt_search.study.scoring import score_study

    with _open(studies_dir, study, storage) as opened:
        return score_study(
            opened,
            tuple(validators) or tuple(VALIDATORS),
            every_step,
            None if export is None else Path(export),
            partial(progress or _ignore, "scored"),
        )


@_reads
def rerun(
    trial: int,
    study: str | None = None,
    *,
    device: str = "auto",
    data_root: str | Path | None = None,
    progress: Count | None = None,
    studies_dir: str | Path = "studies",
    storage: str | None = None,
) -> "list[Rerun]":
    """Train a trial again from its record, and tell whether it came out the same; changes nothing.

    As far as it had come: one that was pruned up to there. Compared are the objective at every step, every
    validator's last score, its error, and what it predicted where that was kept.

    Args:
        trial: its number.

    Returns:
        What came out; one, with ``scope: per_task`` one for each task that has such a trial.

    Raises:
        StudyError: there is no such trial, or it has not ended.
        StudyMismatchError: the data is not what the study was run with.
        DataError: a task's data cannot be made.
    """
    from iimt_search.study.rerun import rerun_trial

    with _open(studies_dir, study, storage) as opened, _data_in(data_root):
        return rerun_trial(opened, trial, device, partial(progress or _ignore, "trained"))


@dataclass(frozen=True)
class WrittenReport:
    """A study's report, as it was written.

    Attributes:
        study: the study's name.
        path: the HTML file.
        names: of its figures.
        figures: the figures' own files; None where they were not asked for.
        dashboard: what was brought to the Optuna dashboard, or why not, in one line.
    """

    study: str
    path: Path
    names: list[str]
    figures: "WrittenFigures | None"
    dashboard: str


def _report_path(opened: "OpenStudy") -> Path:
    """Return where a study's report lies: in its folder, or here where that cannot be written."""
    if opened.read_only:
        return Path(f"{opened.folder.name}-report.html")
    return opened.folder.path / "report.html"


@_reads
def write_report(
    study: str | None = None,
    *,
    output: str | Path | None = None,
    figures: str | Path | None = None,
    data_root: str | Path | None = None,
    studies_dir: str | Path = "studies",
    storage: str | None = None,
) -> WrittenReport:
    """Write a study's report, one HTML file that needs no network, and bring its figures to the dashboard.

    Works while the study runs; the dashboard is then left alone.

    Args:
        output: the file; by default ``report.html`` in the study's folder, or ``NAME-report.html`` here where
            that cannot be written.
        figures: folder to write each figure to, as JSON and, where kaleido is installed, as PNG.

    Raises:
        ModelFileError: its stored audit is damaged.
    """
    from iimt_search.dashboard.publish import publish_parts
    from iimt_search.report import write

    with _open(studies_dir, study, storage) as opened, _data_in(data_root):
        path = _report_path(opened) if output is None else Path(output)
        parts = write.gather(opened)
        write.write_report(opened, parts, path)
        files = None if figures is None else write.write_figures(parts, Path(figures))
        names = [drawing.name for part in parts for section in part.sections for drawing in section.drawings]
        return WrittenReport(opened.folder.name, path, names, files, publish_parts(opened, parts))


@_reads
def export(
    folder: str | Path,
    study: str | None = None,
    *,
    formats: Sequence[str] = (),
    single: bool = False,
    progress: Count | None = None,
    studies_dir: str | Path = "studies",
    storage: str | None = None,
) -> "dict[str, ExportedModel]":
    """Write one exported model for each task of a study, with its card; see ``docs/export.md``.

    Args:
        folder: made where absent; each task has a folder of its own in it.
        formats: beside safetensors: ``torch-export``, ``onnx``.
        single: one model a task, the best-scored, instead of the ensemble of its trainings.

    Returns:
        Task → what was written, and how far each format's logits differ.

    Raises:
        UsageError: a format cannot be written here, or something that is not ours stands in the way.
        StudyError: it has no choice, or its models are not on this machine.
        ModelFileError: a format does not compute the same as the safetensors model.
    """
    from iimt_search.auditing.record import read_audit
    from iimt_search.exporting.card import Provenance
    from iimt_search.exporting.export_models import export_models
    from iimt_search.exporting.formats import check_formats

    check_formats(formats)
    with _open(studies_dir, study, storage) as opened:
        choices = opened.made_choices()
    opened.need_folder("its models are")
    space, audit = Space.model_validate(opened.space), read_audit(opened.folder.path)
    provenance: dict[str, Provenance] = {}
    for choice in choices:
        audited = audit.content["tasks"] if audit is not None and choice.digest in audit.digests else None
        provenance |= {task: Provenance(choice, space, audited) for task in choice.tasks}
    return export_models(provenance, opened.folder.models, Path(folder), formats, single, progress)


def only_study(studies_dir: str | Path, storage: str | None) -> str | None:
    """Return the one study that there is; None where the storage has to say it.

    Raises:
        UsageError: there are several: whose sealed labels are opened is no matter of a guess.
    """
    there = sorted(path.parent.name for path in Path(studies_dir).glob("*/study.json"))
    if len(there) > 1:
        raise UsageError(f"an audit opens sealed labels: give `study=NAME`, one of {', '.join(there)}")
    return there[0] if there and storage is None else None


def audit(
    study: str | None = None,
    *,
    train: bool = True,
    device: str = "auto",
    data_root: str | Path | None = None,
    progress: Count | None = None,
    studies_dir: str | Path = "studies",
    storage: str | None = None,
) -> "Mapping[str, TaskAudit]":
    """After the choice, measure it and every validator with the sealed target test labels.

    Nothing else reads them, and nothing here changes the choice. The study is marked as audited: a choice
    that changes afterwards says so.

    Args:
        study: its name; only where there is no other in ``studies_dir`` it may be left out.
        train: train the default configuration and a model on the target's labels, to compare with.

    Returns:
        Task → accuracies, in percent.

    Raises:
        UsageError: there are several studies, and none is named.
        StudyError: it has no choice, or its models are not on this machine.
        StudyLockedError: the study runs.
        DataError: a target has no labels.
    """
    from iimt_search.auditing.measure import Auditor, audit_json
    from iimt_search.auditing.record import write_audit
    from iimt_search.report.write import write_audit_page
    from iimt_search.study.selection.choice import leave_mark
    from iimt_search.study.storage.lock import driver_session

    with ExitStack() as held:
        opened = held.enter_context(_open(studies_dir, study or only_study(studies_dir, storage), storage))
        opened.need_folder("its models are")
        folder = opened.folder
        held.enter_context(_data_in(data_root))
        # The mark is written to the study, and a driver is its only writer.
        held.enter_context(folder.driver_lock())
        held.enter_context(driver_session(opened.storage.engine, folder.name, folder.path))
        choices, space = opened.made_choices(), Space.model_validate(opened.space)
        audits: dict[str, TaskAudit] = {}
        for choice in choices:
            audits |= Auditor(choice, space, folder, train, device, progress or _ignore).audit()
        for optuna_study, choice in zip(opened.studies, choices, strict=True):
            leave_mark(optuna_study, choice)
        content = audit_json(folder.name, audits)
        write_audit(folder.path, content, audits, choices)
        write_audit_page(content, folder.path / "audit.html")
    return audits
