from dataclasses import replace
from pathlib import Path

import pytest
import torch

from iimt_search.errors import NonFiniteLossError
from iimt_search.records import Job
from iimt_search.settings import TrainSettings
from iimt_search.space.task_spec import TaskSpec
from iimt_search.training.checkpoint import checkpoint_path
from iimt_search.training.trainable import Trainable, evaluation_steps

TASKS = ("digits->digits-m", "digits->syn-digits")
SPECS = tuple(TaskSpec.model_validate(task) for task in TASKS)
TINY = TrainSettings(steps=6, batch_size=8, image_size=8, width=4, evaluations=3)
VALIDATORS = ("composite", "entropy", "source_accuracy")


def make_job(folder: Path, **changes: object) -> Job:
    job = Job("job", SPECS, TINY, seed=3, validators=VALIDATORS, folder=str(folder))
    return replace(job, **changes)  # type: ignore[arg-type]


def run(job: Job) -> Trainable:
    trainable = Trainable(job)
    while not trainable.done:
        trainable.advance()
    return trainable


def test_evaluation_steps_are_even_and_end_at_the_last_step() -> None:
    assert evaluation_steps(TINY) == [2, 4, 6]
    assert evaluation_steps(TINY.model_copy(update={"steps": 7})) == [2, 5, 7]
    assert evaluation_steps(TINY.model_copy(update={"steps": 2, "evaluations": 9})) == [1, 2]


def test_every_evaluation_scores_every_task_with_every_validator(tmp_path: Path) -> None:
    history = run(make_job(tmp_path)).history
    assert [e.step for e in history] == [2, 4, 6]
    for evaluation in history:
        assert set(evaluation.scores) == set(TASKS)
        assert evaluation.validators == VALIDATORS


def test_same_seed_same_scores_and_another_seed_others(tmp_path: Path) -> None:
    first, second = run(make_job(tmp_path / "a")), run(make_job(tmp_path / "b"))
    assert first.history == second.history
    assert run(make_job(tmp_path / "c", seed=4)).history != first.history


def test_goes_on_from_a_checkpoint_as_if_never_interrupted(tmp_path: Path) -> None:
    whole = run(make_job(tmp_path / "whole"))
    Trainable(make_job(tmp_path / "cut")).advance()
    resumed = Trainable(make_job(tmp_path / "cut"))
    assert [e.step for e in resumed.history] == [2]
    while not resumed.done:
        resumed.advance()
    assert resumed.history == whole.history


def test_noisy_layers_resume_alike_too(tmp_path: Path) -> None:
    noisy = TINY.model_copy(update={"network": "conv9-small", "dropout": 0.4})
    whole = run(make_job(tmp_path / "whole", settings=noisy, tasks=SPECS[:1]))
    Trainable(make_job(tmp_path / "cut", settings=noisy, tasks=SPECS[:1])).advance()
    assert run(make_job(tmp_path / "cut", settings=noisy, tasks=SPECS[:1])).history == whole.history


@pytest.mark.parametrize(
    "changes",
    [
        {"settings": TINY.model_copy(update={"steps": 4})},
        {"settings": TINY.model_copy(update={"alpha": 0.5})},
        {"seed": 4},
        {"validators": ("entropy",)},
        {"shares": ((),)},
        {"shares": ((1.0, *[0.5] * 9),)},
    ],
    ids=["steps", "setting", "seed", "validators", "even", "shares"],
)
def test_another_jobs_checkpoint_is_not_gone_on_from(tmp_path: Path, changes: dict[str, object]) -> None:
    Trainable(make_job(tmp_path, tasks=SPECS[:1])).advance()
    assert len(Trainable(make_job(tmp_path, tasks=SPECS[:1])).history) == 1
    assert Trainable(make_job(tmp_path, tasks=SPECS[:1], **changes)).history == []


def test_a_checkpoint_is_gone_on_from_with_another_lambda_max_from_there_on(tmp_path: Path) -> None:
    before = make_job(tmp_path / "cut", tasks=SPECS[:1])
    Trainable(before).advance()

    def later(lambda_max: float, *earlier: tuple[float, float], **changes: object) -> Job:
        settings = TINY.model_copy(update={"lambda_max": lambda_max, "lambda_schedule": earlier})
        return replace(before, settings=settings, **changes)

    share = 2 / TINY.steps
    assert len(Trainable(later(9.0, (share, 1.0))).history) == 1
    for job in (
        later(9.0),  # other values in what was trained
        later(9.0, (share / 2, 1.0)),
        later(9.0, (share, 2.0)),
        later(9.0, (share, 1.0), seed=4),
    ):
        assert Trainable(job).history == []
    forked = later(9.0, (share, 1.0), folder=str(tmp_path / "cut"))
    whole = later(9.0, (share, 1.0), folder=str(tmp_path / "whole"))
    assert run(forked).history == run(whole).history != run(before).history


def test_a_damaged_checkpoint_means_from_the_start(tmp_path: Path) -> None:
    whole = run(make_job(tmp_path))
    path = checkpoint_path(tmp_path)
    path.write_bytes(path.read_bytes()[:100])
    again = Trainable(make_job(tmp_path))
    assert again.history == []
    again.advance()
    assert again.history == whole.history[:1]


def test_a_non_finite_loss_names_term_step_and_task(tmp_path: Path) -> None:
    # λ_max at the end of float32: w_t grows with the step, and its term overflows at some step after 0.
    job = make_job(tmp_path, settings=TINY.model_copy(update={"lambda_max": 3e39}))
    with pytest.raises(
        NonFiniteLossError, match=r"'intra_target' of digits->digits-m .* at step 1"
    ) as caught:
        run(job)
    assert (caught.value.term, caught.value.step, caught.value.task) == ("intra_target", 1, TASKS[0])


def test_reverse_validation_is_scored_at_the_last_evaluation_only(tmp_path: Path) -> None:
    job = make_job(tmp_path, tasks=SPECS[:1], validators=("entropy", "reverse_validation"))
    history = run(job).history
    assert ["reverse_validation" in e.validators for e in history] == [False, False, True]
    assert 0 <= history[-1].scores[TASKS[0]]["reverse_validation"] <= 1


@pytest.mark.parametrize(
    "row",
    [
        {"w_q": 0.0},
        {"w_z": 0.0},
        {"w_d": 0.0},
        {"w_s": 0.0, "lambda_max": 0.0},
        {"w_source": 1.0, "w_q": 0.0, "w_z": 0.0, "w_d": 0.0, "w_s": 0.0, "lambda_max": 0.0},
        {"w_source": 1.0, "w_q": 0.0, "w_z": 0.0, "w_s": 0.0, "lambda_max": 0.0},
        {"joint_batch_norm": False, "ramp": False, "ema_decay": 0.0, "augment_inputs": False, "dropout": 0.3},
    ],
    ids=["no inter", "no consistency", "no adversarial", "no intra", "source only", "DANN only", "options"],
)
def test_ablation_rows_are_settings(tmp_path: Path, row: dict[str, float]) -> None:
    job = make_job(tmp_path, tasks=SPECS[:1], settings=TINY.model_copy(update=row))
    assert all(0 <= e.mean("composite") <= 1 for e in run(job).history)


def test_the_callers_random_state_is_left_alone(tmp_path: Path) -> None:
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    Trainable(make_job(tmp_path))
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.long
def test_all_weights_one_does_not_collapse(tmp_path: Path) -> None:
    settings = TrainSettings(steps=200)
    assert (settings.w_q, settings.w_d, settings.w_z, settings.w_s, settings.lambda_max) == (1, 1, 1, 1, 1)
    job = make_job(
        tmp_path,
        tasks=(TaskSpec.model_validate("syn-digits->digits"),),
        settings=settings,
        validators=("information_maximisation", "source_accuracy"),
    )
    last = run(job).history[-1]
    # A collapse to one class has information 0 and a source accuracy of about 0.1.
    assert last.mean("information_maximisation") > 0.5
    assert last.mean("source_accuracy") > 0.6
