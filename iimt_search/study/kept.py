"""The kept checkpoints of a study: which there are, and how many stay."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from optuna.trial import TrialState

from iimt_search.study.folder import StudyFolder
from iimt_search.study.scope import Scope
from iimt_search.study.search.trial_record import read_trials
from iimt_search.task_name import slug
from iimt_search.training.kept import KeptCheckpoint


def kept_checkpoints(folder: StudyFolder, tasks: Iterable[str]) -> list[KeptCheckpoint]:
    """Return a study's kept checkpoints of these tasks, by job, task and step."""
    named = list(tasks)
    return [kept for job in sorted(folder.kept.glob("*")) for kept in _of_job(job, named)]


def _of_job(job: Path, tasks: Iterable[str]) -> list[KeptCheckpoint]:
    kept = []
    for task in tasks:
        files = (job / slug(task)).glob("*.safetensors")
        for step, path in sorted((int(path.stem), path) for path in files if path.stem.isdecimal()):
            kept.append(KeptCheckpoint(job.name, task, step, path))
    return kept


def last_checkpoints(kept: Iterable[KeptCheckpoint]) -> list[KeptCheckpoint]:
    """Return the last one of each job and task, in the order of the first."""
    last: dict[tuple[str, str], KeptCheckpoint] = {}
    for checkpoint in kept:
        key = (checkpoint.job, checkpoint.task)
        if key not in last or checkpoint.step > last[key].step:
            last[key] = checkpoint
    return list(last.values())


def bound_kept(kept: Sequence[KeptCheckpoint], limit: int, worst_first: Callable[[], Sequence[str]]) -> int:
    """Delete kept checkpoints until at most ``limit`` bytes are left.

    Args:
        kept: all of a study's.
        limit: in bytes.
        worst_first: returns the keys of the jobs that may lose some; asked only where some must. First go
            the earlier checkpoints of the worst job, then of the next; then their last ones in the same
            order. Other jobs lose none.

    Returns:
        How many were deleted.
    """
    sizes = {checkpoint.path: checkpoint.path.stat().st_size for checkpoint in kept}
    over = sum(sizes.values()) - limit
    if over <= 0:
        return 0
    last = {checkpoint.path for checkpoint in last_checkpoints(kept)}
    rank = {job: place for place, job in enumerate(worst_first())}
    may_go = sorted(
        (checkpoint for checkpoint in kept if checkpoint.job in rank),
        key=lambda checkpoint: (checkpoint.path in last, rank[checkpoint.job], checkpoint.step),
    )
    count = 0
    for path in (checkpoint.path for checkpoint in may_go):
        if over <= 0:
            break
        path.unlink(missing_ok=True)
        for folder in (path.parent, path.parent.parent):
            if not any(folder.iterdir()):
                folder.rmdir()
        over -= sizes[path]
        count += 1
    return count


# Deleting down to a little less than the limit, all files are looked at once in a while only.
_DOWN_TO = 0.95


def _size(kept: Iterable[KeptCheckpoint]) -> int:
    return sum(checkpoint.path.stat().st_size for checkpoint in kept)


class KeptLimit:
    """Keeps a study's kept checkpoints within a limit while its trials end.

    Args:
        folder: the study's.
        tasks: all of its tasks' names.
        limit: in bytes.
    """

    def __init__(self, folder: StudyFolder, tasks: Iterable[str], limit: int) -> None:
        self._folder, self._tasks, self._limit = folder, list(tasks), limit
        self._bytes: int | None = None

    def look_again(self) -> None:
        """Look at all files at the next end of a trial: other trainings have kept some, too."""
        self._bytes = None

    def ended(self, job: str, worst_first: Callable[[], Sequence[str]]) -> int:
        """Count what an ended job, by its key, has kept; above the limit delete as :func:`bound_kept`.

        Returns:
            How many checkpoints were deleted.
        """
        folder, tasks = self._folder, self._tasks
        if self._bytes is None:
            self._bytes = _size(kept_checkpoints(folder, tasks))
        else:
            self._bytes += _size(_of_job(folder.kept / job, tasks))
        if self._bytes <= self._limit:
            return 0
        count = bound_kept(kept_checkpoints(folder, tasks), int(_DOWN_TO * self._limit), worst_first)
        self._bytes = _size(kept_checkpoints(folder, tasks))
        return count


def _worst_first(scope: Scope) -> list[str]:
    """Return the keys of the finished trials, those without an objective first, then the worst."""
    trials = read_trials(scope.study, (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL))
    others = [trial for trial in trials if trial.state != "complete"]
    return [scope.key("trial", trial.name) for trial in (*others, *reversed(scope.rank(trials)))]


def kept_limit(scope: Scope, limit: KeptLimit, line: Callable[[str], None]) -> Callable[[str], None]:
    """Return what keeps a study within its limit as a scope's trials end; its worst lose theirs first."""

    def ended(job: str) -> None:
        if count := limit.ended(job, lambda: _worst_first(scope)):
            megabytes = scope.space.keep.megabytes
            line(f"{count} kept checkpoints of the worst trials deleted: keep.megabytes is {megabytes}")

    return ended
