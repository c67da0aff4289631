"""The time left, on a terminal and in plain lines."""

from io import StringIO

import pytest
from rich.console import Console

from iimt_search.cli.progress import PlainProgress, RichProgress
from iimt_search.study.progress import Snapshot

SNAPSHOT = Snapshot(
    "search", 0.1, {"trial-0": 0.5}, "trial 1, consensus 0.9", states={"complete": 2}, left=3725.0
)


def test_plain_lines_tell_what_is_left_of_the_whole_run(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    progress = PlainProgress()
    for _ in range(2):
        now += 20
        progress.snapshot(SNAPSHOT)
    progress.snapshot(SNAPSHOT)
    line = "[ 10%] search  2 complete  best: trial 1, consensus 0.9  about 1 h 02 min left"
    assert capsys.readouterr().out.splitlines() == [line, line]


def test_so_does_a_terminal_once_it_is_known() -> None:
    screen = StringIO()
    with RichProgress(Console(file=screen, force_terminal=True, width=160)) as progress:
        progress.snapshot(Snapshot("search", 0.0, {}, ""))
        progress._progress.refresh()
        assert "left" not in screen.getvalue()
        progress.snapshot(SNAPSHOT)
        progress._progress.refresh()
    assert "about 1 h 02 min left" in screen.getvalue()
