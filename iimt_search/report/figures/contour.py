"""The objective over two parameters together."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray
from scipy.interpolate import griddata
from scipy.spatial import QhullError

from iimt_search.report.figures.drawing import Drawing, Table, brief, is_log, marks, number, plain
from iimt_search.report.record import StudyRecord
from iimt_search.settings import shown_value
from iimt_search.space import Choices
from iimt_search.study.search.trial_record import TrialRecord

_LEAST_TRIALS = 5
_CELLS = 80

Values = NDArray[np.float64]


def _axis(record: StudyRecord, name: str, trials: Sequence[TrialRecord]) -> Values | None:
    """Return a parameter's values on its own scale, float64 (N,); None where it has none."""
    if isinstance(record.space.search[name], Choices):
        return None
    values = [float(trial.params[name]) for trial in trials]
    scaled = np.log10(values) if is_log(record, name) else np.array(values)
    return scaled if np.ptp(scaled) > 0 else None


def interpolated(
    x: Values, y: Values, z: Values, cells: int = _CELLS
) -> tuple[Values, Values, Values] | None:
    """Interpolate between scattered points, on a grid.

    Not Optuna's own contour: its grid has a cell for each pair of values, four million for a thousand
    trials, and it fills what lies beyond all points.

    Returns:
        Of the points x, y and z (N,), a grid's x (cells,), y (cells,), and z (cells, cells), NaN outside the
        points; None where the points lie on a line.
    """
    across, along = np.linspace(x.min(), x.max(), cells), np.linspace(y.min(), y.max(), cells)
    try:
        grid = griddata((x, y), z, tuple(np.meshgrid(across, along)), method="linear", rescale=True)
    except QhullError:
        return None
    return across, along, grid


def _on_scale(record: StudyRecord, name: str, values: Values) -> list[float]:
    return [float(f"{value:.5g}") for value in (10**values if is_log(record, name) else values)]


def _points(
    record: StudyRecord, names: Sequence[str], trials: Sequence[TrialRecord], marker: dict[str, Any]
) -> go.Scatter:
    return go.Scatter(
        x=[trial.params[names[0]] for trial in trials],
        y=[trial.params[names[1]] for trial in trials],
        mode="markers",
        marker=marker,
        hovertext=[brief(record, trial) for trial in trials],
        hoverinfo="text",
        showlegend=False,
    )


def _figure(record: StudyRecord, names: Sequence[str], trials: Sequence[TrialRecord], grid: Any) -> go.Figure:
    across, along, z = grid
    figure = go.Figure(
        go.Contour(
            x=_on_scale(record, names[0], across),
            y=_on_scale(record, names[1], along),
            z=[[None if math.isnan(value) else round(value, 4) for value in row] for row in z.tolist()],
            colorscale="Cividis",
            reversescale=record.sign < 0,
            colorbar={"title": {"text": record.objective, "side": "right"}, "thickness": 12},
            line={"width": 0.5},
            hoverinfo="skip",
        )
    )
    pruned = [t for t in record.trials if t.state == "pruned" and all(name in t.params for name in names)]
    figure.add_trace(_points(record, names, pruned, marks("pruned", 8)))
    known = {"color": "#FFFFFF", "size": 7, "line": {"color": "#000000", "width": 1}}
    figure.add_trace(_points(record, names, trials, known))
    for name, update in zip(names, (figure.update_xaxes, figure.update_yaxes), strict=True):
        update(title=plain(name), type="log" if is_log(record, name) else "linear")
    return figure


def draw_contour(record: StudyRecord, most_important: Sequence[str]) -> Drawing | None:
    """Draw the objective over the first two of the ``most_important`` parameters that can be drawn.

    None with too few trials, or fewer than two numbers that differ between them.
    """
    valued = [trial for trial in record.trials if trial.value is not None]
    trials = [trial for trial in valued if all(name in trial.params for name in record.params)]
    if len(trials) < _LEAST_TRIALS:
        return None
    order = dict.fromkeys([*(name for name in most_important if name in record.params), *record.params])
    axes = {name: axis for name in order if (axis := _axis(record, name, trials)) is not None}
    names = list(axes)[:2]
    if len(names) < 2:
        return None
    values = np.array([trial.value for trial in trials], dtype=np.float64)
    grid = interpolated(axes[names[0]], axes[names[1]], values)
    if grid is None:
        return None
    rows = tuple(
        (*(shown_value(t.params[name]) for name in names), number(t.value), str(t.number)) for t in trials
    )
    return Drawing(
        "contour",
        f"{names[0]} and {names[1]} together",
        "Colours are drawn between the complete trials, the white points, and are a guess far from them; "
        "triangles are pruned trials, whose last scores do not compare. "
        "A slanted ridge means that one parameter must be chosen with the other.",
        _figure(record, names, trials, grid),
        Table((*names, record.objective, "trial"), rows),
        height=440,
    )
