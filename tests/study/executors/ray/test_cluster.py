"""Two nodes on one machine: one joins a study under way, and is killed."""

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from optuna.trial import TrialState
from ray.cluster_utils import Cluster

from iimt_search.errors import StudyError, UsageError
from iimt_search.space import Space
from iimt_search.study.executors.processes import KEEP_FREED_MEMORY
from iimt_search.study.executors.ray.executor import RayExecutor, RayOptions
from iimt_search.study.executors.ray.session import RaySession
from iimt_search.study.progress import Snapshot

pytestmark = [pytest.mark.ray, pytest.mark.slow]


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    yield made
    made.shutdown()


def test_a_node_joins_and_is_killed_and_no_trial_is_lost(
    cluster: Cluster,
    longer_space: Callable[[int], Space],
    run_on: Any,
    recording: Any,
    kill_once: Any,
    assert_whole: Any,
    tmp_path: Path,
) -> None:
    nodes: list[Any] = []
    most: list[int] = []
    made: list[Any] = []

    class JoinThenKill(kill_once):  # type: ignore[misc]
        def snapshot(self, snapshot: Snapshot) -> None:
            most.append(len(snapshot.running))
            if not nodes:
                nodes.append(cluster.add_node(num_cpus=1))
            super().snapshot(snapshot)

    class Unhurried(recording):  # type: ignore[misc]
        """Answers late until the node is killed: the trials last until it has started its process."""

        def answer(self, *told: Any) -> None:
            if not listener.killed:
                threading.Event().wait(0.5)
            super().answer(*told)

    def start() -> Any:
        made.append(Unhurried(RayOptions(tmp_path / "tiny", address=cluster.address)))
        return made[0]

    listener = JoinThenKill(2, lambda: cluster.remove_node(nodes[0], allow_graceful=False))
    trials = run_on(longer_space(6), start, listener)
    assert listener.killed
    assert most[0] == 1 and max(most) == 2
    assert_whole(trials, 6)
    assert all(trial.state is TrialState.COMPLETE for trial in trials)
    assert "gone" in made[0].assert_resent()


@pytest.mark.parametrize("joined", [False, True], ids=["started-here", "cluster"])
def test_workers_keep_freed_memory(joined: bool, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    address = request.getfixturevalue("cluster").address if joined else None
    session = RaySession(address, 1, tmp_path / "logs")
    try:
        found = ray.get(ray.remote(lambda: dict(os.environ)).remote())
    finally:
        session.close()
    assert KEEP_FREED_MEMORY.items() <= found.items()
    assert not KEEP_FREED_MEMORY.keys() & os.environ.keys()


def test_wrong_addresses_are_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="runs on a machine of the cluster; give auto, or HOST:PORT"):
        RayExecutor(RayOptions(tmp_path, address="ray://127.0.0.1:10001"))
    with pytest.raises(UsageError, match="must be auto or HOST:PORT.* got 'elsewhere'"):
        RayExecutor(RayOptions(tmp_path, address="elsewhere"))
    with pytest.raises(StudyError, match="no Ray cluster answers at 127.0.0.1:1: .*ray start --head"):
        RayExecutor(RayOptions(tmp_path, address="127.0.0.1:1"))
