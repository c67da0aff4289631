"""The audit as a picture: what was chosen, what was there, and what each validator would have picked."""

from pathlib import Path
from typing import Any

import plotly.graph_objects as go

from iimt_search.files import write_beside

# Colour-blind safe (Okabe and Ito 2008).
_COLOURS = {"source_only": "#999999", "default": "#E69F00", "choice": "#0072B2", "oracle": "#009E73"}
_LABELS = {
    "source_only": "source-only",
    "default": "default configuration",
    "choice": "our choice",
    "oracle": "best model there is (oracle)",
}
_SYMBOLS = (
    "circle-open",
    "square-open",
    "diamond-open",
    "cross-thin-open",
    "x-thin-open",
    "triangle-up-open",
)


def _value(row: dict[str, Any], name: str) -> float | None:
    found: float | None = row["choice"]["target_accuracy"] if name == "choice" else row[name]
    return found


def audit_figure(content: dict[str, Any]) -> go.Figure:
    """Return the figure of an audit.

    Args:
        content: what :func:`iimt_search.report.audit.audit_json` returns.
    """
    tasks = content["tasks"]
    figure = go.Figure()
    for name, colour in _COLOURS.items():
        values = [_value(row, name) for row in tasks.values()]
        if any(value is not None for value in values):
            figure.add_bar(x=list(tasks), y=values, name=_LABELS[name], marker_color=colour)
    for index, name in enumerate(content["summary"]["validators"]):
        found = {task: row["validators"][name] for task, row in tasks.items() if name in row["validators"]}
        figure.add_scatter(
            x=list(found),
            y=[each["target_accuracy"] for each in found.values()],
            name=f"picked by {name}",
            mode="markers",
            marker={"symbol": _SYMBOLS[index % len(_SYMBOLS)], "size": 11, "line": {"width": 2}},
            visible=True if name == "composite" else "legendonly",
        )
    figure.update_layout(
        title=f"Study {content['study']}: target test accuracy, read after the choice",
        yaxis={"title": "target test accuracy, percent", "range": [0, 100]},
        barmode="group",
        template="plotly_white",
        legend={"title": "click to show or hide"},
    )
    return figure


def write_audit_picture(content: dict[str, Any], path: Path) -> None:
    """Write the figure as one HTML file that needs no network."""
    write_beside(path, audit_figure(content).to_html(include_plotlyjs=True, full_html=True))
