"""Figures of the report as PNG, for the dashboard's artifacts."""

import io

from matplotlib.figure import Figure

from iimt_search.report.data_picture import PictureRow, draw_images
from iimt_search.report.figures.drawing import CHOSEN_COLOUR, OUTCOME_MARKS, arrow
from iimt_search.report.sections import SampleGrid
from iimt_search.report.study_record import OUTCOMES, StudyRecord

_MARKERS = {"complete": "o", "vetoed": "x", "pruned": "v", "failed": "+", "running": ".", "waiting": "."}


def curves_png(record: StudyRecord) -> bytes | None:
    """Return the learning curves as PNG; None where no trial has reported any."""
    with_curve = [trial for trial in record.trials if trial.curve]
    if not with_curve:
        return None
    figure = Figure(figsize=(9, 5), layout="constrained")
    axes = figure.add_subplot()
    for outcome in OUTCOMES:
        mine = [trial for trial in with_curve if trial.outcome == outcome]
        for at, trial in enumerate(mine):
            axes.plot(
                list(trial.curve),
                list(trial.curve.values()),
                color=CHOSEN_COLOUR if trial.name == record.shown else OUTCOME_MARKS[outcome][0],
                linewidth=2.5 if trial.name == record.shown else 0.8,
                marker=_MARKERS[outcome],
                markevery=[-1],
                label=outcome if at == 0 else None,
            )
    if record.baseline_mean is not None:
        axes.axhline(record.baseline_mean, color="#7F7F7F", linestyle=":", label="source-only")
    axes.set(xlabel="training step", ylabel=f"{record.objective}, mean over tasks", title="Learning curves")
    axes.legend()
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()


def grid_png(grid: SampleGrid) -> bytes:
    """Return target images with their predicted classes as PNG."""
    rows = [("most certain", grid.most), ("least certain", grid.least)]
    image = draw_images(
        f"{arrow(grid.task)}: target images, predicted class and probability",
        tuple(
            PictureRow(
                label,
                each.x,
                tuple(f"{n} {p:.0%}" for n, p in zip(each.predicted, each.probability, strict=True)),
            )
            for label, each in rows
            if len(each.x)
        ),
    )
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()
