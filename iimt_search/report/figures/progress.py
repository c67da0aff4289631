"""How the search went: every trial's objective, the best so far, source-only's."""

import plotly.graph_objects as go

from iimt_search.report.figures.drawing import (
    GREY,
    Drawing,
    add_outcome,
    add_source_only,
    hover,
    marks,
    trial_table,
)
from iimt_search.report.record import StudyRecord
from iimt_search.study.search.trial_record import OUTCOMES


def best_so_far(record: StudyRecord) -> list[tuple[int, float]]:
    """Return (trial, best objective up to it) for each trial that no veto meets and that is complete."""
    line: list[tuple[int, float]] = []
    for trial in record.trials:
        if trial.outcome == "complete" and trial.value is not None:
            best = line[-1][1] if line else trial.value
            line.append((trial.number, max(best, trial.value, key=lambda value: record.sign * value)))
    return line


def draw_progress(record: StudyRecord) -> Drawing | None:
    """Draw every trial's objective by its number; None before the first report."""
    shown = [trial for trial in record.trials if trial.reached is not None]
    if not shown:
        return None
    figure = go.Figure()
    if best := best_so_far(record):
        figure.add_scatter(
            x=[at for at, _ in best],
            y=[value for _, value in best],
            mode="lines",
            line={"shape": "hv", "color": GREY, "width": 1.5},
            name="best so far",
            hoverinfo="skip",
        )
    for outcome in OUTCOMES:
        if mine := [trial for trial in shown if trial.outcome == outcome]:
            numbers, texts = [t.number for t in mine], [hover(record, t) for t in mine]
            add_outcome(figure, outcome, numbers, mine, marker=marks(outcome), hovertext=texts)
    add_source_only(figure, record)
    figure.update_xaxes(title="trial", tickformat="d", dtick=1 if len(record.trials) <= 12 else None)
    figure.update_yaxes(title=f"{record.objective}, mean over tasks")
    better = "Higher" if record.sign > 0 else "Lower"
    return Drawing(
        "progress",
        "Objective of every trial",
        f"{better} is better. The line is the best so far of the complete trials that no veto meets; a "
        "search that still climbs at its end has not had enough trials. Pruned and failed trials stand at "
        "their last report, which is not comparable with a finished one's.",
        figure,
        trial_table(record, record.trials),
    )
