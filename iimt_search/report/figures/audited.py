"""What an audit has measured: target accuracies, each validator's pick, and the confusion of classes."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from iimt_search.report.figures.drawing import (
    CHOSEN_COLOUR,
    COLOURS,
    DEFAULT_COLOUR,
    SOURCE_ONLY_COLOUR,
    SYMBOLS,
    Drawing,
    Table,
    arrow,
    number,
    plain,
)
from iimt_search.report.record import StudyRecord

_POINTS = {
    "source_only": ("source-only", SOURCE_ONLY_COLOUR, "circle"),
    "default": ("default", DEFAULT_COLOUR, "diamond"),
    "single": ("one model of the choice", CHOSEN_COLOUR, "star-open"),
    "choice": ("what is handed out", CHOSEN_COLOUR, "star"),
    "oracle": ("best there is (oracle)", COLOURS[0], "triangle-up"),
    "ceiling": ("trained on target labels (ceiling)", COLOURS[4], "square"),
}
_MOST_NUMBERED = 12


def _rows(record: StudyRecord) -> dict[str, dict[str, Any]]:
    """Return task → what the audit measured, of the study's own tasks."""
    if record.audit is None:
        return {}
    found = record.audit.content["tasks"]
    return {task.name: found[task.name] for task in record.tasks if task.name in found}


def _value(row: Mapping[str, Any], name: str) -> float | None:
    found: float | None = row["choice"]["target_accuracy"] if name == "choice" else row[name]
    return found


def draw_accuracies(record: StudyRecord) -> Drawing | None:
    """Draw the target accuracies; None where no audit was made."""
    rows = _rows(record)
    if not rows:
        return None
    figure = go.Figure()
    for name, (label, colour, symbol) in _POINTS.items():
        values = [_value(row, name) for row in rows.values()]
        if any(value is not None for value in values):
            figure.add_scatter(
                x=values,
                y=[plain(arrow(task)).replace(" → ", "<br>→ ") for task in rows],
                mode="markers",
                marker={"color": colour, "symbol": symbol, "size": 13, "line": {"width": 2, "color": colour}},
                name=label,
                hovertemplate=f"{label}: %{{x:.1f}} %<extra></extra>",
            )
    figure.update_xaxes(title="target test accuracy, percent", range=[0, 101])
    figure.update_yaxes(autorange="reversed")
    cells = tuple(
        (arrow(task), *(number(_value(row, name), ".1f") for name in _POINTS), str(row["test_samples"]))
        for task, row in rows.items()
    )
    return Drawing(
        "accuracies",
        "Measured with the target's labels",
        "Read by the audit, after the choice. The search did its work where the star lies right of "
        "source-only "
        "and near the triangle, the best model that the study has.",
        figure,
        Table(("task", *(label for label, _, _ in _POINTS.values()), "samples"), cells),
        height=250 + 60 * len(rows),
    )


def _gaps(rows: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Return picker → task → gap to the oracle, in points; the widest mean gap first."""
    found: dict[str, dict[str, float]] = {}
    for task, row in rows.items():
        for name, each in row["validators"].items():
            found.setdefault(name, {})[task] = each["oracle_gap"]
    found = dict(sorted(found.items(), key=lambda item: -sum(item[1].values()) / len(item[1])))
    found["our choice"] = {task: row["choice"]["oracle_gap"] for task, row in rows.items()}
    return found


def draw_picks(record: StudyRecord) -> Drawing | None:
    """Draw how far each validator's pick lies below the oracle; None where no audit was made."""
    rows = _rows(record)
    if not rows:
        return None
    gaps = _gaps(rows)
    figure = go.Figure()
    for index, task in enumerate(rows):
        figure.add_scatter(
            x=[found.get(task) for found in gaps.values()],
            y=[f"<b>{name}</b>" if name == "our choice" else name for name in gaps],
            mode="markers",
            cliponaxis=False,
            marker={
                "color": COLOURS[index % len(COLOURS)],
                "symbol": SYMBOLS[index % len(SYMBOLS)],
                "size": 9,
            },
            name=plain(arrow(task)),
            hovertemplate="%{y}: %{x:.1f} points<extra></extra>",
        )
    figure.update_xaxes(title="points below the best model", rangemode="tozero")
    figure.update_yaxes(
        dtick=1, ticks="outside", ticklen=8, tickcolor="rgba(0,0,0,0)"
    )  # marks lie on the axis

    def rank(name: str, task: str) -> str:
        return number(rows[task]["validators"].get(name, {}).get("spearman"), ".2f")

    head = [f"{what}, {arrow(task)}" for what in ("gap", "Spearman") for task in rows]
    cells = tuple(
        (name, *(number(found.get(task), ".1f") for task in rows), *(rank(name, task) for task in rows))
        for name, found in list(gaps.items())[::-1]
    )
    return Drawing(
        "oracle-gaps",
        "Validators against the oracle",
        "How far the model that each validator alone scores best lies below the best there is; left is "
        "better. "
        "One study says little of a validator in general: its picks are one draw.",
        figure,
        Table(("validator", *head), cells),
        height=170 + 22 * len(gaps),
    )


def draw_objective_and_accuracy(record: StudyRecord) -> Drawing | None:
    """Draw each trial's objective and target accuracy; None where no audit has measured three trials."""
    if record.audit is None:
        return None
    figure, cells = go.Figure(), []
    for index, task in enumerate(record.tasks):
        accuracies = record.audit.accuracies.get(task.name, {})
        found = [
            (trial, trial.scores[task.name][record.objective], accuracies[f"{record.prefix}{trial.name}"])
            for trial in record.trials
            if trial.state == "complete"
            and f"{record.prefix}{trial.name}" in accuracies
            and record.objective in trial.scores.get(task.name, {})
        ]
        cells += [(arrow(task.name), str(t.number), number(s), number(a, ".1f")) for t, s, a in found]
        figure.add_scatter(
            x=[round(score, 4) for _, score, _ in found],
            y=[round(accuracy, 2) for _, _, accuracy in found],
            mode="markers",
            marker={
                "color": COLOURS[index % len(COLOURS)],
                "symbol": SYMBOLS[index % len(SYMBOLS)],
                "size": 9,
            },
            name=plain(arrow(task.name)),
            customdata=[trial.number for trial, _, _ in found],
            hovertemplate="trial %{customdata}: %{x:.4f}, %{y:.1f} %<extra></extra>",
        )
    if len(cells) < 3:
        return None
    figure.update_xaxes(title=record.objective)
    figure.update_yaxes(title="target test accuracy, percent")
    return Drawing(
        "objective-and-accuracy",
        f"Did {record.objective} know?",
        "Each sign is a trial's model on one task. A rising cloud means that the objective ranked them well; "
        "high scores at a low accuracy are what vetoes and confirmation are there for.",
        figure,
        Table(("task", "trial", record.objective, "accuracy"), tuple(cells)),
    )


def draw_confusion(task: str, classes: Sequence[str], counts: Sequence[Sequence[int]]) -> Drawing:
    """Draw which classes are taken for which.

    Args:
        task: the task's name.
        classes: class names.
        counts: true class → predicted class → test samples.
    """
    values = np.array(counts)
    shares = values / np.maximum(values.sum(axis=1, keepdims=True), 1)
    names = [plain(name) for name in classes]
    figure = go.Figure(
        go.Heatmap(
            z=shares.round(3).tolist(),
            x=names,
            y=names,
            text=values.tolist(),
            texttemplate="%{text}" if len(classes) <= _MOST_NUMBERED else None,
            zmin=0,
            zmax=1,
            colorscale="Cividis",
            xgap=1,
            ygap=1,
            hovertemplate="true %{y}, predicted %{x}: %{text} (%{z:.0%})<extra></extra>",
            showscale=False,
        )
    )
    figure.update_yaxes(title="true class", autorange="reversed", type="category", showgrid=False)
    figure.update_xaxes(title="predicted class", type="category", showgrid=False)
    right = int(np.trace(values))
    return Drawing(
        "confusion",
        f"Confusion on {arrow(task)}",
        f"{right} of {values.sum()} target test samples are right. Off the diagonal are the classes taken "
        "for "
        "each other; a whole column lit up is a class that swallows others.",
        figure,
        Table(
            ("true \\ predicted", *classes),
            tuple((n, *map(str, r)) for n, r in zip(classes, counts, strict=True)),
        ),
        height=max(380, 160 + 26 * len(classes)) if len(classes) <= 40 else 900,
        small=True,
    )
