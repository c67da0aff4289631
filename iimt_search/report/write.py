"""Writes the report of a study, its figures one by one, and its audit."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import plotly.io

from iimt_search.files import write_text
from iimt_search.report.figures.drawing import Drawing, standing_alone
from iimt_search.report.page import Part, render, render_audit
from iimt_search.report.record import read_records
from iimt_search.report.sections import study_sections
from iimt_search.study.open import OpenStudy
from iimt_search.study.search.sampling import quiet_optuna

# Pixels that a figure's title takes of a PNG.
_TITLE = 80


def gather(opened: OpenStudy) -> list[Part]:
    """Read and draw everything that a report of the study shows.

    Raises:
        ModelFileError: the stored audit is damaged.
    """
    quiet_optuna()  # the figures make studies of their own, in memory
    return [Part(record, study_sections(record, opened.folder)) for record in read_records(opened)]


def write_report(opened: OpenStudy, parts: Sequence[Part], path: Path) -> None:
    """Write the page in one step: a reader finds the old one or the new."""
    driver = opened.driver()
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, render(parts, opened.place, "The search runs now" if driver else "Not running"))


def write_audit_page(content: Mapping[str, Any], path: Path) -> None:
    """Write what :func:`iimt_search.auditing.measure.audit_json` returned as a page that needs no network."""
    write_text(path, render_audit(content))


@dataclass(frozen=True)
class WrittenFigures:
    """What was written.

    Attributes:
        json: the JSON files.
        png: the PNG files; none where one failed.
        no_png: why there are none, or "".
    """

    json: tuple[Path, ...]
    png: tuple[Path, ...]
    no_png: str


def _write_png(png: Sequence[tuple[Drawing, Path]]) -> str:
    """Write figures as PNG, all by one browser; returns what went wrong in one line, or ""."""
    if find_spec("kaleido") is None:
        return "kaleido is not installed (pip install 'iimt-search[figures]')"
    try:
        plotly.io.write_images(
            [standing_alone(drawing) for drawing, _ in png],
            [path for _, path in png],
            width=1100,
            height=[drawing.height + _TITLE for drawing, _ in png],
            scale=2,
        )
    except Exception as error:  # kaleido's own errors differ between versions and with the browser
        return (str(error).strip().splitlines() or [type(error).__name__])[0]
    return ""


def write_figures(parts: Sequence[Part], folder: Path) -> WrittenFigures:
    """Write each figure as JSON and, where kaleido works, as PNG.

    The folder is made where absent; of several parts each has a folder of its own within.
    """
    json: list[Path] = []
    png: list[tuple[Drawing, Path]] = []
    for part in parts:
        own = folder / part.record.tasks[0].slug if len(parts) > 1 else folder
        own.mkdir(parents=True, exist_ok=True)
        for drawing in (drawing for section in part.sections for drawing in section.drawings):
            json.append(own / f"{drawing.name}.json")
            png.append((drawing, own / f"{drawing.name}.png"))
            write_text(json[-1], plotly.io.to_json(standing_alone(drawing), validate=False))
    no_png = _write_png(png)
    written = () if no_png else tuple(path for _, path in png if path.exists())
    return WrittenFigures(tuple(json), written, no_png)
