"""Configurations on each task: which is good where, and what adaptation has brought."""

from collections.abc import Mapping
from statistics import fmean

import plotly.graph_objects as go

from iimt_search.records import Scores
from iimt_search.report.figures.drawing import (
    CHOSEN_COLOUR,
    DEFAULT_COLOUR,
    DIVERGING,
    SOURCE_ONLY_COLOUR,
    Drawing,
    Table,
    arrow,
    candidate_label,
    heatmap,
    in_two_lines,
    number,
    plain,
)
from iimt_search.report.record import StudyRecord
from iimt_search.study.scope import SOURCE_ONLY_KEY

_MOST = 12


def task_scores(record: StudyRecord) -> dict[str, dict[str, list[float]]]:
    """Return candidate → task → objective of each of its trainings.

    Of candidates that were run with fresh seeds, those alone: the search's own score is the best of many,
    hence too good. Before the confirmation of the best few trials, the default and source-only.
    """
    trainings: dict[str, tuple[Scores, ...]] = dict(record.fresh)
    if not trainings:
        trainings = {trial.name: (trial.scores,) for trial in record.ranked[:_MOST]}
        if record.default is not None and record.default.scores:
            trainings.setdefault(record.default.name, (record.default.scores,))
        if record.baseline:
            trainings[SOURCE_ONLY_KEY] = (record.baseline,)
    return {
        name: {task: [s[task][record.objective] for s in scores] for task in record.task_names}
        for name, scores in trainings.items()
        if all(record.objective in s.get(task, {}) for s in scores for task in record.task_names)
    }


def _seeds(scores: Mapping[str, Mapping[str, list[float]]], record: StudyRecord) -> str:
    count = max(len(seeds) for of_task in scores.values() for seeds in of_task.values())
    if record.fresh:
        return f"Means over {count} fresh seed{'s' * (count > 1)}."
    return "Scores of the search itself, which are too good for the best: each is the best of many."


def draw_matrix(record: StudyRecord) -> Drawing | None:
    """Draw the objective of each configuration on each task; None without any."""
    scores, tasks = task_scores(record), record.task_names
    if not scores:
        return None
    means = {name: {task: fmean(seeds) for task, seeds in of.items()} for name, of in scores.items()}
    order = sorted(means, key=lambda name: (-record.sign * fmean(means[name].values()), name))
    baseline = means.get(SOURCE_ONLY_KEY)
    reference = baseline or {task: fmean(means[name][task] for name in order) for task in tasks}
    gains = [[record.sign * (means[name][task] - reference[task]) for task in tasks] for name in order]
    reach = max(abs(gain) for row in gains for gain in row) or 1.0
    labels = [candidate_label(record, name) for name in order]
    against = "source-only" if baseline else "the mean"
    figure = heatmap(
        gains,
        [in_two_lines(task) for task in tasks],
        [plain(label) for label in labels],
        text=[[f"{means[name][task]:.3f}" for task in tasks] for name in order],
        texttemplate="%{text}",
        zmin=-reach,
        zmax=reach,
        colorscale=DIVERGING,
        xgap=2,
        ygap=2,
        hovertemplate="%{y}<br>%{x}<br>" + record.objective + " %{text}, %{z:+.3f}<extra></extra>",
    )
    figure.update_xaxes(side="top")
    rows = tuple(
        (label, *map(number, means[name].values())) for label, name in zip(labels, order, strict=True)
    )
    return Drawing(
        "task-matrix",
        "Every task and configuration",
        f"{record.objective}; blue is better than {against}, brown worse. {_seeds(scores, record)} A "
        "configuration that is blue in some columns and brown in others helps some tasks at the cost of "
        "others.",
        figure,
        Table(("configuration", *map(arrow, tasks)), rows),
        height=130 + 40 * len(order),
        least_width=170 + 85 * len(tasks),
    )


def _add_candidate(
    figure: go.Figure, label: str, scores: Mapping[str, list[float]], kind: tuple[str, str]
) -> None:
    colour, symbol = kind
    seeds = [(in_two_lines(task), value) for task, values in scores.items() for value in values]
    if len(seeds) > len(scores):
        figure.add_scatter(
            x=[value for _, value in seeds],
            y=[task for task, _ in seeds],
            mode="markers",
            marker={"color": colour, "symbol": f"{symbol}-open", "size": 8},
            legendgroup=label,
            showlegend=False,
            hovertemplate=f"{plain(label)}, one seed: %{{x:.4f}}<extra></extra>",
        )
    figure.add_scatter(
        x=[fmean(values) for values in scores.values()],
        y=[in_two_lines(task) for task in scores],
        mode="markers",
        marker={"color": colour, "symbol": symbol, "size": 14},
        name=label,
        legendgroup=label,
        hovertemplate=f"{plain(label)}, mean: %{{x:.4f}}<extra></extra>",
    )


def draw_comparison(record: StudyRecord) -> Drawing | None:
    """Draw what is handed out against source-only and the default; None with only one of them."""
    scores, tasks = task_scores(record), record.task_names
    default = "" if record.default is None else record.default.name
    kinds = {
        SOURCE_ONLY_KEY: (SOURCE_ONLY_COLOUR, "circle"),
        default: (DEFAULT_COLOUR, "diamond"),
        record.shown: (CHOSEN_COLOUR, "star"),
    }
    kinds = {name: kind for name, kind in kinds.items() if name in scores}
    if len(kinds) < 2:
        return None
    figure = go.Figure()
    for name, kind in kinds.items():
        _add_candidate(figure, candidate_label(record, name), scores[name], kind)
    figure.update_xaxes(title=record.objective)
    figure.update_yaxes(autorange="reversed")
    rows = tuple((arrow(task), *(number(fmean(scores[name][task])) for name in kinds)) for task in tasks)
    return Drawing(
        "comparison",
        "What is handed out, against source-only and the default",
        "Large signs are means, small ones single seeds. A lead no wider than the small signs are apart is "
        "luck. " + _seeds(scores, record),
        figure,
        Table(("task", *(candidate_label(record, name) for name in kinds)), rows),
        height=150 + 70 * len(tasks),
    )
