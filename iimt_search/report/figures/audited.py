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
    Drawing,
    Table,
    arrow,
    heatmap,
    in_two_lines,
    number,
    plain,
    task_marks,
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


Measured = Mapping[str, Mapping[str, Any]]


def audited_tasks(record: StudyRecord) -> Measured:
    """Return task → what an audit has measured, of the study's own tasks; nothing where there was none."""
    measured = {} if record.audit is None else record.audit.content["tasks"]
    return {task: measured[task] for task in record.task_names if task in measured}


def _value(row: Mapping[str, Any], name: str) -> float | None:
    value: float | None = row["choice"]["target_accuracy"] if name == "choice" else row[name]
    return value


def draw_accuracies(tasks: Measured) -> Drawing | None:
    """Draw the target accuracies of what an audit has measured of some tasks; None without any task."""
    if not tasks:
        return None
    figure = go.Figure()
    for name, (label, colour, symbol) in _POINTS.items():
        values = [_value(row, name) for row in tasks.values()]
        if any(value is not None for value in values):
            figure.add_scatter(
                x=values,
                y=[in_two_lines(task) for task in tasks],
                mode="markers",
                marker={"color": colour, "symbol": symbol, "size": 13, "line": {"width": 2, "color": colour}},
                name=label,
                hovertemplate=f"{label}: %{{x:.1f}} %<extra></extra>",
            )
    figure.update_xaxes(title="target test accuracy, percent", range=[0, 101])
    figure.update_yaxes(autorange="reversed")
    cells = tuple(
        (arrow(task), *(number(_value(row, name), ".1f") for name in _POINTS), str(row["test_samples"]))
        for task, row in tasks.items()
    )
    return Drawing(
        "accuracies",
        "Measured with the target's labels",
        "Read by the audit, after the choice. The search did its work where the star lies right of "
        "source-only and near the triangle, the best model that the study has.",
        figure,
        Table(("task", *(label for label, _, _ in _POINTS.values()), "samples"), cells),
        height=250 + 60 * len(tasks),
    )


def _gaps(tasks: Measured) -> dict[str, dict[str, float]]:
    """Return picker → task → gap to the oracle, in points; the widest mean gap first."""
    gaps: dict[str, dict[str, float]] = {}
    for task, row in tasks.items():
        for name, pick in row["validators"].items():
            gaps.setdefault(name, {})[task] = pick["oracle_gap"]
    gaps = dict(sorted(gaps.items(), key=lambda item: -sum(item[1].values()) / len(item[1])))
    gaps["our choice"] = {task: row["choice"]["oracle_gap"] for task, row in tasks.items()}
    return gaps


def draw_picks(tasks: Measured) -> Drawing | None:
    """Draw how far each validator's pick lies below the oracle; None without any task."""
    if not tasks:
        return None
    gaps = _gaps(tasks)
    figure = go.Figure()
    for index, task in enumerate(tasks):
        figure.add_scatter(
            x=[of_task.get(task) for of_task in gaps.values()],
            y=[f"<b>{name}</b>" if name == "our choice" else name for name in gaps],
            mode="markers",
            cliponaxis=False,
            marker=task_marks(index),
            name=plain(arrow(task)),
            hovertemplate="%{y}: %{x:.1f} points<extra></extra>",
        )
    figure.update_xaxes(title="points below the best model", rangemode="tozero")
    # Marks lie on the axis.
    figure.update_yaxes(dtick=1, ticks="outside", ticklen=8, tickcolor="rgba(0,0,0,0)")

    def rank(name: str, task: str) -> str:
        return number(tasks[task]["validators"].get(name, {}).get("spearman"), ".2f")

    head = [f"{what}, {arrow(task)}" for what in ("gap", "Spearman") for task in tasks]
    cells = tuple(
        (name, *(number(of_task.get(task), ".1f") for task in tasks), *(rank(name, task) for task in tasks))
        for name, of_task in list(gaps.items())[::-1]
    )
    return Drawing(
        "oracle-gaps",
        "Validators against the oracle",
        "How far the model that each validator alone scores best lies below the best there is; left is "
        "better. One study says little of a validator in general: its picks are one draw.",
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
        points = [
            (trial, trial.scores[task.name][record.objective], accuracies[f"{record.prefix}{trial.name}"])
            for trial in record.trials
            if trial.state == "complete"
            and f"{record.prefix}{trial.name}" in accuracies
            and record.objective in trial.scores.get(task.name, {})
        ]
        cells += [(arrow(task.name), str(t.number), number(s), number(a, ".1f")) for t, s, a in points]
        figure.add_scatter(
            x=[round(score, 4) for _, score, _ in points],
            y=[round(accuracy, 2) for _, _, accuracy in points],
            mode="markers",
            marker=task_marks(index),
            name=plain(arrow(task.name)),
            customdata=[trial.number for trial, _, _ in points],
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
    """Draw which classes are taken for which: true class → predicted class → count of test samples."""
    values = np.array(counts)
    shares = values / np.maximum(values.sum(axis=1, keepdims=True), 1)
    names = [plain(name) for name in classes]
    figure = heatmap(
        shares.round(3).tolist(),
        names,
        names,
        text=values.tolist(),
        texttemplate="%{text}" if len(classes) <= _MOST_NUMBERED else None,
        zmin=0,
        zmax=1,
        colorscale="Cividis",
        hovertemplate="true %{y}, predicted %{x}: %{text} (%{z:.0%})<extra></extra>",
    )
    figure.update_yaxes(title="true class", type="category")
    figure.update_xaxes(title="predicted class", type="category")
    rows = tuple((name, *map(str, row)) for name, row in zip(classes, counts, strict=True))
    return Drawing(
        "confusion",
        f"Confusion on {arrow(task)}",
        f"{np.trace(values)} of {values.sum()} target test samples are right. Off the diagonal are the "
        "classes taken for each other; a whole column lit up is a class that swallows others.",
        figure,
        Table(("true \\ predicted", *classes), rows),
        height=max(380, 160 + 26 * len(classes)) if len(classes) <= 40 else 900,
        small=True,
    )
