"""What is lost when a process, a node or the driver is killed: nothing but time."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState

from iimt_search.space import Space
from iimt_search.study.executors.ray.executor import RayOptions
from iimt_search.study.open import open_study

pytestmark = [pytest.mark.ray, pytest.mark.slow]


def actors_of(pid: int) -> list[int]:
    """Return the processes below ``pid`` that run trials."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = stat.read_text()
        except OSError:
            continue
        parents[int(stat.parent.name)] = int(text.rsplit(")", 1)[1].split()[1])
    found = []
    for child, parent in parents.items():
        above = parent
        while above not in (pid, 0, 1) and above in parents:
            above = parents[above]
        if above == pid and "ray::Resource" in Path(f"/proc/{child}/cmdline").read_text():
            found.append(child)
    return found


def test_a_killed_process_loses_no_trial(
    ray_here: None,
    longer_space: Callable[[int], Space],
    run_on: Any,
    recording: Any,
    kill_once: Any,
    assert_whole: Any,
    tmp_path: Path,
) -> None:
    made: list[Any] = []

    def start() -> Any:
        made.append(recording(RayOptions(tmp_path / "tiny")))
        return made[0]

    listener = kill_once(2, lambda: os.kill(actors_of(os.getpid())[0], signal.SIGKILL))
    assert_whole(run_on(longer_space(4), start, listener), 4)
    assert listener.killed
    assert "killed" in made[0].assert_resent()


# A driver that kills itself while two trials are under way, the third or a later one among them.
_KILLED_DRIVER = """
import os, signal, sys
import iimt_search
from iimt_search.study.progress import Silent


class Killed(Silent):
    def snapshot(self, snapshot):
        trials = {key: share for key, share in snapshot.running.items() if key.startswith("trial-")}
        if len(trials) == 2 and max(trials) >= "trial-2" and max(trials.values()) > 0.1:
            os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    space, studies = sys.argv[1:]
    space = iimt_search.load_space(space)
    iimt_search.run(space, studies_dir=studies, backend="ray", workers=2, progress=Killed())
"""


def test_a_killed_driver_continues_and_loses_no_trial(
    tiny_space: Path, assert_whole: Any, tmp_path: Path
) -> None:
    text = tiny_space.read_text().replace("steps: 4", "steps: 60").replace("trials: 3", "trials: 6")
    tiny_space.write_text(text.replace("evaluations: 2", "evaluations: 6"))
    studies = tmp_path / "studies"
    (tmp_path / "killed.py").write_text(_KILLED_DRIVER)
    killed = subprocess.run(
        [sys.executable, str(tmp_path / "killed.py"), str(tiny_space), str(studies)],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    left = open_study(studies, "tiny").studies[0].get_trials()
    assert sum(trial.state is TrialState.RUNNING for trial in left) >= 2

    command = [sys.executable, "-m", "iimt_search", "run", "--space", str(tiny_space), "--backend", "ray"]
    command += ["--studies-dir", str(studies)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    trials = open_study(tmp_path / "studies", "tiny").studies[0].get_trials()
    assert_whole(trials, 6)
    for before, after in zip(left, trials, strict=False):
        assert before.params in ({}, after.params)
        assert before.intermediate_values.items() <= after.intermediate_values.items()
