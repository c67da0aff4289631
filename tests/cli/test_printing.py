"""Tables and JSON."""

import json
import math

import pytest

from iimt_search.cli.printing import Count, print_json, print_table, shown


def test_json_has_null_where_a_value_is_not_finite(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"a": [math.nan, 1.5, (math.inf, "NaN")], "b": None, "c": 2})
    text = capsys.readouterr().out
    assert json.loads(text) == {"a": [None, 1.5, [None, "NaN"]], "b": None, "c": 2}
    assert text.count("NaN") == 1


def test_a_table_aligns_numbers_and_sets_the_mean_apart(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    print_table(
        ["task", ">accuracy", "note"], [["a", "9.5", "x"], ["b", "10.0", ""]], mean=["mean", "9.8", ""]
    )
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert lines[1:-1] == [
        " task  accuracy  note",
        " ────────────────────",
        " a          9.5  x",
        " b         10.0",
        "",
        " mean       9.8",
    ]


def test_a_narrow_table_folds_and_keeps_the_first_column_whole(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    print_table(["validator", "prefers"], [["source_risk", "trial-12-of-many"]], "digits")
    text = capsys.readouterr().out
    assert "…" not in text and " source_risk  trial" in text and text.splitlines()[0].strip() == "digits"


def test_a_number_that_is_not_there_is_a_dash() -> None:
    assert (shown(None, ".1f"), shown(12.345, "+.1f"), shown(0.0, ".2f")) == ("–", "+12.3", "0.00")


def test_without_a_terminal_a_count_is_a_line_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    count = Count()
    for done in range(1, 46):
        now += 1
        count("scored", done, 45)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == ["scored 15/45", "scored 30/45", "scored 45/45"]
