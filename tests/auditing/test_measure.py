"""An audit as JSON and as a page, of accuracies made by hand."""

import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from iimt_search.auditing.measure import TaskAudit, audit_json
from iimt_search.auditing.validators import ValidatorAudit
from iimt_search.report.figures.audited import draw_accuracies, draw_picks
from iimt_search.report.figures.drawing import Drawing
from iimt_search.report.write import write_audit_page

NAN = math.nan


def audits(default: float | None = 65.0, ceiling: float | None = 99.0) -> dict[str, TaskAudit]:
    return {
        "a->b": TaskAudit(
            source_only=70.0,
            choice=85.0,
            single=82.0,
            oracle=90.0,
            default=default,
            ceiling=ceiling,
            models=7,
            test_samples=450,
            unseen=True,
            validators={
                "composite": ValidatorAudit(80.0, 10.0, 0.5, 0.25),
                "entropy": ValidatorAudit(60.0, 30.0, NAN, NAN),
                "few_shot": ValidatorAudit(90.0, 0.0, 1.0, 1.0),
            },
        ),
        "c->d": TaskAudit(
            source_only=50.0,
            choice=20.0,
            single=30.0,
            oracle=60.0,
            default=45.0,
            ceiling=97.0,
            models=7,
            test_samples=300,
            unseen=False,
            validators={
                "composite": ValidatorAudit(55.0, 5.0, 0.7, 0.75),
                "entropy": ValidatorAudit(20.0, 40.0, NAN, NAN),
            },
        ),
    }


def test_shape_and_numbers() -> None:
    found = audit_json("digits", audits())
    assert set(found) == {"study", "tasks", "summary"} and found["study"] == "digits"
    assert found["tasks"]["a->b"] == {
        "source_only": 70.0,
        "choice": {"target_accuracy": 85.0, "oracle_gap": 5.0},
        "single": 82.0,
        "oracle": 90.0,
        "default": 65.0,
        "ceiling": 99.0,
        "models": 7,
        "test_samples": 450,
        "unseen": True,
        "validators": {
            "composite": {
                "target_accuracy": 80.0,
                "oracle_gap": 10.0,
                "spearman": 0.5,
                "weighted_spearman": 0.25,
            },
            "entropy": {
                "target_accuracy": 60.0,
                "oracle_gap": 30.0,
                "spearman": None,
                "weighted_spearman": None,
            },
            "few_shot": {
                "target_accuracy": 90.0,
                "oracle_gap": 0.0,
                "spearman": 1.0,
                "weighted_spearman": 1.0,
            },
        },
    }
    assert found["tasks"]["c->d"]["choice"] == {"target_accuracy": 20.0, "oracle_gap": 40.0}
    assert list(found["tasks"]) == ["a->b", "c->d"]


def test_summary() -> None:
    found = audit_json("digits", audits())["summary"]
    assert {name: found[name] for name in ("source_only", "oracle", "single", "default", "ceiling")} == {
        "source_only": 60.0,
        "oracle": 75.0,
        "single": 56.0,
        "default": 55.0,
        "ceiling": 98.0,
    }
    assert found["choice"] == {
        "target_accuracy": 52.5,
        "oracle_gap": 22.5,
        "worst_oracle_gap": 40.0,
        "mean_gain": -7.5,
        "worst_gain": -30.0,
        "below_source_only_rate": 0.5,
        "catastrophic_rate": 0.5,
    }
    assert list(found["validators"]) == ["composite", "entropy", "few_shot"]
    composite = found["validators"]["composite"]
    assert (composite["target_accuracy"], composite["mean_gain"]) == (67.5, 7.5)
    assert composite["spearman"] == pytest.approx(0.6) and composite["weighted_spearman"] == 0.5
    assert found["validators"]["entropy"]["spearman"] is None
    assert found["validators"]["few_shot"]["target_accuracy"] == 90.0  # of the one task that has labels


@pytest.mark.parametrize("bad", [NAN, math.inf])
def test_it_is_strict_json(bad: float) -> None:
    given = audits()
    given["a->b"].validators["dev"] = ValidatorAudit(60.0, 30.0, bad, bad)
    text = json.dumps(audit_json("digits", given), allow_nan=False)
    assert json.loads(text)["tasks"]["a->b"]["validators"]["dev"]["spearman"] is None


def test_what_was_not_trained_for_every_task_has_no_mean() -> None:
    found = audit_json("digits", audits(default=None, ceiling=None))
    assert found["tasks"]["a->b"]["default"] is None
    assert "default" not in found["summary"] and "ceiling" not in found["summary"]
    json.dumps(found, allow_nan=False)


def traces(drawing: Drawing | None) -> dict[str, Any]:
    assert drawing is not None
    return {trace.name: trace for trace in drawing.figure.data}


def test_the_page_has_marks_of_the_accuracies() -> None:
    found = traces(draw_accuracies(audit_json("digits", audits())["tasks"]))
    accuracies = {
        "source-only": (70.0, 50.0),
        "default": (65.0, 45.0),
        "one model of the choice": (82.0, 30.0),
        "what is handed out": (85.0, 20.0),
        "best there is (oracle)": (90.0, 60.0),
        "trained on target labels (ceiling)": (99.0, 97.0),
    }
    assert list(found) == [*accuracies]
    for name, values in accuracies.items():
        assert found[name].x == values and found[name].y == ("a<br>→ b", "c<br>→ d")
    assert len({(trace.marker.symbol, trace.marker.color) for trace in found.values()}) == len(found)


def test_the_page_has_a_mark_for_each_pick_the_worst_first_and_ours_last() -> None:
    found = traces(draw_picks(audit_json("digits", audits())["tasks"]))
    for task, gaps in (("a → b", (30.0, 10.0, 0.0, 5.0)), ("c → d", (40.0, 5.0, None, 40.0))):
        assert found[task].type == "scatter" and found[task].mode == "markers" and found[task].x == gaps
        assert found[task].y == ("entropy", "composite", "few_shot", "<b>our choice</b>")
    assert found["a → b"].marker.symbol != found["c → d"].marker.symbol


def test_marks_of_nothing_are_left_out() -> None:
    given = audits(default=None)
    del given["c->d"]
    assert "default" not in traces(draw_accuracies(audit_json("digits", given)["tasks"]))
    some = traces(draw_accuracies(audit_json("digits", audits(default=None))["tasks"]))
    assert some["default"].x == (None, 45.0)


class References(HTMLParser):
    """What a browser would fetch for a page: attributes that load something."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [f"{tag} {name}={value}" for name, value in attrs if name in ("src", "href", "data")]


def test_the_page_needs_no_network(tmp_path: Path) -> None:
    path = tmp_path / "audit.html"
    write_audit_page(audit_json("digits", audits()), path)
    text = path.read_text(encoding="utf-8")
    parser = References()
    parser.feed(text)
    assert parser.found == []
    assert re.search(r"""src\s*=\s*["']http""", text) is None
    assert "Plotly.newPlot(" in text and "few_shot" in text and "Study digits" in text
    assert [each.name for each in tmp_path.iterdir()] == ["audit.html"]
