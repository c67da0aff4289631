"""What each trial's training costs, and which trials none beats in both objective and cost."""

import plotly.graph_objects as go

from iimt_search.records import shown_cost
from iimt_search.report.figures.drawing import (
    CHOSEN_COLOUR,
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

_UNITS = {
    "seconds": "seconds of training, all tasks together",
    "operations": "floating-point operations of training, all tasks together",
}


def draw_pareto(record: StudyRecord) -> Drawing | None:
    """Draw objective against cost; None where cost is no objective, or no trial is complete."""
    cost = record.space.cost.name
    shown = [trial for trial in record.trials if trial.value is not None and cost in trial.cost]
    if not shown:
        return None
    figure, front = go.Figure(), record.pareto_front(record.trials)
    figure.add_scatter(
        x=[trial.cost[cost] for trial in front],
        y=[trial.value for trial in front],
        mode="lines",
        line={"color": GREY, "width": 1.5},
        name="Pareto front",
        hoverinfo="skip",
    )
    for outcome in OUTCOMES:
        if mine := [trial for trial in shown if trial.outcome == outcome]:
            texts = [hover(record, trial, shown_cost(cost, trial.cost[cost])) for trial in mine]
            x = [trial.cost[cost] for trial in mine]
            add_outcome(figure, outcome, x, mine, marker=marks(outcome), hovertext=texts)
    if record.choice is not None:
        chosen = [trial for trial in shown if trial.name == record.choice.candidate]
        ring = {"symbol": "circle-open", "size": 16, "color": CHOSEN_COLOUR, "line": {"width": 2}}
        figure.add_scatter(
            x=[trial.cost[cost] for trial in chosen],
            y=[trial.value for trial in chosen],
            mode="markers",
            marker=ring,
            name="chosen",
            hoverinfo="skip",
        )
    add_source_only(figure, record)
    figure.update_xaxes(title=_UNITS[cost], rangemode="tozero")
    figure.update_yaxes(title=f"{record.objective}, mean over tasks")
    better = "higher" if record.sign > 0 else "lower"
    return Drawing(
        "pareto",
        "Objective and cost",
        f"Further left is cheaper, {better} is better. On the line, the Pareto front, are the trials that no "
        "veto meets and no other trial beats in both. Of the candidates confirmed with fresh seeds the "
        f"cheapest within {record.space.cost.tolerance:g} of the best objective is chosen.",
        figure,
        trial_table(record, shown),
    )
