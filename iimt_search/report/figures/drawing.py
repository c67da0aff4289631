"""What every figure of the report has, and the signs and colours that all of them share."""

import html
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from iimt_search.records import COSTS, shown_cost
from iimt_search.report.record import StudyRecord
from iimt_search.settings import shown_value
from iimt_search.space import Choices
from iimt_search.study.scope import SOURCE_ONLY_KEY
from iimt_search.study.search.trial_record import TrialRecord

# Colour-blind safe (Okabe and Ito 2008), those that are seen on white and on black.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F7F7F", "#A6761D")
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "star", "pentagon", "hourglass")
GREY = "#7F7F7F"
CHOSEN_COLOUR, SOURCE_ONLY_COLOUR, DEFAULT_COLOUR = "#D55E00", GREY, "#009E73"
# The worse side, the middle, the better side.
DIVERGING = ((0.0, "#B35806"), (0.5, "#F7F7F7"), (1.0, "#2166AC"))

# Outcome → colour and symbol: told apart without colour too.
OUTCOME_MARKS = {
    "complete": ("#0072B2", "circle"),
    "vetoed": ("#CC79A7", "x"),
    "pruned": ("#E69F00", "triangle-down-open"),
    "failed": ("#D55E00", "cross-thin-open"),
    "running": ("#56B4E9", "circle-open"),
    "waiting": (GREY, "circle-open-dot"),
}


@dataclass(frozen=True)
class Table:
    """A figure's numbers as text, for who cannot see it: column titles, and rows of cells."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Drawing:
    """A figure with what is said of it.

    Attributes:
        name: of its file, unique within a part of the report.
        title: a few words.
        caption: what to look for.
        figure: plotly's.
        table: its numbers.
        height: pixels.
        small: it may stand beside others.
        least_width: pixels; a narrower page scrolls it sideways.
    """

    name: str
    title: str
    caption: str
    figure: go.Figure
    table: Table
    height: int = 380
    small: bool = False
    least_width: int = 0


def standing_alone(drawing: Drawing) -> go.Figure:
    """Return a figure with its title, as it is seen outside the page."""
    figure = go.Figure(drawing.figure)
    figure.update_layout(title=plain(drawing.title), template="plotly_white", margin={"t": 80, "b": 50})
    return figure.update_xaxes(automargin=True).update_yaxes(automargin=True)


def plain(text: object) -> str:
    """Return a text that plotly shows as it is: it takes some HTML in texts."""
    return html.escape(str(text), quote=False)


def arrow(task: str) -> str:
    """Return a task's name for people."""
    return task.replace("->", " → ")


def in_two_lines(task: str) -> str:
    """Return a task's name for people in two lines, for plotly's axes."""
    return plain(arrow(task)).replace(" → ", "<br>→ ")


def number(value: float | None, form: str = ".4f") -> str:
    """Return a number as text, an en dash for none."""
    return "–" if value is None else f"{value:z{form}}"  # z: no −0


def is_log(record: StudyRecord, name: str) -> bool:
    """Return whether a searched parameter has a logarithmic scale."""
    searched = record.space.search[name]
    return not isinstance(searched, Choices) and searched.log


def candidate_label(record: StudyRecord, name: str) -> str:
    """Return a candidate's name for people, with what it is besides."""
    also = []
    if record.choice is not None and record.choice.candidate == name:
        also.append("handed out" if record.choice.answer == "none" else "chosen")
    if record.default is not None and record.default.name == name:
        also.append("default")
    label = "source-only" if name == SOURCE_ONLY_KEY else name.replace("-", " ")
    return f"{label} ({', '.join(also)})" if also else label


def hover(record: StudyRecord, trial: TrialRecord, more: str = "") -> str:
    """Return what is shown of a trial where a pointer is on it."""
    lines = [f"<b>trial {trial.number}</b>, {trial.outcome}"]
    if trial.reached is not None:
        lines.append(f"{record.objective} {trial.reached:.4f}")
    lines += [plain(f"{name} {shown_value(value)}") for name, value in trial.params.items()]
    lines += [wrapped(part) for part in (trial.reason, more) if part]
    return "<br>".join(lines)


def brief(record: StudyRecord, trial: TrialRecord) -> str:
    """Return the least that is shown of a trial where a pointer is on it."""
    value = "" if trial.reached is None else f" {trial.reached:.4f}"
    reason = f"<br>{wrapped(trial.reason)}" if trial.reason else ""
    return f"<b>trial {trial.number}</b>, {trial.outcome}{value}{reason}"


def wrapped(text: str, width: int = 60) -> str:
    """Return a text in lines of at most ``width`` signs, for plotly."""
    words = " ".join(text.split())
    lines = textwrap.wrap(words, width, break_long_words=False, break_on_hyphens=False)
    return "<br>".join(map(plain, lines))


def marks(outcome: str, size: int = 9) -> dict[str, Any]:
    """Return the marker of an outcome."""
    colour, symbol = OUTCOME_MARKS[outcome]
    return {"color": colour, "symbol": symbol, "size": size, "line": {"width": 1.5, "color": colour}}


def task_marks(index: int) -> dict[str, Any]:
    """Return the marker of the study's task of this index."""
    return {"color": COLOURS[index % len(COLOURS)], "symbol": SYMBOLS[index % len(SYMBOLS)], "size": 9}


def add_outcome(
    figure: go.Figure, outcome: str, x: Sequence[Any], trials: Sequence[TrialRecord], **more: Any
) -> None:
    """Add trials of one outcome, standing at ``x``, as marks at what they have reached.

    ``more`` is of plotly's, ``hovertext`` among it.
    """
    given = {"marker": marks(outcome, 8), "mode": "markers", "name": outcome, "hoverinfo": "text", **more}
    figure.add_scatter(x=x, y=[trial.reached for trial in trials], **given)


def heatmap(z: Sequence[Sequence[float]], x: Sequence[str], y: Sequence[str], **more: Any) -> go.Figure:
    """Return a matrix whose first row is at the top; ``more`` is plotly's."""
    figure = go.Figure(go.Heatmap(z=z, x=x, y=y, showscale=False, **{"xgap": 1, "ygap": 1, **more}))
    figure.update_yaxes(autorange="reversed", showgrid=False)
    return figure.update_xaxes(showgrid=False)


def add_source_only(figure: go.Figure, record: StudyRecord) -> None:
    """Add source-only's objective as a line, where it is known."""
    if record.baseline_mean is not None:
        figure.add_hline(
            y=record.baseline_mean,
            line={"dash": "dot", "color": GREY},
            annotation={"text": "source-only", "font": {"color": GREY}},
        )


_COST_TITLES = {"seconds": "training", "operations": "operations", "gpu_bytes": "GPU memory"}


def trial_table(record: StudyRecord, trials: Sequence[TrialRecord]) -> Table:
    """Return trials as a table, the best first, those without an objective at the end."""
    order = sorted(trials, key=lambda t: (t.value is None, -record.sign * (t.value or 0.0), t.number))
    costs = [name for name in COSTS if any(name in trial.cost for trial in trials)]
    rows = tuple(
        (
            str(trial.number),
            trial.outcome + (" (default)" if trial is record.default else ""),
            number(trial.reached),
            *(shown_cost(name, trial.cost[name]) if name in trial.cost else "–" for name in costs),
            *(shown_value(trial.params.get(name, "–")) for name in record.params),
            trial.reason,
        )
        for trial in order
    )
    titles = (_COST_TITLES[name] for name in costs)
    return Table(("trial", "outcome", record.objective, *titles, *record.params, "reason"), rows)
