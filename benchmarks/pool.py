"""A pool of models, good and collapsed, on several tasks: what the validators are measured on.

Every checkpoint's predictions and weights are kept in a folder, and the logits of the target's test samples
beside them; a model that is there already is not trained again.
"""

import multiprocessing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from iimt_search.data.assemble import load_task
from iimt_search.data.sealed import open_sealed_target
from iimt_search.files import kept_path
from iimt_search.seeding import derive_seed
from iimt_search.settings import TrainSettings
from iimt_search.space.task_spec import TaskSpec
from iimt_search.study.proposals import SOURCE_ONLY
from iimt_search.training.kept import rounded, save_kept
from iimt_search.training.samples import Samples, evenly_spaced
from iimt_search.training.task_training import TaskTraining, predict
from iimt_search.training.trainable import evaluation_steps

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
        params: what differs from the defaults.
    """

    task: str
    configuration: str
    seed: int
    params: dict[str, Any]

    @property
    def settings(self) -> TrainSettings:
        """The whole configuration."""
        return TrainSettings.model_validate({**FIXED, **self.params})

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
        Member(task, name, seed, params)
        for task in tasks
        for seed in range(seeds)
        for name, params in configurations(task, count).items()
    ]


def _test_path(path: Path) -> Path:
    return path.with_suffix(".test.safetensors")


def train_member(member: Member, root: Path) -> None:
    """Train a model and keep its checkpoints, unless they are there."""
    files = member.files(root)
    if _test_path(files[-1]).exists():
        return
    spec = TaskSpec.model_validate(member.task)
    settings = member.settings
    task = load_task(spec, settings.image_size, settings.share)
    test = open_sealed_target(spec, task.classes, settings.image_size).test
    measured = evenly_spaced(len(test), MOST_TEST_SAMPLES)
    training = TaskTraining(task, settings, derive_seed(member.seed, "pool", member.configuration))
    for path, step in zip(files, evaluation_steps(settings), strict=True):
        training.advance(step)
        model = training.evaluated_model()
        save_kept(path, rounded(training.predictions()), model, settings, training.seed)
        logits, _ = predict(model, Samples(test.unlabelled, training.device), measured)
        save_file({"logits": logits, "labels": torch.from_numpy(test.y[measured])}, _test_path(path))


def test_predictions(path: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a checkpoint's logits (N, C) and the labels (N,) of the target's test samples."""
    found = load_file(_test_path(path))
    return found["logits"], found["labels"]


def _train(at: tuple[Member, Path]) -> str:
    member, root = at
    torch.set_num_threads(1)
    try:
        train_member(member, root)
    except Exception as error:  # a collapsed configuration may not finish; the pool does
        return f"{member.task} {member.configuration} seed {member.seed}: {error}"
    return f"{member.task} {member.configuration} seed {member.seed}"


def train_pool(pool: list[Member], root: Path, workers: int, line: Any) -> None:
    """Train what is missing, with so many processes."""
    missing = [member for member in pool if not _test_path(member.files(root)[-1]).exists()]
    with multiprocessing.get_context("spawn").Pool(workers) as processes:
        for index, text in enumerate(processes.imap_unordered(_train, [(m, root) for m in missing]), 1):
            line(f"{index}/{len(missing)} {text}")
