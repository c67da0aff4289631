"""Trains a trial again from its record, and compares what comes out."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from optuna.trial import FrozenTrial

from iimt_search.data.assemble import load_trainable
from iimt_search.errors import IimtSearchError, StudyError, StudyMismatchError, describe
from iimt_search.files import strict_json
from iimt_search.records import Job
from iimt_search.space import Space
from iimt_search.study.open import OpenStudy
from iimt_search.study.scope import Scope
from iimt_search.study.search.reference import Reference
from iimt_search.study.search.trial_record import TrialRecord, not_a_number, read_trial
from iimt_search.training.kept import load_kept_model, load_kept_predictions
from iimt_search.training.trainable import Trainable
from iimt_search.validators.registry import VALIDATORS


@dataclass(frozen=True)
class Difference:
    """What came out otherwise.

    Attributes:
        what: such as ``digits->digits-m: entropy``.
        recorded: as the study holds it.
        now: as it came out; None where it did not.
    """

    what: str
    recorded: float | str
    now: float | str | None


@dataclass(frozen=True)
class Rerun:
    """A trial that was trained again.

    Attributes:
        study: the Optuna study's name: with ``scope: per_task`` it ends in the task's.
        trial: its number.
        step: how far it was trained, as far as the trial had come.
        compared: how many recorded values were compared.
        differences: those that came out otherwise, to the last digit.
        arithmetic: in which it was trained now, ``float32`` or ``bfloat16``.
        threads: PyTorch's, in which it was trained now: those of the study's workers, where they are known.
    """

    study: str
    trial: int
    step: int
    compared: int
    differences: tuple[Difference, ...]
    arithmetic: str
    threads: int

    @property
    def same(self) -> bool:
        """Whether all that was compared came out the same."""
        return not self.differences

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values; null for NaN."""
        content: dict[str, Any] = strict_json({**asdict(self), "same": self.same})
        return content


def _check_data(scope: Scope) -> None:
    """Check that the data is that of the study.

    Raises:
        StudyMismatchError: it is not.
    """
    known = scope.study.user_attrs.get("data", {})
    for spec in scope.tasks:
        if known.get(spec.name, "") not in ("", load_trainable(spec, scope.space).fingerprint):
            raise StudyMismatchError(f"the data of {spec.name} is not what the study was run with")


def _computed(was: Job) -> tuple[str, int]:
    """Return in which arithmetic and in how many threads a trial was trained; "" and 0 where unknown.

    A trial whose kept checkpoints are gone was trained as the study's others.
    """
    own = Path(was.kept)
    kept = sorted(own.glob("*/*.safetensors")) or sorted(own.parent.glob("*/*/*.safetensors"))
    if not kept:
        return "", 0
    model = load_kept_model(kept[0])
    return model.arithmetic, model.threads


@contextmanager
def _in_threads(threads: int) -> Iterator[None]:
    """Let PyTorch use so many threads; 0 leaves them as they are."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _again(was: Job, record: TrialRecord, folder: Path, arithmetic: str) -> Job:
    """Return a trial's job, to be trained in ``folder``, with its validators and its arithmetic."""
    recorded = next(iter(record.scores.values()), {})
    names = [n for n in recorded if n in VALIDATORS and VALIDATORS[n].cost != "reference"]
    settings = was.settings
    if arithmetic and settings.precision == "auto":
        settings = settings.model_copy(update={"precision": arithmetic})
    return replace(
        was,
        settings=settings,
        validators=tuple(names) or was.validators,
        folder=str(folder / "job"),
        kept=str(folder / "kept"),
    )


def _recorded(scope: Scope, record: TrialRecord) -> dict[str, float | str]:
    """Return what a trial has come to, by names for people."""
    values: dict[str, float | str] = {f"{scope.objective} at step {s}": v for s, v in record.curve.items()}
    for task, scores in record.scores.items():
        values |= {f"{task}: {name}": value for name, value in scores.items() if name in VALIDATORS}
    return values | {"error": record.error}


def _train(
    scope: Scope, trainable: Trainable, last: int, progress: Callable[[int, int], None]
) -> dict[str, float | str]:
    """Train up to a step; returns what it comes to as :func:`_recorded` does."""
    reference, values = Reference(scope), dict[str, float | str](error="")
    try:
        while not trainable.done and trainable.next_step <= last:
            evaluation = reference.complete(trainable.job, trainable.advance())
            progress(evaluation.step, last)
            for task, scores in evaluation.scores.items():
                values |= {f"{task}: {name}": value for name, value in scores.items()}
            if scope.objective in evaluation.validators:
                value = evaluation.mean(scope.objective)
                if not math.isfinite(value):
                    values["error"] = not_a_number(scope.objective, value, evaluation.step)
                    break
                values[f"{scope.objective} at step {evaluation.step}"] = value
    except IimtSearchError as error:
        values["error"] = describe(error, debug=False)
    return values


def _predictions(was: Job, job: Job, step: int) -> Iterator[tuple[str, bool]]:
    """Tell of each task whether the target's logits are those that were kept, where they were."""
    for spec in job.tasks:
        kept, made = was.kept_file(spec.name, step), job.kept_file(spec.name, step)
        if kept.exists() and made.exists():
            logits = [load_kept_predictions(path).target_logits for path in (kept, made)]
            yield f"{spec.name}: logits", logits[0].equal(logits[1])


def _equal(recorded: float | str, now: float | str | None) -> bool:
    return recorded == now or (recorded != recorded and now != now)  # NaN and NaN


def _rerun(scope: Scope, trial: FrozenTrial, progress: Callable[[int, int], None]) -> Rerun:
    record = read_trial(scope.study, trial)
    if not record.ended:
        raise StudyError(f"{record.name} of {scope.study.study_name!r} has not ended: it is {record.state}")
    was = scope.trial_job(record.number, record.params, trial.user_attrs)
    arithmetic, threads = _computed(was)
    with TemporaryDirectory(prefix="iimt-search-") as folder, _in_threads(threads):
        trainable = Trainable(_again(was, record, Path(folder), arithmetic))
        last = max(record.curve) if record.state == "pruned" and record.curve else was.settings.steps
        recorded, now = _recorded(scope, record), _train(scope, trainable, last, progress)
        step = trainable.history[-1].step if trainable.history else 0
        for what, same in _predictions(was, trainable.job, step):
            recorded[what], now[what] = "as kept", "as kept" if same else "others"
    differences = [
        Difference(what, value, now.get(what))
        for what, value in recorded.items()
        if not _equal(value, now.get(what))
    ]
    return Rerun(
        study=scope.study.study_name,
        trial=record.number,
        step=step,
        compared=len(recorded),
        differences=tuple(differences),
        arithmetic=trainable.arithmetic,
        threads=threads or torch.get_num_threads(),
    )


def rerun_trial(
    opened: OpenStudy, number: int, device: str, progress: Callable[[int, int], None]
) -> list[Rerun]:
    """Train a trial again from its record; see ``api.rerun``."""
    space = Space.model_validate(opened.space)
    reruns = []
    for study in opened.studies:
        tasks = [t for t in space.tasks if study.study_name in (space.study, f"{space.study}:{t.name}")]
        scope = Scope(space, tuple(tasks), study, opened.folder, device)
        for trial in study.get_trials(deepcopy=False):
            if trial.number == number:
                _check_data(scope)
                reruns.append(_rerun(scope, trial, progress))
    if not reruns:
        raise StudyError(f"study {opened.folder.name!r} has no trial {number}")
    return reruns
