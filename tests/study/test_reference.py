"""The reference that trials are scored by, and the teacher of the retraining, in a whole study."""

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from optuna.trial import TrialState
from safetensors.torch import load_file
from torch import Tensor

import iimt_search
from iimt_search.data.registry import DOMAINS
from iimt_search.errors import ModelFileError, StudyInterruptedError
from iimt_search.pooling.labels import Pool, PooledModel
from iimt_search.records import Candidate, Choice, Job
from iimt_search.settings import TrainSettings
from iimt_search.space import KnownNames, Space
from iimt_search.space.load import load_space
from iimt_search.space.schema import ReferenceSettings
from iimt_search.study.executors.inline import InlineExecutor
from iimt_search.study.folder import StudyFolder
from iimt_search.study.open import open_study
from iimt_search.study.progress import Silent, Snapshot
from iimt_search.study.run import RunOptions, run_study
from iimt_search.study.scope import Scope
from iimt_search.study.selection import confirm
from iimt_search.study.selection.decide import Decision
from iimt_search.study.storage.database import sqlite_url
from iimt_search.training.kept import load_kept_predictions
from iimt_search.training.trainable import Trainable
from iimt_search.validators.consensus import expected_agreement
from iimt_search.validators.registry import VALIDATORS

SLUGS = {"digits->digits-m": "digits_to_digits-m", "digits->syn-digits": "digits_to_syn-digits"}
ALONE = ["source-only", "confirm-source-only-0"]


@pytest.fixture
def space(tiny_space: Path) -> Space:
    loaded = load_space(tiny_space, KnownNames(DOMAINS, VALIDATORS))
    return Space.model_validate(
        {**loaded.canonical(), "reference": {"trials": 2}, "pruner": {"name": "none"}}
    )


def run(
    space: Space, root: Path, listener: Silent | None = None, stop: threading.Event | None = None
) -> Choice:
    folder = StudyFolder(root / space.study)
    options = RunOptions(sqlite_url(folder.database), "cpu")
    (choice,) = run_study(
        space, folder, options, InlineExecutor, listener or Silent(), stop or threading.Event()
    )
    return choice


def view(root: Path, job: str, task: str, step: int = 4) -> PooledModel:
    kept = load_kept_predictions(root / "tiny" / "kept" / job / SLUGS[task] / f"{step}.safetensors")
    return PooledModel(kept.target_logits, kept.target_embeddings)


def together(root: Path, jobs: list[str], task: str) -> Tensor:
    """Return the labels by jobs with adaptation, and by source-only with all its seeds."""
    return Pool(*([view(root, job, task) for job in of] for of in (jobs, ALONE))).labels()


def test_trials_are_scored_by_what_the_first_say_together(space: Space, tmp_path: Path) -> None:
    choice = run(space, tmp_path)
    trials = open_study(tmp_path, "tiny").studies[0].get_trials()
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * 3
    labels = {task: together(tmp_path, ["trial-0", "trial-1"], task) for task in SLUGS}
    for task, expected in labels.items():
        stored = load_file(tmp_path / "tiny" / "reference" / f"{SLUGS[task]}.safetensors")["labels"]
        assert stored.allclose(expected.float())
    for trial in trials:
        assert list(trial.intermediate_values) == [2, 4]
        for step, value in trial.intermediate_values.items():
            found = [
                expected_agreement(view(tmp_path, f"trial-{trial.number}", task, step).logits.argmax(1), of)
                for task, of in labels.items()
            ]
            assert value == pytest.approx(sum(found) / 2, abs=1e-6)
        assert trial.value == trial.intermediate_values[4]
    for job in ALONE:
        source_only = open_study(tmp_path, "tiny").studies[0].user_attrs[f"job {job}"]
        assert all("consensus" in scores for scores in source_only["scores"].values())
    assert choice.objective == "consensus"


def test_the_retraining_is_taught_by_all_trained_models(
    space: Space, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def first_trial(candidates: list[Candidate], *_: Any, **__: Any) -> Decision:
        return Decision("trial", next(c for c in candidates if c.name != "source-only"), "after four steps")

    monkeypatch.setattr(confirm, "decide", first_trial)
    choice = run(space, tmp_path)
    assert choice.taught
    for task, slug in SLUGS.items():
        labels = load_file(tmp_path / "tiny" / "teacher" / f"{slug}.safetensors")["labels"]
        jobs = [f"trial-{number}" for number in range(3)]
        jobs += [f"confirm-{each.name}-0" for each in choice.candidates if each.name != "source-only"]
        expected = together(tmp_path, jobs, task)
        assert labels.allclose(expected.float(), atol=1e-6)
        shares = choice.shares[task]
        assert sum(each["target"] for each in shares.values()) == pytest.approx(1)
        assert sum(each["source"] for each in shares.values()) == pytest.approx(1)
        members = choice.members[task]
        assert members and all(job.startswith(f"retrain-{choice.candidate}-{slug}") for job in members)


def test_without_a_teacher_all_trainings_of_the_winner_are_handed_out(space: Space, tmp_path: Path) -> None:
    choice = run(
        space.model_copy(update={"retrain": space.retrain.model_copy(update={"teach": False})}), tmp_path
    )
    assert not choice.taught and not (tmp_path / "tiny" / "teacher").exists()


class StopWhenHeld(Silent):
    """Stops a run when the first trial has ended and waits for the reference."""

    def __init__(self, root: Path, stop: threading.Event) -> None:
        self._last = [root / "tiny" / "kept" / "trial-0" / slug / "4.safetensors" for slug in SLUGS.values()]
        self._stop = stop

    def snapshot(self, snapshot: Snapshot) -> None:
        if all(path.exists() for path in self._last) and "trial-0" not in snapshot.running:
            self._stop.set()


@pytest.mark.long
def test_a_trial_that_waits_for_the_reference_outlives_its_driver(space: Space, tmp_path: Path) -> None:
    stop = threading.Event()
    with pytest.raises(StudyInterruptedError):
        run(space, tmp_path / "a", StopWhenHeld(tmp_path / "a", stop), stop)
    (trial, *_) = open_study(tmp_path / "a", "tiny").studies[0].get_trials()
    assert trial.state is TrialState.RUNNING
    kept = tmp_path / "a" / "tiny" / "kept" / "trial-0" / "digits_to_digits-m" / "4.safetensors"
    written = kept.stat().st_mtime_ns
    run(space, tmp_path / "a")
    assert kept.stat().st_mtime_ns == written  # not trained again
    run(space, tmp_path / "b")
    one, other = (
        [trial.value for trial in open_study(tmp_path / name, "tiny").studies[0].get_trials()]
        for name in "ab"
    )
    assert one == other and len(one) == 3


def test_teachers_of_other_samples_are_refused(space: Space) -> None:
    from iimt_search.data.assemble import load_task
    from iimt_search.training.task_training import TaskTraining

    task = load_task(space.tasks[0], 8)
    with pytest.raises(ValueError, match=r"teacher must be \(1347, 10\), got \(3, 10\)"):
        TaskTraining(task, space.train, 0, teacher=torch.zeros(3, 10))


def drawn_by(space: Space, root: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Job]:
    """Run a study; returns its jobs by their keys."""
    jobs, start = dict[str, Job](), Trainable.__init__

    def noted(self: Trainable, job: Job) -> None:
        jobs[job.key] = job
        start(self, job)

    monkeypatch.setattr(Trainable, "__init__", noted)
    run(space, root)
    return jobs


def test_the_sources_classes_are_drawn_as_the_reference_estimates_the_targets(
    space: Space, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = drawn_by(space, tmp_path, monkeypatch)
    folder = tmp_path / "tiny"
    pools = [
        Pool(*([view(tmp_path, job, task) for job in of] for of in (["trial-0", "trial-1"], ALONE)))
        for task in SLUGS
    ]
    expected = [pool.source_shares().tolist() for pool in pools]
    for key, job in jobs.items():
        if "source-only" in key or job.teacher:
            assert job.shares == ()
        else:
            of: list[list[float]] = [[], []] if key in ("trial-0", "trial-1") else expected
            assert [list(row) for row in job.shares] == [pytest.approx(row) for row in of]
    (study,) = open_study(tmp_path, "tiny").studies
    told = [trial.user_attrs["source_classes"] for trial in study.get_trials()]
    assert told == ["even", "even", "reference"]
    assert {"trial-2", "confirm-trial-0-0"} <= jobs.keys()
    taught = [job for job in jobs.values() if job.teacher]
    assert taught
    for job in taught:
        assert float(load_file(job.teacher)["shares"].sum()) == pytest.approx(1)
    (again,) = iimt_search.rerun(2, study="tiny", studies_dir=tmp_path, device="cpu")
    assert again.same, again.differences
    (folder / "reference" / "digits_to_digits-m.safetensors").write_bytes(b"damaged")
    with pytest.raises(ModelFileError, match="is not a whole reference"):
        iimt_search.rerun(2, study="tiny", studies_dir=tmp_path, device="cpu")


def test_or_as_they_come(space: Space, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    space = space.model_copy(update={"reference": ReferenceSettings(trials=2, shares=False)})
    jobs = drawn_by(space, tmp_path, monkeypatch)
    assert not any(job.shares for job in jobs.values())
    assert not any("shares" in load_file(job.teacher) for job in jobs.values() if job.teacher)


def test_a_confirmation_that_was_drawn_otherwise_is_trained_again(space: Space, tmp_path: Path) -> None:
    run(space, tmp_path)
    with open_study(tmp_path, "tiny") as opened:
        (study,) = opened.studies
        scope = Scope(space, space.tasks, study, StudyFolder(tmp_path / "tiny"), "cpu")
        job = scope.confirm_job("trial-0", TrainSettings.model_validate(space.train.model_dump()), 0)
        assert scope.have(job)
        assert not scope.have(replace(job, shares=((), ())))
        assert not scope.have(replace(job, shares=()))
