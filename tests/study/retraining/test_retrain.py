import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState, create_trial

from iimt_search.errors import StudyError
from iimt_search.records import Candidate, Choice, Evaluation, Job
from iimt_search.settings import TrainSettings
from iimt_search.space import Space
from iimt_search.study.folder import StudyFolder
from iimt_search.study.retraining.members import TrainedModel, trained_models
from iimt_search.study.retraining.retrain import Retraining
from iimt_search.study.scope import SOURCE_ONLY_KEY, Scope
from iimt_search.study.search.sampling import distributions
from iimt_search.training.kept import KeptCheckpoint

TASKS = ("a->b", "c->d")
SETTINGS = TrainSettings(steps=4)


def make_choice(trial: int | None, seeds: int = 2) -> Choice:
    name = SOURCE_ONLY_KEY if trial is None else f"trial-{trial}"
    return Choice(
        study="s",
        tasks=TASKS,
        answer="source-only" if trial is None else "trial",
        trial=trial,
        params={},
        objective="composite",
        score=0.5,
        scores={},
        candidates=(Candidate(name, (0.5,) * seeds), Candidate("trial-9", (0.1,) * seeds)),
        reason="best",
    )


def make_scope(folder: Path, **more: Any) -> Scope:
    content = {
        "schema": 1,
        "study": "s",
        "tasks": list(TASKS),
        "search": {"alpha": {"low": 0.1, "high": 2.0}},
        "train": {"steps": 4},
        "objective": "composite",
        "retrain": {"seeds": 1, "teach": False},
        **more,
    }
    space = Space.model_validate(content)
    tasks = space.tasks if space.scope == "joint" else space.tasks[1:]
    return Scope(space, tasks, optuna.create_study(direction="maximize"), StudyFolder(folder), "cpu")


def touch(job: Job, step: int) -> None:
    for task in job.tasks:
        path = job.kept_file(task.name, step)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("kept")


def ran(scope: Scope, job: Job, score: float, step: int = 4) -> None:
    """Note a job as run to its end, with what it kept; its score on the second task is 10 higher."""
    scores = {task.name: {"composite": score + 10 * (task.name == TASKS[1])} for task in job.tasks}
    scope.store(job, Evaluation(step, scores))
    for each in (2, step):
        touch(job, each)


def tried(scope: Scope, score: float, steps: tuple[int, ...] = (2, 4), state: str = "COMPLETE") -> None:
    number = len(scope.study.get_trials(deepcopy=False))
    complete = state == "COMPLETE"
    scope.study.add_trial(
        create_trial(
            state=TrialState[state],
            value=score if complete else None,
            params={"alpha": 1.0},
            distributions=distributions(scope.space),
            intermediate_values=dict.fromkeys(steps, score),
            user_attrs={"scores": {task: {"composite": score + 10 * (task == TASKS[1])} for task in TASKS}},
        )
    )
    for step in steps:
        touch(scope.trial_job(number, {"alpha": 1.0}), step)


@pytest.fixture
def scope(tmp_path: Path) -> Scope:
    """A study with two trials; both, and source-only, were confirmed with three seeds and retrained."""
    scope = make_scope(tmp_path)
    tried(scope, 0.0)
    tried(scope, 0.1)
    ran(scope, scope.source_only_job(), 0.2)
    for number, name in enumerate(("trial-0", "trial-1", SOURCE_ONLY_KEY)):
        for index in range(3):
            ran(scope, scope.confirm_job(name, SETTINGS, index), number + 0.3 + index / 10)
        for task in scope.tasks:
            ran(scope, scope.retrain_jobs(name, SETTINGS, task)[0], number + 0.9)
    return scope


def found(scope: Scope, choice: Choice, task: int = 0, candidate: str = "") -> list[TrainedModel]:
    candidate = candidate or choice.candidate
    jobs = scope.retrain_jobs(candidate, SETTINGS, scope.tasks[task])
    return trained_models(scope, choice, candidate, jobs)


def told(models: list[TrainedModel]) -> dict[str, float]:
    return {model.kept.job: model.scores["composite"] for model in models}


def test_the_retrained_one_first_then_fresh_seeds_and_the_trial_itself(scope: Scope) -> None:
    models = found(scope, make_choice(1))
    assert list(told(models).items()) == [
        ("retrain-trial-1-a_to_b", pytest.approx(1.9)),
        ("confirm-trial-1-0", pytest.approx(1.3)),
        ("confirm-trial-1-1", pytest.approx(1.4)),
        ("trial-1", pytest.approx(0.1)),
    ]
    assert all((model.kept.task, model.kept.step) == ("a->b", 4) for model in models)
    assert all(model.kept.path.parts[-2:] == ("a_to_b", "4.safetensors") for model in models)


def test_each_task_has_its_own(scope: Scope) -> None:
    models = found(scope, make_choice(1), task=1)
    assert list(told(models)) == [
        "retrain-trial-1-c_to_d",
        "confirm-trial-1-0",
        "confirm-trial-1-1",
        "trial-1",
    ]
    assert told(models)["trial-1"] == pytest.approx(10.1)
    assert {model.kept.task for model in models} == {"c->d"}


def test_as_many_fresh_seeds_as_the_choice_was_made_by(scope: Scope) -> None:
    assert len(found(scope, make_choice(1, seeds=1))) == 3
    assert len(found(scope, make_choice(1, seeds=3))) == 5


@pytest.mark.parametrize("trial", [None, 1], ids=["chosen", "beside a trial"])
def test_source_only_with_its_training_beside_the_trials(scope: Scope, trial: int | None) -> None:
    models = found(scope, make_choice(trial), candidate=SOURCE_ONLY_KEY)
    assert told(models) == {
        "retrain-source-only-a_to_b": pytest.approx(2.9),
        "confirm-source-only-0": pytest.approx(2.3),
        "confirm-source-only-1": pytest.approx(2.4),
        "source-only": pytest.approx(0.2),
    }


def test_what_is_not_kept_any_more_is_out(scope: Scope) -> None:
    (scope.folder.kept / "trial-1" / "a_to_b" / "4.safetensors").unlink()
    (scope.folder.kept / "confirm-trial-1-0" / "a_to_b" / "4.safetensors").unlink()
    assert list(told(found(scope, make_choice(1)))) == ["retrain-trial-1-a_to_b", "confirm-trial-1-1"]
    assert len(found(scope, make_choice(1), task=1)) == 4


def test_what_has_failed_is_out(scope: Scope) -> None:
    scope.study.set_user_attr("job confirm-trial-1-1", None)
    assert list(told(found(scope, make_choice(1)))) == [
        "retrain-trial-1-a_to_b",
        "confirm-trial-1-0",
        "trial-1",
    ]


def test_a_trial_without_an_evaluation_is_out(scope: Scope) -> None:
    tried(scope, 0.5, steps=(), state="FAIL")
    assert found(scope, make_choice(2)) == []


def test_a_trial_that_was_pruned_is_out(scope: Scope) -> None:
    tried(scope, 0.5, steps=(2,), state="PRUNED")
    ran(scope, scope.confirm_job("trial-2", SETTINGS, 0), 0.7)
    assert list(told(found(scope, make_choice(2)))) == ["confirm-trial-2-0"]


def test_a_study_of_one_task_at_a_time(tmp_path: Path) -> None:
    scope = make_scope(tmp_path, scope="per_task")
    tried(scope, 0.5)
    ran(scope, scope.confirm_job("trial-0", SETTINGS, 0), 0.6)
    ran(scope, scope.retrain_jobs("trial-0", SETTINGS, scope.tasks[0])[0], 0.7)
    models = found(scope, replace(make_choice(0), tasks=TASKS[1:]))
    assert told(models) == {
        "c_to_d-retrain-trial-0-c_to_d": pytest.approx(10.7),
        "c_to_d-confirm-trial-0-0": pytest.approx(10.6),
        "c_to_d-trial-0": pytest.approx(10.5),
    }


def retraining(scope: Scope) -> Retraining:
    return Retraining(scope, make_choice(None), lambda _: None)


def test_a_retraining_whose_kept_checkpoint_is_gone_is_trained_again(scope: Scope) -> None:
    assert retraining(scope).missing() == []
    scope.retrain_jobs(SOURCE_ONLY_KEY, SETTINGS, scope.tasks[1])[0].kept_file("c->d", 4).unlink()
    assert [job.key for job in retraining(scope).missing()] == ["retrain-source-only-c_to_d"]


def test_what_has_gone_since_it_was_looked_for_is_an_error_and_never_another_model(scope: Scope) -> None:
    steps = retraining(scope).steps()
    next(steps)
    shutil.rmtree(scope.folder.kept / "retrain-source-only-a_to_b")
    with pytest.raises(StudyError, match=r"retrain-source-only-a_to_b has kept is not in .*trains it again"):
        next(steps)
    assert not scope.folder.models.exists()


def test_what_was_made_with_other_retrain_settings_is_trained_again(tmp_path: Path) -> None:
    scope = make_scope(tmp_path)
    tried(scope, 0.1)
    (job,) = scope.retrain_jobs("trial-0", SETTINGS, scope.tasks[0])
    (taught,) = scope.retrain_jobs("trial-0", SETTINGS, scope.tasks[0], taught=True)
    ran(scope, job, 0.5)
    assert scope.have(job) and not scope.have(taught) and taught.key == job.key
    ran(scope, taught, 0.5)
    assert scope.have(taught) and not scope.have(job)
    tuned = []
    for freeze, step in (("nothing", 4), ("first_half", 4), ("nothing", 2)):
        changed = make_scope(tmp_path, retrain={"seeds": 1, "teach": False, "freeze": freeze})
        changed = replace(changed, study=scope.study)
        start = KeptCheckpoint(job.key, TASKS[0], step, job.kept_file(TASKS[0], step))
        tuned.append(changed.fine_tuning_job(job, start))
    ran(scope, tuned[0], 0.6, step=1)
    assert [scope.have(each) for each in tuned] == [True, False, False]
    # Of an earlier version, which did not note it.
    scope.study.set_user_attr(f"job {job.key}", {"step": 4, "scores": {TASKS[0]: {"composite": 0.5}}})
    assert scope.have(job) and scope.have(taught)
