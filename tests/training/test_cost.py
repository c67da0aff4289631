"""What a training costs: seconds that add up, and operations that are those of a step."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from iimt_search.data.assemble import load_task
from iimt_search.data.task import DomainTask
from iimt_search.kinds import Kind
from iimt_search.records import Evaluation, Job, shown_cost
from iimt_search.settings import TrainSettings
from iimt_search.space.task_spec import TaskSpec
from iimt_search.training import cost
from iimt_search.training.checkpoint import checkpoint_path
from iimt_search.training.cost import Spent, measured, step_operations
from iimt_search.training.population import advance_together
from iimt_search.training.task_training import TaskTraining
from iimt_search.training.trainable import Trainable

SMALL = {"steps": 4, "batch_size": 8, "image_size": 8, "width": 4, "evaluations": 2, "precision": "float32"}
SPEC = TaskSpec.model_validate("digits->digits-m")


def training(task: DomainTask | None = None, **changes: Any) -> TaskTraining:
    settings = TrainSettings.model_validate({**SMALL, "evaluation_samples": 50, **changes})
    return TaskTraining(task or load_task(SPEC, 8, 0.2), settings, 0)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"k": 3},
        {"accumulate": 2},
        {"joint_batch_norm": False},
        {"lambda_max": 0.0, "w_q": 0.0, "w_d": 0.0},
    ],
    ids=["default", "k", "accumulate", "apart", "few terms"],
)
def test_operations_are_those_of_a_real_step(changes: dict[str, Any]) -> None:
    made = training(**changes)
    counted = step_operations(made)
    with FlopCounterMode(display=False) as counter:
        made.advance(1)
    assert counted == counter.get_total_flops() > 0


@pytest.mark.parametrize("kind", ["series", "vector"])
def test_operations_of_other_kinds(kind: Kind, kind_task: Callable[[Kind], DomainTask]) -> None:
    made = training(kind_task(kind))
    counted = step_operations(made)
    with FlopCounterMode(display=False) as counter:
        made.advance(1)
    assert counted == counter.get_total_flops() > 0


def test_counting_leaves_the_training_as_it_was() -> None:
    counted, other = training(), training()
    step_operations(counted)
    for each in (counted, other):
        each.advance(2)
    for name, value in counted.model.state_dict().items():
        assert torch.equal(value, other.model.state_dict()[name]), name


def job(folder: Path, **changes: Any) -> Job:
    settings = TrainSettings.model_validate({**SMALL, "data_fraction": 0.2})
    return replace(Job("trial-0", (SPEC,), settings, 0, ("entropy",), str(folder)), **changes)


def test_a_resumed_trainings_seconds_add_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter(range(100))  # each reading a second later: each advance takes one
    monkeypatch.setattr(cost, "_clock", lambda _: float(next(times)))
    first = Trainable(job(tmp_path))
    assert first.advance().cost == {"seconds": 1.0}
    again = Trainable(job(tmp_path))
    assert [evaluation.cost for evaluation in again.history] == [{"seconds": 1.0}]
    assert again.advance().cost == {"seconds": 2.0}


def test_seconds_of_an_earlier_versions_checkpoint_are_not_known(tmp_path: Path) -> None:
    Trainable(job(tmp_path)).advance()
    path = checkpoint_path(tmp_path)
    content = torch.load(path, weights_only=True)
    for state in content["states"].values():
        del state["spent"]
    torch.save(content, path)
    again = Trainable(job(tmp_path))
    assert again.history[-1].cost == {} and again.advance().cost == {}


def test_operations_are_counted_where_they_are_asked_for(tmp_path: Path) -> None:
    made = Trainable(job(tmp_path, count_operations=True))
    half, whole = made.advance().cost["operations"], made.advance().cost["operations"]
    assert whole == 2 * half == 4 * step_operations(made.trainings[0])
    assert "operations" not in Trainable(job(tmp_path / "other")).advance().cost


def test_members_of_a_population_share_its_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter(range(100))
    monkeypatch.setattr(cost, "_clock", lambda _: float(next(times)))
    members = [training(), training(k=1)]
    advance_together(members, [2, 2])
    assert [member.spent for member in members] == [Spent(0.5), Spent(0.5)]


def test_what_fails_has_taken_its_time_too() -> None:
    spent = Spent(0.0)
    with pytest.raises(ValueError, match="on purpose"), measured(torch.device("cpu"), spent):
        sum(range(10_000))
        raise ValueError("on purpose")
    assert spent.seconds > 0 and spent.gpu_bytes == 0


def test_a_gpu_is_waited_for_and_its_peak_is_the_most_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    peaks, ticks = iter([500, 300]), iter([1.0, 3.0, 10.0, 11.0])
    for name in ("synchronize", "reset_peak_memory_stats"):
        monkeypatch.setattr(f"torch.cuda.{name}", lambda _, name=name: done.append(name))
    monkeypatch.setattr("torch.cuda.max_memory_allocated", lambda _: next(peaks))
    monkeypatch.setattr(cost.time, "perf_counter", lambda: next(ticks))
    spent = Spent(0.0)
    for _ in range(2):
        with measured(torch.device("cuda"), spent):
            pass
    assert spent == Spent(3.0, 500)
    assert done == ["reset_peak_memory_stats", "synchronize", "synchronize"] * 2


def test_cost_has_no_part_in_comparisons() -> None:
    assert Evaluation(1, {}, {"seconds": 1.0}) == Evaluation(1, {}, {"seconds": 2.0})


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("seconds", 0.04, "0.0 s"),
        ("operations", 999, "999 FLOP"),
        ("operations", 1_234_567, "1.23 MFLOP"),
        ("gpu_bytes", 2.5e9, "2.5 GB"),
    ],
)
def test_costs_are_shown_with_their_unit(name: str, value: float, text: str) -> None:
    assert shown_cost(name, value) == text
