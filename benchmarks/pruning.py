"""What each pruner saves and what it ends by mistake, replayed on recorded learning curves.

The curves are those of the pool of :mod:`benchmarks.validators` (24 configurations of each task and seed,
some of which collapse): the default objective at each of the five evaluations. Each case is replayed in
several random orders as one search of all its configurations, with the product's own pruners. What counts is
the share of the steps that is saved, how often the configuration with the best last objective is ended, and
what the best of those that are left loses in target test accuracy to the best of all, both picked by the
objective.
"""

import multiprocessing
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import optuna
import torch

from benchmarks.pool import Member, accuracy, members, test_predictions
from iimt_search.space import KnownNames, Space
from iimt_search.space.load import space_from_text
from iimt_search.study.search.sampling import make_pruner, quiet_optuna
from iimt_search.training.kept import load_kept_predictions
from iimt_search.training.trainable import evaluation_steps
from iimt_search.validators.contract import score_all
from iimt_search.validators.registry import VALIDATORS

OBJECTIVE = "composite"
PRUNERS = (
    "none",
    "{name: median, warmup: 0.2}",
    "{name: median, warmup: 0.4}",
    "{name: median, warmup: 0.6}",
    "{name: percentile, percentile: 25, warmup: 0.2}",
    "{name: percentile, percentile: 25, warmup: 0.4}",
    "{name: percentile, percentile: 25, warmup: 0.6}",
    "successive_halving",
    "hyperband",
)


@dataclass(frozen=True)
class Curve:
    """One recorded training.

    Attributes:
        values: the objective at each evaluation.
        steps: when it was evaluated.
        accuracy: of the last checkpoint on target test samples, in percent.
    """

    values: tuple[float, ...]
    steps: tuple[int, ...]
    accuracy: float


def _curve(at: tuple[Member, Path]) -> Curve:
    member, root = at
    torch.set_num_threads(1)
    predictions = [load_kept_predictions(path) for path in member.files(root)]
    values = tuple(score_all([OBJECTIVE], each)[OBJECTIVE] for each in predictions)
    return Curve(values, tuple(evaluation_steps(member.settings)), accuracy(*test_predictions(member, root)))


def recorded(root: Path, tasks: tuple[str, ...], count: int, seeds: int) -> dict[str, list[Curve]]:
    """Return task and seed → its curves.

    Raises:
        RuntimeError: the pool is not there.
    """
    pool = [m for m in members(tasks, count, seeds) if m.configuration != "source-only"]
    if not all(path.exists() for member in pool for path in member.files(root)):
        raise RuntimeError(f"there is no pool in {root}; run python -m benchmarks.validators first")
    with multiprocessing.get_context("spawn").Pool(2) as processes:
        curves = processes.map(_curve, [(member, root) for member in pool], chunksize=4)
    found: dict[str, list[Curve]] = {}
    for member, curve in zip(pool, curves, strict=True):
        found.setdefault(f"{member.task} seed {member.seed}", []).append(curve)
    return found


def _replay(curves: Sequence[Curve], space: Space) -> list[int]:
    """Return how many evaluations of each curve a search in this order makes."""
    study = optuna.create_study(direction="maximize", pruner=make_pruner(space), study_name="replay")
    made = []
    for curve in curves:
        trial = study.ask()
        for index, (step, value) in enumerate(zip(curve.steps, curve.values, strict=True), 1):
            trial.report(value, step)
            if index < len(curve.values) and trial.should_prune():
                study.tell(trial, state=optuna.trial.TrialState.PRUNED)
                break
        else:
            study.tell(trial, curve.values[-1])
        made.append(index)
    return made


def _space(pruner: str, curve: Curve) -> Space:
    text = (
        f"schema: 1\nstudy: replay\ntasks: [digits->digits-m]\npruner: {pruner}\n"
        f"train: {{steps: {curve.steps[-1]}, evaluations: {len(curve.steps)}}}\n"
    )
    return space_from_text(text, KnownNames(("digits", "digits-m"), VALIDATORS))


def _one(curves: Sequence[Curve], space: Space) -> tuple[float, float, float]:
    """Return the share of evaluations saved, whether the best was ended, and the accuracy lost."""
    made = _replay(curves, space)
    whole = [curve for curve, count in zip(curves, made, strict=True) if count == len(curve.values)]
    best, left = (max(found, key=lambda curve: curve.values[-1]) for found in (curves, whole))
    saved = 1 - sum(made) / sum(len(curve.values) for curve in curves)
    return saved, float(best not in whole), best.accuracy - left.accuracy


def measure_pruning(cases: dict[str, list[Curve]], orders: int) -> dict[str, Any]:
    """Return pruner → what it saves and loses, means over the cases and orders."""
    quiet_optuna()
    found: dict[str, Any] = {}
    for pruner in PRUNERS:
        rows = []
        for curves in cases.values():
            space = _space(pruner, curves[0])
            for order in range(orders):
                shuffled = np.random.default_rng(order).permutation(len(curves))
                rows.append(_one([curves[index] for index in shuffled], space))
        saved, ended, lost = zip(*rows, strict=True)
        found[pruner] = {
            "saved": fmean(saved),
            "best_ended": fmean(ended),
            "accuracy_lost": fmean(lost),
            "worst_accuracy_lost": max(lost),
        }
    return found
