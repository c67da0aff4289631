from types import SimpleNamespace
from typing import Any

import pytest

from iimt_search.records import Job
from iimt_search.settings import TrainSettings
from iimt_search.space.task_spec import TaskSpec
from iimt_search.study.executors.ray.schedules import Schedule
from iimt_search.study.executors.ray.session import node_capacity


def named(candidate: str, **more: Any) -> Job:
    task = TaskSpec.model_validate("digits->digits-m")
    return Job(candidate, (task,), TrainSettings(), 0, ("entropy",), "", **more)


@pytest.mark.parametrize(
    ("offered", "wanted", "count"),
    [
        ({"CPU": 4}, {"CPU": 1}, 4),
        ({"CPU": 4}, {"CPU": 3}, 1),
        ({"CPU": 4}, {"CPU": 8}, 0),
        ({"CPU": 4}, {"CPU": 0.1}, 40),
        ({"CPU": 8, "GPU": 1}, {"CPU": 1, "GPU": 0.25}, 4),
        ({"CPU": 8, "GPU": 2}, {"CPU": 1, "GPU": 0.4}, 4),  # two on each, never one on both
        ({"CPU": 8, "GPU": 2}, {"CPU": 1, "GPU": 2}, 1),
        ({"CPU": 8}, {"CPU": 1, "GPU": 0.5}, 0),
        ({"CPU": 8, "memory": 10e9}, {"CPU": 1, "memory": 4e9}, 2),
        ({"CPU": 8, "disk": 1}, {"CPU": 1, "disk": 0.5}, 2),
    ],
)
def test_capacity_of_a_node(offered: dict[str, float], wanted: dict[str, float], count: int) -> None:
    assert node_capacity(offered, wanted) == count


@pytest.mark.parametrize(
    ("job", "prefix"),
    [
        (named("trial-3"), ""),
        (named("trial-12", prefix="digits_to_digits-m-"), "digits_to_digits-m-"),
        (named("trial-3", purpose="confirmation"), None),
        (named("trial-3", purpose="retraining"), None),
        (named("source-only", purpose="baseline"), None),
    ],
)
def test_only_trials_of_the_search_are_stopped_early(job: Job, prefix: str | None) -> None:
    scheduled: dict[str, list[Any]] = {"": [], "digits_to_digits-m-": []}
    schedule = Schedule(lambda: None, "entropy")  # type: ignore[arg-type,return-value]
    for key, added in scheduled.items():
        schedule._of[key] = SimpleNamespace(on_trial_add=lambda _, trial, to=added: to.append(trial))  # type: ignore[assignment]
    trial: Any = SimpleNamespace(config={"job": job})
    schedule.add(trial)
    assert [key for key, added in scheduled.items() if added] == ([] if prefix is None else [prefix])
