"""An Optuna whose tables are not those that the driver's own statements are for."""

import threading
from pathlib import Path

import pytest

from iimt_search.data.registry import DOMAINS
from iimt_search.space import KnownNames, load_space
from iimt_search.study.executors.inline import InlineExecutor
from iimt_search.study.folder import StudyFolder
from iimt_search.study.progress import Silent
from iimt_search.study.run import RunOptions, run_study
from iimt_search.study.storage import sql
from iimt_search.validators.registry import VALIDATORS


class Listening(Silent):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def line(self, text: str) -> None:
        self.lines.append(text)


@pytest.mark.long
def test_studies_are_written_as_optuna_does(
    tiny_space: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = load_space(tiny_space, KnownNames(DOMAINS, VALIDATORS))

    def run(root: Path) -> tuple[list[str], object]:
        folder, listener = StudyFolder(root / "tiny"), Listening()
        options = RunOptions(folder.choose_storage(None))
        (choice,) = run_study(space, folder, options, InlineExecutor, listener, threading.Event())
        return listener.lines, choice.scores

    lines, expected = run(tmp_path / "known")
    assert not any("tables" in line for line in lines)
    monkeypatch.setattr(sql, "OPTUNA_TABLES", "v0.0.0.a")
    lines, scores = run(tmp_path / "unknown")
    assert any("not v0.0.0.a" in line for line in lines)
    assert scores == expected
