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
    found: dict[str, tuple[Scores, ...]] = dict(record.fresh)
    if not found:
        best = list(record.ranked[:_MOST])
        default = record.default
        best += [default] if default is not None and default not in best and default.scores else []
        found = {trial.name: (trial.scores,) for trial in best}
        if record.baseline:
            found[SOURCE_ONLY_KEY] = (record.baseline,)
    tasks = [task.name for task in record.tasks]
    return {
        name: {task: [s[task][record.objective] for s in scores] for task in tasks}
        for name, scores in found.items()
        if all(record.objective in s.get(task, {}) for s in scores for task in tasks)
    }


def _order(record: StudyRecord, found: Mapping[str, Mapping[str, list[float]]]) -> list[str]:
    """Return the candidates, the best mean first."""
    means = {name: fmean(fmean(each) for each in scores.values()) for name, scores in found.items()}
    return sorted(means, key=lambda name: (-record.sign * means[name], name))


def _seeds(found: Mapping[str, Mapping[str, list[float]]], record: StudyRecord) -> str:
    count = max(len(each) for scores in found.values() for each in scores.values())
    if record.fresh:
        return f"Means over {count} fresh seed{'s' * (count > 1)}."
    return "Scores of the search itself, which are too good for the best: each is the best of many."


def draw_matrix(record: StudyRecord) -> Drawing | None:
    """Draw the objective of each configuration on each task; None without any."""
    found = task_scores(record)
    if not found:
        return None
    order, tasks = _order(record, found), [task.name for task in record.tasks]
    means = {name: {task: fmean(found[name][task]) for task in tasks} for name in order}
    baseline = means.get(SOURCE_ONLY_KEY)
    reference = baseline or {task: fmean(means[name][task] for name in order) for task in tasks}
    gains = [[record.sign * (means[name][task] - reference[task]) for task in tasks] for name in order]
    reach = max(abs(gain) for row in gains for gain in row) or 1.0
    labels = [plain(candidate_label(record, name)) for name in order]
    against = "source-only" if baseline else "the mean"
    figure = heatmap(
        gains,
        [in_two_lines(task) for task in tasks],
        labels,
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
        (candidate_label(record, name), *(number(means[name][task]) for task in tasks)) for name in order
    )
    return Drawing(
        "task-matrix",
        "Every task and configuration",
        f"{record.objective}; blue is better than {against}, brown worse. {_seeds(found, record)} A "
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
        x=[fmean(scores[task]) for task in scores],
        y=[in_two_lines(task) for task in scores],
        mode="markers",
        marker={"color": colour, "symbol": symbol, "size": 14},
        name=label,
        legendgroup=label,
        hovertemplate=f"{plain(label)}, mean: %{{x:.4f}}<extra></extra>",
    )


def draw_comparison(record: StudyRecord) -> Drawing | None:
    """Draw what is handed out against source-only and the default; None with only one of them."""
    found = task_scores(record)
    default = "" if record.default is None else record.default.name
    kinds = {
        SOURCE_ONLY_KEY: (SOURCE_ONLY_COLOUR, "circle"),
        default: (DEFAULT_COLOUR, "diamond"),
        record.shown: (CHOSEN_COLOUR, "star"),
    }
    kinds = {name: kind for name, kind in kinds.items() if name in found}
    if len(kinds) < 2:
        return None
    figure = go.Figure()
    tasks = [task.name for task in record.tasks]
    for name, kind in kinds.items():
        _add_candidate(figure, candidate_label(record, name), found[name], kind)
    figure.update_xaxes(title=record.objective)
    figure.update_yaxes(autorange="reversed")
    rows = tuple((arrow(task), *(number(fmean(found[name][task])) for name in kinds)) for task in tasks)
    return Drawing(
        "comparison",
        "What is handed out, against source-only and the default",
        "Large signs are means, small ones single seeds. A lead no wider than the small signs are apart is "
        "luck. " + _seeds(found, record),
        figure,
        Table(("task", *(candidate_label(record, name) for name in kinds)), rows),
        height=150 + 70 * len(tasks),
    )
