"""Brings a study to the trackers that people have: MLflow, TensorBoard, Weights & Biases.

What they are told is what the study holds, by the driver and with their own packages: whichever executor
runs the trials, they hear the same. Optuna's callbacks for them hear a trial's end only, and are deprecated;
Ray Tune's are there with Ray only, and know nothing of vetoes, source-only and the choice. A tracker that
fails ends no run.
"""

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from statistics import fmean
from typing import Any, Protocol

from iimt_search.errors import UsageError
from iimt_search.records import Choice, Scores
from iimt_search.settings import shown_value
from iimt_search.study.scope import SOURCE_ONLY_KEY, Scope
from iimt_search.study.search.trial_record import TrialRecord, read_trials
from iimt_search.task_name import slug


@dataclass(frozen=True)
class Entry:
    """What a tracker is told of one trial, of source-only, or of the choice.

    Attributes:
        name: unique within the study.
        params: searched parameter → value.
        curve: training step → objective.
        metrics: ``task/validator`` → last score, ``validator`` → its mean over the tasks, and what the
            training has cost.
        tags: what is text: how it ended and why.
        step: the last one.
    """

    name: str
    params: Mapping[str, Any] = field(default_factory=dict)
    curve: Mapping[int, float] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    step: int = 0

    def values(self, objective: str) -> Iterator[tuple[str, float, int]]:
        """Yield name, value and step of each number, in the order of steps, each once."""
        yield from ((objective, value, step) for step, value in self.curve.items())
        for name, value in self.metrics.items():
            if name != objective or self.step not in self.curve:
                yield name, value, self.step


class Tracker(Protocol):
    """Where entries go."""

    def log(self, entry: Entry, objective: str) -> None:
        """Write one."""


class MLflow:
    """A run of MLflow for each entry, in ``$MLFLOW_TRACKING_URI`` or else in the study's folder."""

    package = "mlflow"

    def __init__(self, study: str, folder: Path) -> None:
        from mlflow import MlflowClient

        uri = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{(folder / 'mlflow.db').absolute()}"
        self._client = MlflowClient(tracking_uri=uri)
        known = self._client.get_experiment_by_name(study)
        if known is None:
            inside = (
                None if "MLFLOW_TRACKING_URI" in os.environ else (folder / "artifacts").absolute().as_uri()
            )
            self._experiment = self._client.create_experiment(study, artifact_location=inside)
        else:
            self._experiment = known.experiment_id

    def log(self, entry: Entry, objective: str) -> None:
        """Write a run."""
        from mlflow.entities import Metric, Param

        run = self._client.create_run(self._experiment, run_name=entry.name, tags=dict(entry.tags))
        now = int(1000 * time.time())
        metrics = [Metric(name, value, now, step) for name, value, step in entry.values(objective)]
        params = [Param(name, shown_value(value)) for name, value in entry.params.items()]
        self._client.log_batch(run.info.run_id, metrics, params)
        failed = entry.tags.get("state") == "failed"
        self._client.set_terminated(run.info.run_id, "FAILED" if failed else "FINISHED")


class TensorBoard:
    """A folder of event files for each entry, by tensorboardX, which Ray brings along."""

    package = "tensorboardX"

    def __init__(self, study: str, folder: Path) -> None:
        self._folder = folder

    def log(self, entry: Entry, objective: str) -> None:
        """Write a folder."""
        from tensorboardX import SummaryWriter

        with SummaryWriter(str(self._folder / entry.name)) as writer:
            for name, value, step in entry.values(objective):
                writer.add_scalar(name, value, step)
            told = {**{name: shown_value(value) for name, value in entry.params.items()}, **entry.tags}
            writer.add_text("entry", "\n".join(f"- {name}: {value}" for name, value in told.items()))


class WandB:
    """A run of Weights & Biases for each entry, offline unless ``$WANDB_MODE`` says otherwise."""

    package = "wandb"

    def __init__(self, study: str, folder: Path) -> None:
        self._study, self._folder = study, folder

    def log(self, entry: Entry, objective: str) -> None:
        """Write a run; ``wandb sync`` brings it to their server."""
        import wandb

        run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "iimt-search"),
            group=self._study,
            name=entry.name,
            dir=str(self._folder),
            config=dict(entry.params),
            mode=os.environ.get("WANDB_MODE", "offline"),
            settings=wandb.Settings(silent=True),
        )
        for name, value, step in entry.values(objective):
            run.log({name: value}, step=step)
        run.summary.update(dict(entry.tags))
        run.finish()


TRACKERS: dict[str, Any] = {"mlflow": MLflow, "tensorboard": TensorBoard, "wandb": WandB}


def check_trackers(names: Sequence[str]) -> None:
    """Check that the trackers' packages are there.

    Raises:
        UsageError: one is not; says which, before anything has begun.
    """
    for name in names:
        package = TRACKERS[name].package
        if find_spec(package) is None:
            raise UsageError(f"`track={name}` needs the package {package}: pip install {package}")


def _metrics(scores: Scores) -> dict[str, float]:
    found = {f"{slug(task)}/{name}": v for task, values in scores.items() for name, v in values.items()}
    names = [name for name in next(iter(scores.values()), {}) if all(name in v for v in scores.values())]
    return {**found, **{name: fmean(values[name] for values in scores.values()) for name in names}}


def trial_entry(name: str, trial: TrialRecord) -> Entry:
    """Return what is told of an ended trial."""
    tags = {"state": trial.outcome, "origin": trial.origin, "veto": trial.veto, "error": trial.error}
    told = {key: value for key, value in tags.items() if value}
    step = max(trial.curve, default=0)
    return Entry(name, trial.params, trial.curve, {**_metrics(trial.scores), **trial.cost}, told, step)


def choice_entry(name: str, choice: Choice) -> Entry:
    """Return what is told of a choice."""
    tags = {"answer": choice.answer, "candidate": choice.candidate, "reason": choice.reason}
    tags |= {f"note {at}": text for at, text in enumerate(choice.caveats)}
    return Entry(name, choice.params, metrics=_metrics(choice.scores), tags=tags)


class Tracking:
    """Tells the trackers of one scope's trials as they end, each once, also when the study goes on later.

    Args:
        scope: the study.
        names: which trackers.
        line: takes a line of text where one fails.
    """

    def __init__(self, scope: Scope, names: Sequence[str], line: Callable[[str], None]) -> None:
        self._scope, self._line = scope, line
        self._trackers: dict[str, Tracker] = {}
        self._told: set[tuple[str, str]] = set()
        for name in names:
            self._try(name, partial(self._open, name))
        self.update()

    def _folder(self, name: str) -> Path:
        return self._scope.folder.path / "track" / name

    def _open(self, name: str) -> None:
        marks = self._folder(name) / "told"
        marks.mkdir(parents=True, exist_ok=True)
        self._told |= {(name, path.name) for path in marks.iterdir()}
        self._trackers[name] = TRACKERS[name](self._scope.folder.name, self._folder(name))

    def _try(self, name: str, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception as error:  # packages and servers of others raise anything
            self._trackers.pop(name, None)
            first = (str(error).strip().splitlines() or [""])[0]
            self._line(
                f"warning: {name} is told nothing more: {type(error).__name__}: {first}; the study has all"
            )

    def _log(self, name: str, mark: str, entry: Entry) -> None:
        self._trackers[name].log(entry, self._scope.objective)
        (self._folder(name) / "told" / mark).touch()
        self._told.add((name, mark))

    def _tell(self, entry: Entry, again: str = "") -> None:
        for name in list(self._trackers):
            if (name, entry.name + again) not in self._told:
                self._try(name, partial(self._log, name, entry.name + again, entry))

    def update(self) -> None:
        """Tell of source-only and of each trial that has ended and was not told of."""
        if not self._trackers:
            return
        key = self._scope.key("baseline", SOURCE_ONLY_KEY)
        for trial in read_trials(self._scope.study):
            if trial.ended:
                self._tell(trial_entry(self._scope.key("trial", trial.name), trial))
        stored = self._scope.stored(key)
        if stored is not None and self._scope.objective in stored.validators:
            metrics = {**_metrics(stored.scores), **stored.cost}
            self._tell(Entry(key, metrics=metrics, step=stored.step))

    def choose(self, choice: Choice) -> None:
        """Tell of the choice; of another one than before again."""
        self.update()
        self._tell(choice_entry(f"{self._scope.prefix}choice", choice), f"-{choice.digest[:12]}")
