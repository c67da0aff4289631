"""Killed runs go on to what an uninterrupted run comes to. ``python -m benchmarks kills`` does more."""

import os
from contextlib import suppress
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from optuna.trial import TrialState

from benchmarks.kills import SPACE, line, measure_kills
from iimt_search.files import atomic_write, remove_half_files
from iimt_search.space import Space
from iimt_search.study.executors.inline import InlineExecutor
from iimt_search.study.folder import StudyFolder
from iimt_search.study.open import open_study
from iimt_search.study.progress import Silent
from iimt_search.study.run import RunOptions, run_study


@pytest.mark.long
@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_killed_at_writes_and_at_random_moments_nothing_is_lost() -> None:
    kills = int(os.environ.get("IIMT_KILLS", "3"))
    found = measure_kills(points=max(1, kills - 1), moments=kills, worker_moments=0, seed=1)
    assert not found.wrong, "\n".join([*found.wrong, line(found)])


class _DiesAt(Silent):
    def __init__(self, line: str) -> None:
        self.at = line

    def line(self, text: str) -> None:
        if text.startswith(self.at):
            raise SystemExit(9)


@pytest.mark.long
def test_a_death_between_two_trials_that_waited_for_the_reference_changes_no_proposal(tmp_path: Path) -> None:
    """They are told together; the next is asked for when both are, whatever came between."""

    def run(root: Path, listener: Silent) -> list[Any]:
        folder = StudyFolder(root / "killed")
        space, options = Space.model_validate(SPACE), RunOptions(folder.choose_storage(None))
        with suppress(SystemExit):
            run_study(space, folder, options, InlineExecutor, listener, Event())
        with open_study(root, "killed") as opened:
            return [(trial.params, trial.state) for trial in opened.studies[0].trials]

    left = run(tmp_path / "cut", _DiesAt("trial 0 "))
    assert [state for _, state in left] == [TrialState.COMPLETE, TrialState.RUNNING]
    assert run(tmp_path / "cut", Silent()) == run(tmp_path / "whole", Silent())


def test_what_a_killed_write_has_left_goes_and_nothing_else(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path)
    for name in ("jobs/a", "kept/a/b", "models"):
        (tmp_path / name).mkdir(parents=True)
    half = [tmp_path / name for name in ("driver.json", "jobs/a/checkpoint.pt", "kept/a/b/4.safetensors")]
    half = [path.with_name(f"{path.name}.0123abcd.tmp") for path in half]
    others = [tmp_path / name for name in ("report.html.0123abcd.tmp", "mine.tmp", "kept/a/b/4.safetensors")]
    for path in (*half, *others):
        path.write_text("")
    folder.clear()
    assert not any(path.exists() for path in half) and all(path.exists() for path in others)
    assert (tmp_path / "jobs" / "a").exists()
    folder.clear(jobs=True)
    assert not any((tmp_path / "jobs").iterdir())


def test_half_files_are_called_as_writes_call_them(tmp_path: Path) -> None:
    with atomic_write(tmp_path / "a.json") as beside:
        beside.write_text("")
        remove_half_files(tmp_path)
        assert not beside.exists()
        beside.write_text("")
