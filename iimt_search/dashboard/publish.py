"""Brings to the Optuna dashboard what it can show: figures and images."""

import io
import tempfile
from collections.abc import Sequence
from pathlib import Path

import optuna
import plotly.graph_objects as go
from optuna.artifacts import FileSystemArtifactStore
from optuna_dashboard import save_plotly_graph_object

from iimt_search.dashboard.artifacts import artifact_store, put_artifact
from iimt_search.errors import StudyLockedError
from iimt_search.inspect.picture import PictureRow, draw_images
from iimt_search.report.figures.drawing import Drawing, arrow, standing_alone
from iimt_search.report.page import Part
from iimt_search.report.sections import SampleGrid
from iimt_search.report.write import gather
from iimt_search.study.open import OpenStudy
from iimt_search.study.storage.lock import driver_session
from iimt_search.task_name import slug


def grid_png(grid: SampleGrid) -> bytes:
    """Return target images with their predicted classes as PNG."""
    rows = [("most certain", grid.most), ("least certain", grid.least)]
    image = draw_images(
        f"{arrow(grid.task)}: target images, predicted class and probability",
        tuple(
            PictureRow(
                label,
                samples.x,
                tuple(f"{n} {p:.0%}" for n, p in zip(samples.predicted, samples.probability, strict=True)),
            )
            for label, samples in rows
            if len(samples.x)
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


def _publish_part(study: optuna.Study, part: Part, store: FileSystemArtifactStore) -> tuple[int, int]:
    """Save figures and images in a study; returns how many of either."""
    drawings = [d for section in part.sections for d in section.drawings if d.name in FIGURES]
    for drawing in drawings:
        save_plotly_graph_object(study, _for_dashboard(drawing), graph_object_id=drawing.name)
    trials = study.get_trials(deepcopy=False)
    shown = next((t._trial_id for t in trials if f"trial-{t.number}" == part.record.shown), None)
    grids = [grid for section in part.sections for grid in section.grids]
    with tempfile.TemporaryDirectory() as folder:
        for grid in grids:
            file = Path(folder) / f"samples-{slug(grid.task)}.png"
            file.write_bytes(grid_png(grid))
            put_artifact(study, store, file)
            if shown is not None:
                put_artifact(study, store, file, shown)
    return len(drawings), len(grids)


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
    if opened.read_only:
        return f"dashboard: unchanged, {opened.folder.path}/ cannot be written"
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
    figures, images = map(sum, zip(*counts, strict=True))
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
