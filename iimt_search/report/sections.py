"""Which figures the report has, in which order, and what is said where one is not there."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from iimt_search.report.figures.audited import (
    audited_tasks,
    draw_accuracies,
    draw_confusion,
    draw_objective_and_accuracy,
    draw_picks,
)
from iimt_search.report.figures.contour import draw_contour
from iimt_search.report.figures.curves import draw_curves
from iimt_search.report.figures.drawing import Drawing, arrow, candidate_label
from iimt_search.report.figures.embeddings import draw_embeddings
from iimt_search.report.figures.importance import LEAST_TRIALS, draw_importance
from iimt_search.report.figures.parameters import draw_parallel, draw_slices
from iimt_search.report.figures.pareto import draw_pareto
from iimt_search.report.figures.progress import draw_progress
from iimt_search.report.figures.series_samples import draw_series_samples
from iimt_search.report.figures.tasks import draw_comparison, draw_matrix
from iimt_search.report.figures.validators import draw_correlations
from iimt_search.report.record import StudyRecord
from iimt_search.report.shown_models import (
    ShownModels,
    TargetSamples,
    certain_samples,
    load_shown_task,
    read_shown,
)
from iimt_search.study.folder import StudyFolder
from iimt_search.study.scope import SOURCE_ONLY_KEY

# What a model does, in this order.
_KINDS = ("samples", "embeddings", "confusion")


@dataclass(frozen=True)
class SampleGrid:
    """A task's target images that the model is most and least certain of, with what it predicts of them."""

    task: str
    most: TargetSamples
    least: TargetSamples


@dataclass(frozen=True)
class Section:
    """A part of the report under one heading.

    Attributes:
        name: of its anchor.
        title: its heading.
        drawings: its figures.
        grids: its images.
        absent: a sentence for each figure that is not there.
    """

    name: str
    title: str
    drawings: tuple[Drawing, ...] = ()
    grids: tuple[SampleGrid, ...] = ()
    absent: tuple[str, ...] = ()


def _section(
    name: str, title: str, drawings: Sequence[tuple[Drawing | None, str]], more: Sequence[Drawing] = ()
) -> Section:
    return Section(
        name,
        title,
        (*(drawing for drawing, _ in drawings if drawing is not None), *more),
        absent=tuple(absent for drawing, absent in drawings if drawing is None),
    )


def _parameters(record: StudyRecord) -> Section:
    importance = draw_importance(record)
    order = [] if importance is None else [row[0] for row in importance.table.rows]
    return _section(
        "parameters",
        "Which parameters matter",
        [
            (
                importance,
                "Importance: too few trials, or one parameter only. "
                f"It takes {LEAST_TRIALS} finished trials.",
            ),
            (draw_contour(record, order), "Two parameters together: too few complete trials."),
            (draw_parallel(record), "All parameters at once: too few trials, or one parameter only."),
        ],
        draw_slices(record),
    )


def _trust(record: StudyRecord) -> Section:
    drawings = [
        (
            draw_correlations(record),
            "Validators against each other: too few complete trials that they tell apart.",
        )
    ]
    if record.audit is None:
        drawings.append(
            (
                None,
                "Target labels: not read. "
                "`iimt-search audit` measures the choice with them, once it is made.",
            )
        )
    else:
        measured = audited_tasks(record)
        drawings += [
            (draw_accuracies(measured), "The audit has not measured these tasks."),
            (draw_objective_and_accuracy(record), "The audit has measured fewer than three of these trials."),
            (draw_picks(measured), "The audit has not scored the validators on these tasks."),
        ]
    return _section("trust", "How far the scores can be trusted", drawings)


def _models_of_task(record: StudyRecord, shown: ShownModels) -> tuple[list[Drawing], SampleGrid | None]:
    task, name = load_shown_task(shown, record), shown.task.name
    after = candidate_label(record, record.shown)
    count = shown.probabilities.shape[1]
    classes = tuple(map(str, range(count))) if task is None else task.classes
    panels = [(shown.before, "before", "source-only"), (shown.after[0], "after", after)]
    if record.shown == SOURCE_ONLY_KEY:  # there is no after
        panels = [(shown.after[0], "before", after)]
    drawings = [draw_embeddings(name, classes, p, when, who) for p, when, who in panels if p is not None]
    confusion = {} if record.audit is None else record.audit.confusion
    if name in confusion:
        drawings.append(draw_confusion(name, classes, confusion[name]))
    grid = None
    if task and (samples := certain_samples(shown, task, record.space.train.evaluation_samples)):
        if task.kind == "image":
            grid = SampleGrid(name, *samples)
        else:
            figures = (
                draw_series_samples(f"samples-{which}", f"{arrow(name)}: {which} certain", part)
                for which, part in zip(("most", "least"), samples, strict=True)
            )
            drawings += [figure for figure in figures if figure is not None]
    return [replace(drawing, name=f"{drawing.name}-{shown.task.slug}") for drawing in drawings], grid


def _models(record: StudyRecord, folder: StudyFolder) -> Section:
    drawings: list[Drawing] = []
    grids: list[SampleGrid] = []
    shown = read_shown(record, folder)
    for models in shown:
        of_task, grid = _models_of_task(record, models)
        drawings += of_task
        grids += [] if grid is None else [grid]
    known = {models.task.name for models in shown}
    without = [arrow(task.name) for task in record.tasks if task.name not in known]
    absent = [f"No kept checkpoint of a model for {', '.join(without)} on this machine."] if without else []
    # Figures of one kind stand side by side.
    drawings.sort(key=lambda drawing: _KINDS.index(drawing.name.split("-")[0]))
    return Section("models", "What the model does", tuple(drawings), tuple(grids), tuple(absent))


def study_sections(record: StudyRecord, folder: StudyFolder) -> list[Section]:
    """Return the report's figures for one Optuna study; its kept checkpoints need not be in the folder."""
    outcome = [
        (draw_comparison(record), "What is handed out cannot be compared with source-only yet."),
        (draw_matrix(record), "No configuration has been scored on every task yet."),
    ]
    no_curves = (
        "There are no learning curves: no trial has been evaluated yet, or the objective is computed "
        "at a training's end only."
    )
    pareto = draw_pareto(record)
    search = [
        (draw_progress(record), "No trial has reported an objective yet."),
        (draw_curves(record), no_curves),
    ]
    return [
        _section("outcome", "What adaptation has brought", outcome),
        _models(record, folder),
        _section("search", "How the search went", search, [] if pareto is None else [pareto]),
        _parameters(record),
        _trust(record),
    ]
