import pytest

from iimt_search.study.executors.ray.schedules import searched_in
from iimt_search.study.executors.ray.session import node_capacity


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
    ("key", "prefix"),
    [
        ("trial-3", ""),
        ("digits_to_digits-m-trial-12", "digits_to_digits-m-"),
        ("confirm-trial-3-0", None),
        ("retrain-trial-3-digits_to_digits-m", None),
        ("source-only", None),
    ],
)
def test_only_trials_of_the_search_are_stopped_early(key: str, prefix: str | None) -> None:
    assert searched_in(key) == prefix
