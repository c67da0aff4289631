"""A pool of models, good and collapsed, on several tasks: what the validators are measured on.

Every checkpoint's predictions and weights are kept in a folder, and the logits of the target's test samples
beside them; a model that is there already is not trained again.
"""

import multiprocessing
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from iimt_search.data.assemble import load_task
from iimt_search.data.sealed import open_sealed_target
from iimt_search.data.task import DomainTask
from iimt_search.files import kept_path
from iimt_search.seeding import derive_seed
from iimt_search.settings import TrainSettings
from iimt_search.space.task_spec import TaskSpec
from iimt_search.study.search.sampling import SOURCE_ONLY
from iimt_search.training.batches import Samples, evenly_spaced
from iimt_search.training.kept import load_kept_model, load_kept_predictions, rounded, save_kept
from iimt_search.training.predict import predict
from iimt_search.training.reverse import reverse_logits
from iimt_search.training.task_training import TaskTraining
from iimt_search.training.trainable import evaluation_steps
from iimt_search.validators.contract import Predictions
from iimt_search.validators.source_accuracy import source_accuracy

EMBEDDED = ("digits->digits-m", "syn-digits->digits", "syn-digits->digits-m")
REAL = ("mnist->mnist-m", "mnist->digits", "digits->mnist")
UNTUNED = ("syn-digits->mnist", "mnist->syn-digits", "digits-m->digits")
FIXED = {"image_size": 16, "evaluation_samples": 2000}
MOST_TEST_SAMPLES = 2500


@dataclass(frozen=True)
class Member:
    """One model of the pool.

    Attributes:
        task: the task's name.
        configuration: ``source-only``, ``default``, ``random-N`` or ``wide-N``.
        seed: of the training.
        params: what differs from the defaults, as (name, value).
    """

    task: str
    configuration: str
    seed: int
    params: tuple[tuple[str, Any], ...]

    @property
    def settings(self) -> TrainSettings:
        """The whole configuration."""
        return TrainSettings.model_validate({**FIXED, **dict(self.params)})

    def folder(self, root: Path) -> Path:
        """Where its checkpoints lie."""
        return root / f"{self.configuration}-seed{self.seed}"

    def files(self, root: Path) -> list[Path]:
        """Return its checkpoints' files, in the order of training."""
        slug = TaskSpec.model_validate(self.task).slug
        return [kept_path(self.folder(root), slug, step) for step in evaluation_steps(self.settings)]


def configurations(task: str, count: int) -> dict[str, dict[str, Any]]:
    """Return source-only, the default, and random ones, ``count`` in all, other ones for each task.

    A third of the random ones also vary what the default search leaves fixed, widely enough to collapse.
    """
    rng = np.random.default_rng(derive_seed(0, "pool", task))
    found: dict[str, dict[str, Any]] = {"source-only": dict(SOURCE_ONLY), "default": {}}
    wide = (count - 2) // 3
    for index in range(count - 2):
        params: dict[str, Any] = {
            "lambda_max": float(10 ** rng.uniform(-2, 2)),
            "alpha": float(10 ** rng.uniform(-1, np.log10(2))),
            "temperature": float(rng.uniform(0.1, 1)),
            "k": int(rng.integers(1, 5)),
        }
        if index < wide:
            params["learning_rate"] = float(10 ** rng.uniform(-3.3, -1))
            params["reversal"] = float(10 ** rng.uniform(-1.5, 1))
            params["w_z"] = float(10 ** rng.uniform(-1, 1))
        found[f"{'wide' if index < wide else 'random'}-{index}"] = params
    return found


def members(tasks: tuple[str, ...], count: int, seeds: int) -> list[Member]:
    """Return the whole pool."""
    return [
        Member(task, name, seed, tuple(params.items()))
        for task in tasks
        for seed in range(seeds)
        for name, params in configurations(task, count).items()
    ]


def _test_path(path: Path) -> Path:
    return path.with_suffix(".test.safetensors")


def _reverse_path(path: Path) -> Path:
    return path.with_suffix(".reverse.safetensors")


def _load(member: Member) -> tuple[TaskSpec, DomainTask]:
    spec = TaskSpec.model_validate(member.task)
    return spec, load_task(spec, member.settings.image_size, member.settings.data_fraction)


def _training(member: Member, task: DomainTask) -> TaskTraining:
    return TaskTraining(task, member.settings, derive_seed(member.seed, "pool", member.configuration))


def train_member(member: Member, root: Path) -> None:
    """Train a model and keep its checkpoints and its logits of the target's test samples."""
    spec, task = _load(member)
    test = open_sealed_target(spec, task.classes, member.settings.image_size).test
    measured = evenly_spaced(len(test), MOST_TEST_SAMPLES)
    training = _training(member, task)
    for path, step in zip(member.files(root), evaluation_steps(member.settings), strict=True):
        training.advance(step)
        model = training.evaluated_model()
        save_kept(path, rounded(training.predictions()), model, training.settings, training.seed)
        logits, _ = predict(model, Samples(test.unlabelled, training.device), measured)
        save_file({"logits": logits, "labels": torch.from_numpy(test.y[measured])}, _test_path(path))


def train_back(member: Member, root: Path) -> None:
    """Do both reverse trainings of a trained model, and keep their logits."""
    path = member.files(root)[-1]
    training = _training(member, _load(member)[1])
    training.warm_start(load_kept_model(path).model)
    full, short = (reverse_logits(training, short) for short in (False, True))
    save_file({"reverse_logits": full, "short_reverse_logits": short}, _reverse_path(path))


def load_member(member: Member, root: Path) -> Predictions:
    """Return a trained model's last predictions, with those of the reverse trainings where they are there."""
    path = member.files(root)[-1]
    found = load_kept_predictions(path)
    if _reverse_path(path).exists():
        back = load_file(_reverse_path(path))
        full, short = back["reverse_logits"], back["short_reverse_logits"]
        found = replace(found, reverse_logits=full, short_reverse_logits=short)
    return found


def test_predictions(member: Member, root: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a trained model's logits (N, C) and the labels (N,) of the target's test samples."""
    found = load_file(_test_path(member.files(root)[-1]))
    return found["logits"], found["labels"]


def accuracy(logits: torch.Tensor, labels: torch.Tensor) -> float:
    """Return the accuracy in percent."""
    return 100 * source_accuracy(logits, labels)


def _done(member: Member, root: Path, back: bool) -> bool:
    path = member.files(root)[-1]
    return (_reverse_path(path) if back else _test_path(path)).exists()


def _work(at: tuple[Member, Path, bool]) -> str:
    member, root, back = at
    torch.set_num_threads(1)
    (train_back if back else train_member)(member, root)
    return f"{member.task} {member.configuration} seed {member.seed}{', reverse' if back else ''}"


def train_pool(
    pool: Iterable[Member], root: Path, workers: int, line: Callable[[str], None], back: bool = False
) -> None:
    """Train what is missing, or the reverse trainings of it, with so many processes."""
    missing = [(member, root, back) for member in pool if not _done(member, root, back)]
    if not missing:
        return
    with multiprocessing.get_context("spawn").Pool(workers) as processes:
        for index, text in enumerate(processes.imap_unordered(_work, missing), 1):
            line(f"{index}/{len(missing)} {text}")
