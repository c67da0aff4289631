"""Killed runs go on to what an uninterrupted run comes to. ``python -m benchmarks kills`` does more."""

import os
from pathlib import Path

import pytest

from benchmarks.kills import line, measure_kills
from iimt_search.files import atomic_write, remove_half_files
from iimt_search.study.folder import StudyFolder


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_killed_at_writes_and_at_random_moments_nothing_is_lost() -> None:
    kills = int(os.environ.get("IIMT_KILLS", "3"))
    found = measure_kills(points=max(1, kills - 1), moments=kills, worker_moments=0, seed=1)
    assert not found.wrong, "\n".join([*found.wrong, line(found)])


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
