"""How well each validator ranks and picks models, by the sealed test labels of the embedded tasks.

``python -m benchmarks.validators`` trains source-only, the default configuration and random ones of the
default search on each task, about twelve minutes on two cores, and prints for each score: the Spearman
correlation with target test accuracy (both averaged over the tasks), the pick, and how far its accuracy
lies below the best model's, in points.
"""

import json
import math
from dataclasses import replace
from statistics import fmean
from typing import Any

import click
import numpy as np
import torch
from scipy.stats import spearmanr

from iimt_search.data.assemble import load_task
from iimt_search.data.sealed import open_sealed_target
from iimt_search.settings import TrainSettings
from iimt_search.space.task_spec import TaskSpec
from iimt_search.study.proposals import SOURCE_ONLY
from iimt_search.training.reverse import reverse_logits
from iimt_search.training.samples import Samples
from iimt_search.training.task_training import TaskTraining, predict
from iimt_search.validators.composite import combine
from iimt_search.validators.contract import score_all
from iimt_search.validators.registry import VALIDATORS
from iimt_search.validators.source_accuracy import source_accuracy

TASKS = ("digits->digits-m", "syn-digits->digits", "syn-digits->digits-m")
CONFIDENT = "source accuracy × information × reverse probe"


def configurations(count: int, seed: int) -> dict[str, dict[str, Any]]:
    """Return source-only, the default, and ``count`` random configurations of the default search."""
    rng = np.random.default_rng(seed)
    found: dict[str, dict[str, Any]] = {"source-only": dict(SOURCE_ONLY), "default": {}}
    for index in range(count):
        found[f"random-{index}"] = {
            "lambda_max": float(10 ** rng.uniform(-2, 2)),
            "alpha": float(10 ** rng.uniform(-1, math.log10(2))),
            "temperature": float(rng.uniform(0.1, 1)),
            "k": int(rng.integers(1, 5)),
        }
    return found


def measure(task_name: str, settings: TrainSettings, seed: int) -> dict[str, float]:
    """Train one model; returns its scores, each so that higher is better, and its ``accuracy``."""
    spec = TaskSpec.model_validate(task_name)
    task = load_task(spec)
    training = TaskTraining(task, settings, seed)
    training.advance(settings.steps)
    predictions = training.predictions()
    raw = score_all(VALIDATORS, replace(predictions, reverse_logits=reverse_logits(training)))
    scores = {name: value if VALIDATORS[name].higher_is_better else -value for name, value in raw.items()}
    information = raw["information_maximisation"] / math.log(len(task.classes))
    scores[CONFIDENT] = combine(raw["source_accuracy"], information, raw["reverse_probe"])
    test = open_sealed_target(spec, task.classes).test
    logits, _ = predict(training.evaluated_model(), Samples(test.unlabelled, training.device))
    scores["accuracy"] = 100 * source_accuracy(logits, torch.from_numpy(test.y))
    return scores


def summarise(measured: dict[str, list[dict[str, float]]]) -> dict[str, dict[str, Any]]:
    """Return score name → Spearman correlation, pick and gap, of configuration → scores by task."""
    accuracy = {name: fmean(row["accuracy"] for row in rows) for name, rows in measured.items()}
    result = {}
    for score in next(iter(measured.values()))[0]:
        if score != "accuracy":
            means = {name: fmean(row[score] for row in rows) for name, rows in measured.items()}
            pick = max(means, key=lambda name: means[name])
            result[score] = {
                "spearman": float(spearmanr(list(means.values()), list(accuracy.values()))[0]),
                "pick": pick,
                "gap": max(accuracy.values()) - accuracy[pick],
            }
    return result


@click.command()
@click.option("--count", default=12, show_default=True, help="Random configurations.")
@click.option("--steps", default=200, show_default=True)
@click.option("--seed", default=0, show_default=True)
@click.option("--json", "as_json", is_flag=True)
def main(count: int, steps: int, seed: int, as_json: bool) -> None:
    """Measure every validator by the sealed test labels."""
    measured: dict[str, list[dict[str, float]]] = {}
    for name, params in configurations(count, seed).items():
        settings = TrainSettings.model_validate({"steps": steps, **params})
        measured[name] = [measure(task, settings, seed) for task in TASKS]
        accuracies = ", ".join(f"{row['accuracy']:.1f}" for row in measured[name])
        click.echo(f"{name}: target test accuracy {accuracies}", err=True)
    summary = summarise(measured)
    if as_json:
        click.echo(json.dumps(summary, indent=2))
        return
    for score, row in sorted(summary.items(), key=lambda item: item[1]["spearman"]):
        click.echo(
            f"{score:46s} Spearman {row['spearman']:5.2f}   gap {row['gap']:5.1f}   picks {row['pick']}"
        )


if __name__ == "__main__":
    main()
