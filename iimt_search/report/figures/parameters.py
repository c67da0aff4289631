"""The objective against each parameter alone, and against all of them at once."""

import math
from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from iimt_search.report.figures.drawing import (
    CHOSEN_COLOUR,
    GREY,
    OUTCOME_MARKS,
    Drawing,
    Table,
    add_outcome,
    brief,
    is_log,
    number,
    plain,
    trial_table,
)
from iimt_search.report.record import StudyRecord
from iimt_search.settings import shown_value
from iimt_search.space import Choices
from iimt_search.study.search.trial_record import OUTCOMES, TrialRecord

# Colour, width and opacity of the complete trials' quarters, the best first.
_RANKS = (("#D55E00", 2.0, 1.0), ("#0072B2", 1.2, 0.7), ("#56B4E9", 1.0, 0.6), ("#7F7F7F", 1.0, 0.5))
# The table of all parameters lists so many of the best trials; that of the search lists all.
_IN_TABLE = 10

Places = dict[str, dict[str, float]]


def _position(value: Any) -> Any:
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else plain(value)


def _slice(record: StudyRecord, name: str, trials: list[TrialRecord]) -> Drawing:
    figure = go.Figure()
    for outcome in OUTCOMES:
        if mine := [trial for trial in trials if trial.outcome == outcome]:
            texts = [brief(record, trial) for trial in mine]
            add_outcome(figure, outcome, [_position(t.params[name]) for t in mine], mine, hovertext=texts)
    shown = next((trial for trial in trials if trial.name == record.shown), None)
    if shown is not None:
        figure.add_scatter(
            x=[_position(shown.params[name])],
            y=[shown.reached],
            mode="markers",
            marker={"symbol": "star", "size": 16, "color": CHOSEN_COLOUR},
            name="handed out" if record.choice else "best so far",
            hovertext=[brief(record, shown)],
            hoverinfo="text",
        )
    categories = isinstance(record.space.search[name], Choices)
    kind = "category" if categories else "log" if is_log(record, name) else "linear"
    figure.update_xaxes(title=plain(name), type=kind)
    figure.update_yaxes(title=record.objective)
    order = sorted(trials, key=lambda trial: (str(type(trial.params[name])), trial.params[name]))
    rows = tuple((shown_value(t.params[name]), number(t.reached), str(t.number), t.outcome) for t in order)
    return Drawing(
        f"slice-{name}",
        name,
        f"Objective against {name}: a slope or a hump means that it matters; a flat cloud, that it hardly "
        "does.",
        figure,
        Table((name, record.objective, "trial", "outcome"), rows),
        height=320,
        small=True,
    )


def draw_slices(record: StudyRecord) -> list[Drawing]:
    """Draw the objective against each parameter that differs between trials."""
    slices = []
    for name in record.params:
        trials = [trial for trial in record.trials if trial.reached is not None and name in trial.params]
        if len({str(trial.params[name]) for trial in trials}) > 1:
            slices.append(_slice(record, name, trials))
    return slices


def _places(record: StudyRecord, name: str, trials: list[TrialRecord]) -> dict[str, float]:
    """Return value, as text → its height between the least, 0, and the greatest, 1."""
    searched = record.space.search[name]
    if isinstance(searched, Choices):
        names = list(dict.fromkeys(map(str, searched.choices)))
        return {value: at / max(1, len(names) - 1) for at, value in enumerate(names)}
    values, scale = [trial.params[name] for trial in trials], math.log if is_log(record, name) else float
    scaled = {str(value): scale(value) for value in values}
    low, high = min(scaled.values()), max(scaled.values())
    return {value: (at - low) / (high - low) if high > low else 0.5 for value, at in scaled.items()}


def _groups(record: StudyRecord) -> list[tuple[dict[str, Any], Sequence[TrialRecord]]]:
    """Return trials that are drawn alike, with how, in plotly's words.

    The best complete ones come last: they are drawn above the others.
    """
    groups: list[tuple[dict[str, Any], Sequence[TrialRecord]]] = []
    ranked = record.ranked
    count = min(len(_RANKS), len(ranked))
    for at, (colour, width, opacity) in enumerate(_RANKS[:count]):
        part = ranked[len(ranked) * at // count : len(ranked) * (at + 1) // count]
        label = f"{number(part[0].reached, '.3f')} to {number(part[-1].reached, '.3f')}"
        groups.append(({"name": label, "line": {"color": colour, "width": width}, "opacity": opacity}, part))
    for outcome in OUTCOMES[1:]:
        line = {"color": OUTCOME_MARKS[outcome][0], "width": 1, "dash": "dot"}
        part = tuple(trial for trial in record.trials if trial.outcome == outcome)
        groups.append(({"name": outcome, "line": line, "opacity": 0.8}, part))
    return groups[::-1]


def _add_lines(
    figure: go.Figure, look: dict[str, Any], trials: Sequence[TrialRecord], places: Places
) -> None:
    x: list[int | None] = []
    y: list[float | None] = []
    texts: list[str] = []
    for trial in trials:
        x += [*range(len(places)), None]
        y += [*(round(place[str(trial.params[name])], 3) for name, place in places.items()), None]
        texts += [f"trial {trial.number}, {trial.outcome}, {number(trial.reached)}"] * (len(places) + 1)
    figure.add_scatter(
        x=x,
        y=y,
        mode="lines+markers",
        marker={"size": 5, "symbol": "x" if "dash" in look["line"] else "circle"},
        hovertext=texts,
        hoverinfo="text",
        **look,
    )


def _add_axis(figure: go.Figure, at: int, place: dict[str, float]) -> None:
    figure.add_vline(x=at, line={"color": GREY, "width": 1})
    for best, anchor, shift in ((min, "top", -4), (max, "bottom", 4)):
        value: str = best(place, key=lambda v: place[v])
        text, y = plain(_rounded(value)), round(place[value])
        figure.add_annotation(x=at, y=y, text=text, showarrow=False, yanchor=anchor, yshift=shift)


def draw_parallel(record: StudyRecord) -> Drawing | None:
    """Draw each trial as a line through its parameters; None with fewer than two trials or parameters.

    Not plotly's own parallel coordinates: they need WebGL, and tell trials apart by colour alone.
    """
    trials = [trial for trial in record.trials if all(name in trial.params for name in record.params)]
    if len(trials) < 2 or len(record.params) < 2:
        return None
    places = {name: _places(record, name, trials) for name in record.params}
    figure = go.Figure()
    for look, group in _groups(record):
        if drawn := [trial for trial in group if trial in trials]:
            _add_lines(figure, look, drawn, places)
    for at, place in enumerate(places.values()):
        _add_axis(figure, at, place)
    names = [plain(name) for name in record.params]
    figure.update_xaxes(
        tickvals=list(range(len(names))), ticktext=names, showgrid=False, range=[-0.4, len(names) - 0.6]
    )
    figure.update_yaxes(visible=False, range=[-0.12, 1.12])
    figure.update_layout(legend_traceorder="reversed")
    return Drawing(
        "parallel-coordinates",
        "All parameters at once",
        "Each line is a trial, grouped by its objective (a click on the legend hides a group). Where the "
        "best group's lines run together, that parameter's value matters.",
        figure,
        trial_table(record, record.ranked[:_IN_TABLE]),
        height=420,
    )


def _rounded(text: str) -> str:
    try:
        return f"{float(text):.3g}"
    except ValueError:
        return text
