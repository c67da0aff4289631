"""Brings to the Optuna dashboard what it can show: figures, images, curves."""

import io
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import optuna
import plotly.graph_objects as go
from matplotlib.figure import Figure
from optuna.artifacts import FileSystemArtifactStore
from optuna_dashboard import save_plotly_graph_object

from iimt_search.dashboard.artifacts import artifact_store, put_artifact
from iimt_search.errors import StudyLockedError
from iimt_search.inspect.picture import PictureRow, draw_images
from iimt_search.report.figures.drawing import CHOSEN_COLOUR, OUTCOME_MARKS, Drawing, arrow, standing_alone
from iimt_search.report.html.page import Part
from iimt_search.report.record import StudyRecord
from iimt_search.report.sections import SampleGrid
from iimt_search.report.write import gather
from iimt_search.study.open import OpenStudy
from iimt_search.study.search.trial_record import OUTCOMES
from iimt_search.study.storage.lock import driver_session
from iimt_search.task_name import slug

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


# The dashboard draws the others itself, or has no room for them.
FIGURES = (
    "comparison",
    "task-matrix",
    "learning-curves",
    "importance",
    "validators",
    "accuracies",
    "objective-and-accuracy",
    "oracle-gaps",
)


def _for_dashboard(drawing: Drawing) -> go.Figure:
    return standing_alone(drawing).update_layout(legend={"orientation": "h", "y": -0.2})


def _images(part: Part) -> Iterator[tuple[str, bytes, bool]]:
    """Return (file name, PNG, whether it is of the shown trial) of each image."""
    if (curves := curves_png(part.record)) is not None:
        yield "learning-curves.png", curves, False
    for section in part.sections:
        for grid in section.grids:
            yield f"samples-{slug(grid.task)}.png", grid_png(grid), True


def _publish_part(study: optuna.Study, part: Part, store: FileSystemArtifactStore) -> tuple[int, int]:
    """Save figures and images in a study; returns how many of either."""
    drawings = [d for section in part.sections for d in section.drawings if d.name in FIGURES]
    for drawing in drawings:
        save_plotly_graph_object(study, _for_dashboard(drawing), graph_object_id=drawing.name)
    trials = study.get_trials(deepcopy=False)
    shown = next((t._trial_id for t in trials if f"trial-{t.number}" == part.record.shown), None)
    images = 0
    with tempfile.TemporaryDirectory() as folder:
        for name, content, of_trial in _images(part):
            file = Path(folder) / name
            file.write_bytes(content)
            put_artifact(study, store, file)
            if of_trial and shown is not None:
                put_artifact(study, store, file, shown)
            images += 1
    return len(drawings), images


def publish_parts(opened: OpenStudy, parts: Sequence[Part]) -> str:
    """Bring a study's figures to its dashboard, in the place of earlier ones.

    A driver is a study's only writer: while one runs, nothing is written.

    Args:
        opened: the study.
        parts: what :func:`iimt_search.report.write.gather` returned of it.

    Returns:
        What was done, in one line.
    """
    if not opened.folder.description.exists():
        return "dashboard: unchanged, the study's folder is not on this machine"
    if opened.driver() is not None:
        return "dashboard: unchanged while the study runs"
    store = artifact_store(opened.folder)
    try:
        with (
            opened.folder.driver_lock(),
            driver_session(opened.storage.engine, opened.folder.name, opened.folder.path),
        ):
            counts = [_publish_part(s, p, store) for s, p in zip(opened.studies, parts, strict=True)]
    except StudyLockedError:
        return "dashboard: unchanged while the study runs"
    figures, images = (sum(each) for each in zip(*counts, strict=True))
    return f"dashboard: {figures} figures and {images} images"


def publish(opened: OpenStudy) -> str:
    """Draw a study's figures and bring them to its dashboard; returns what was done, in one line.

    Raises:
        ModelFileError: its stored audit is damaged.
    """
    return publish_parts(opened, gather(opened))


def publish_after_run(opened: OpenStudy) -> str:
    """Bring a study's figures to its dashboard; returns what was done, or why not, in one line.

    Nothing is raised: a run's answer does not hang on its pictures.
    """
    try:
        return publish(opened)
    except Exception as error:
        return f"dashboard: unchanged, {type(error).__name__}: {error}".replace("\n", " ")
