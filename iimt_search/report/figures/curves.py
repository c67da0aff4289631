"""Learning curves of all trials, with where and why one was ended."""

from collections.abc import Sequence

import plotly.graph_objects as go

from iimt_search.report.figures.drawing import (
    CHOSEN_COLOUR,
    OUTCOME_MARKS,
    Drawing,
    Table,
    add_outcome,
    add_source_only,
    brief,
    hover,
    number,
)
from iimt_search.report.record import StudyRecord
from iimt_search.study.search.trial_record import OUTCOMES, TrialRecord

_LINES = {"complete": "solid", "vetoed": "dash", "pruned": "dot", "failed": "dashdot"}


def _add(figure: go.Figure, record: StudyRecord, outcome: str, trials: Sequence[TrialRecord]) -> None:
    figure.add_scatter(
        # One curve after the other, a gap between.
        x=[step for trial in trials for step in (*trial.curve, None)],
        y=[value for trial in trials for value in (*trial.curve.values(), None)],
        mode="lines",
        line={"color": OUTCOME_MARKS[outcome][0], "width": 1.3, "dash": _LINES.get(outcome, "solid")},
        opacity=0.7,
        legendgroup=outcome,
        showlegend=False,
        hoverinfo="skip",
    )
    texts = [brief(record, trial) for trial in trials]
    ends = [max(trial.curve) for trial in trials]
    add_outcome(figure, outcome, ends, trials, legendgroup=outcome, hovertext=texts)


def draw_curves(record: StudyRecord) -> Drawing | None:
    """Draw the objective over the training steps; None where no trial has reported any."""
    with_curve = [trial for trial in record.trials if trial.curve]
    if not with_curve:
        return None
    figure = go.Figure()
    for outcome in OUTCOMES:
        if mine := [trial for trial in with_curve if trial.outcome == outcome]:
            _add(figure, record, outcome, mine)
    shown = next((trial for trial in with_curve if trial.name == record.shown), None)
    if shown is not None:
        figure.add_scatter(
            x=list(shown.curve),
            y=list(shown.curve.values()),
            mode="lines+markers",
            line={"color": CHOSEN_COLOUR, "width": 3},
            marker={"symbol": "star", "size": 9},
            name=f"trial {shown.number}, " + ("handed out" if record.choice else "best so far"),
            hovertext=[
                hover(record, shown, f"at step {step}: {value:.4f}") for step, value in shown.curve.items()
            ],
            hoverinfo="text",
        )
    add_source_only(figure, record)
    figure.update_xaxes(title="training step")
    figure.update_yaxes(title=f"{record.objective}, mean over tasks")
    steps = sorted({step for trial in with_curve for step in trial.curve})
    rows = tuple(
        (str(t.number), t.outcome, *(number(t.curve.get(step)) for step in steps), t.reason)
        for t in with_curve
    )
    return Drawing(
        "learning-curves",
        "Learning curves",
        "Each line is a trial; its mark tells how it ended, and pointing at the mark why. Curves that cross "
        "late mean that pruning early is a risk; curves still rising at the end ask for more steps.",
        figure,
        Table(("trial", "outcome", *(f"step {step}" for step in steps), "reason"), rows),
        height=420,
    )
