"""The audit as a picture: what was chosen, what was there, and what each validator would have picked."""

from pathlib import Path
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from iimt_search.files import write_text

# Colour-blind safe (Okabe and Ito 2008).
_BARS = {
    "source_only": ("source-only", "#999999"),
    "default": ("default configuration", "#E69F00"),
    "choice": ("our choice", "#0072B2"),
    "oracle": ("best there is (oracle)", "#009E73"),
}
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "x", "star")
_OUR_CHOICE = "<b>our choice</b>"


def _value(row: dict[str, Any], name: str) -> float | None:
    found: float | None = row["choice"]["target_accuracy"] if name == "choice" else row[name]
    return found


def _gaps(row: dict[str, Any]) -> dict[str, float]:
    """Return picker → gap to the oracle, in points, of one task."""
    found = {name: each["oracle_gap"] for name, each in row["validators"].items()}
    return {**found, _OUR_CHOICE: row["choice"]["oracle_gap"]}


def audit_figure(content: dict[str, Any]) -> go.Figure:
    """Return the figure of an audit: accuracies as bars, and below each picker's gap on every task.

    Args:
        content: what :func:`iimt_search.auditing.measure.audit_json` returns.
    """
    tasks = content["tasks"]
    summary = content["summary"]["validators"]
    pickers = [*sorted(summary, key=lambda name: -summary[name]["oracle_gap"]), _OUR_CHOICE]
    figure = make_subplots(
        rows=2,
        cols=1,
        row_heights=[0.35, 0.65],
        vertical_spacing=0.1,
        subplot_titles=("Target test accuracy, percent", "Gap of each pick to the oracle, points"),
    )
    for name, (label, colour) in _BARS.items():
        values = [_value(row, name) for row in tasks.values()]
        if any(value is not None for value in values):
            figure.add_bar(x=list(tasks), y=values, name=label, marker_color=colour, row=1, col=1)
    for index, (task, row) in enumerate(tasks.items()):
        gaps = _gaps(row)
        figure.add_scatter(
            x=[gaps.get(name) for name in pickers],
            y=pickers,
            name=task,
            mode="markers",
            cliponaxis=False,
            marker={
                "symbol": _SYMBOLS[index % len(_SYMBOLS)],
                "color": _COLOURS[index % len(_COLOURS)],
                "size": 10,
            },
            row=2,
            col=1,
        )
    figure.update_yaxes(range=[0, 100], row=1, col=1)
    figure.update_xaxes(rangemode="tozero", row=2, col=1)
    figure.update_yaxes(dtick=1, row=2, col=1)
    figure.update_layout(
        title=f"Study {content['study']}: measured with the target's test labels, after the choice",
        barmode="group",
        template="plotly_white",
        height=500 + 24 * len(pickers),
    )
    return figure


def write_audit_picture(content: dict[str, Any], path: Path) -> None:
    """Write the figure as one HTML file that needs no network."""
    write_text(path, audit_figure(content).to_html(include_plotlyjs=True, full_html=True))
