"""What a job keeps of every evaluation, and that scores can be computed from it later."""

from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from iimt_search.data.assemble import load_task
from iimt_search.records import Job
from iimt_search.seeding import derive_seed
from iimt_search.settings import TrainSettings
from iimt_search.space.task_spec import TaskSpec
from iimt_search.task_name import slug
from iimt_search.training.batches import Samples, evenly_spaced
from iimt_search.training.kept import load_kept_model, load_kept_predictions
from iimt_search.training.predict import predict
from iimt_search.training.trainable import Trainable
from iimt_search.validators.contract import Predictions, score_all
from iimt_search.validators.registry import VALIDATORS

TASKS = ("digits->digits-m", "digits->syn-digits")
SPECS = tuple(TaskSpec.model_validate(task) for task in TASKS)
TINY = TrainSettings(
    steps=6, batch_size=8, image_size=8, width=4, evaluations=3, learning_rate=0.03, evaluation_samples=150
)
QUICK = ("source_accuracy", "entropy")
# All but those that compare candidates, or need labels that these tasks do not have.
EVERY = tuple(
    name for name, v in VALIDATORS.items() if v.cost not in ("pool", "reference") and name != "few_shot"
)


def make_job(root: Path, **changes: Any) -> Job:
    job = Job("job", SPECS, TINY, 3, QUICK, str(root / "job"), kept=str(root / "kept"))
    return replace(job, **changes)


def run(job: Job) -> Trainable:
    trainable = Trainable(job)
    while not trainable.done:
        trainable.advance()
    return trainable


def files(root: Path) -> set[str]:
    return {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}


def parts(value: Any, name: str = "") -> dict[str, Tensor | None]:
    if not is_dataclass(value):
        return {name: value}
    found: dict[str, Tensor | None] = {}
    for field in fields(value):
        found |= parts(getattr(value, field.name), f"{name}.{field.name}")
    return found


def alike(left: Predictions, right: Predictions) -> bool:
    theirs = parts(right)
    return all(
        value is other if value is None or other is None else torch.equal(value, other)
        for value, other in ((value, theirs[name]) for name, value in parts(left).items())
    )


def test_a_file_for_each_task_and_evaluation(tmp_path: Path) -> None:
    run(make_job(tmp_path))
    assert files(tmp_path / "kept") == {
        f"{slug(task)}/{step}.safetensors" for task in TASKS for step in (2, 4, 6)
    }


def test_without_a_place_nothing_is_kept_and_the_scores_are_the_same(tmp_path: Path) -> None:
    kept = run(make_job(tmp_path / "a", tasks=SPECS[:1]))
    bare = run(make_job(tmp_path / "b", tasks=SPECS[:1], kept=""))
    assert files(tmp_path / "b") == {"job/checkpoint.pt"}
    assert bare.history == kept.history


def test_scores_computed_later_are_those_of_the_training(tmp_path: Path) -> None:
    job = make_job(tmp_path, validators=EVERY)
    history = run(job).history
    at_the_end = {"reverse_validation", "reverse_validation_short", "mixval"}
    for evaluation in history:
        for task, scores in evaluation.scores.items():
            assert set(scores) == set(EVERY) - (set() if evaluation.step == 6 else at_the_end)
            predictions = load_kept_predictions(job.kept_file(task, evaluation.step))
            assert score_all(scores, predictions) == pytest.approx(scores, rel=0, abs=0, nan_ok=True)
            assert (predictions.reverse_logits is not None) == (evaluation.step == 6)
            assert (predictions.short_reverse_logits is not None) == (evaluation.step == 6)
    entropies = {evaluation.scores[task]["entropy"] for evaluation in history for task in TASKS}
    assert len(entropies) == 6  # no file stands for another


def test_the_kept_model_is_the_one_that_was_evaluated(tmp_path: Path) -> None:
    job = make_job(tmp_path)
    run(job)
    for spec in SPECS:
        target = load_task(spec, 8).target
        samples = Samples(target, torch.device("cpu"))
        for step in (2, 6):
            found = load_kept_model(job.kept_file(spec.name, step))
            logits, _ = predict(found.model, samples, evenly_spaced(len(target), 150))
            kept = load_kept_predictions(job.kept_file(spec.name, step))
            assert torch.equal(logits.half().float(), kept.target_logits)
            assert torch.equal(found.model.classifier.weight.half().float(), kept.classifier_weight)
            assert (found.settings, found.seed) == (TINY, derive_seed(3, spec.name))


def test_a_fresh_start_clears_what_an_earlier_training_kept(tmp_path: Path) -> None:
    run(make_job(tmp_path, tasks=SPECS[:1]))
    stale = tmp_path / "kept" / "gone_to_there" / "9.safetensors"
    stale.parent.mkdir()
    stale.write_text("of an earlier training")
    shorter = TINY.model_copy(update={"steps": 4, "evaluations": 2, "alpha": 0.5})
    trainable = Trainable(make_job(tmp_path, tasks=SPECS[:1], settings=shorter))
    assert trainable.history == [] and files(tmp_path / "kept") == set()
    trainable.advance()
    assert files(tmp_path / "kept") == {f"{slug(TASKS[0])}/2.safetensors"}
    assert load_kept_model(tmp_path / "kept" / slug(TASKS[0]) / "2.safetensors").settings == shorter


def test_a_fresh_start_without_a_place_clears_nothing(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    Trainable(make_job(tmp_path, tasks=SPECS[:1], kept=""))
    assert files(tmp_path) == {"mine.txt"}


def test_a_resumed_training_keeps_what_was_kept_and_adds_the_same(tmp_path: Path) -> None:
    whole, cut = make_job(tmp_path / "whole"), make_job(tmp_path / "cut")
    run(whole)
    Trainable(cut).advance()
    before = cut.kept_file(TASKS[0], 2)
    made = before.stat().st_mtime_ns
    resumed = Trainable(cut)
    assert len(resumed.history) == 1 and files(tmp_path / "cut" / "kept") == {
        f"{slug(task)}/2.safetensors" for task in TASKS
    }
    while not resumed.done:
        resumed.advance()
    assert before.stat().st_mtime_ns == made
    assert files(tmp_path / "cut" / "kept") == files(tmp_path / "whole" / "kept")
    for task in TASKS:
        for step in (2, 4, 6):
            left, right = (load_kept_predictions(job.kept_file(task, step)) for job in (whole, cut))
            assert alike(left, right)
    assert not alike(*(load_kept_predictions(cut.kept_file(TASKS[0], step)) for step in (2, 6)))


def test_a_finished_training_that_is_opened_again_loses_nothing(tmp_path: Path) -> None:
    run(make_job(tmp_path, tasks=SPECS[:1]))
    assert Trainable(make_job(tmp_path, tasks=SPECS[:1])).done
    assert len(files(tmp_path / "kept")) == 3
