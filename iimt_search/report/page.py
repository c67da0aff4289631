"""The values that the pages in ``templates/`` show: the report of a study, and its audit.

The templates escape every text; what a user wrote reaches a page in no other way.
"""

import base64
import io
import json
import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
import plotly.io
import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from numpy.typing import NDArray
from PIL import Image
from plotly.offline import get_plotlyjs

from iimt_search import __version__
from iimt_search.records import Choice, shown_cost
from iimt_search.report.figures.audited import draw_accuracies, draw_picks
from iimt_search.report.figures.drawing import Drawing, Table, arrow, number
from iimt_search.report.record import StudyRecord
from iimt_search.report.sections import Section
from iimt_search.settings import shown_value
from iimt_search.study.scope import SOURCE_ONLY_KEY
from iimt_search.study.search.trial_record import OUTCOMES
from iimt_search.study.selection.decide import lead

# Larger images are made smaller, so that the report stays small.
# Of small images, and of photographs.
_THUMBNAIL, LARGE_THUMBNAIL = 64, 160
_JPEG_FROM = 40
_PACKAGES = ("torch", "optuna", "numpy", "scikit-learn", "plotly")


@dataclass(frozen=True)
class Part:
    """One Optuna study with its sections, which hold its figures."""

    record: StudyRecord
    sections: Sequence[Section]

    @property
    def tasks(self) -> list[str]:
        """Its tasks' names for people."""
        return [arrow(task.name) for task in self.record.tasks]


def text(value: object) -> Markup:
    """Return a text escaped, pieces between backquotes as code."""
    return Markup(re.sub("`([^`]*)`", r"<code>\1</code>", str(escape(value))))


def is_large(x: NDArray[np.uint8]) -> bool:
    """Return whether images (…, H, W) are photographs rather than icons."""
    return bool(min(x.shape[-2:]) > _THUMBNAIL)


def data_uri(x: NDArray[np.uint8]) -> str:
    """Return an image (channels, H, W), of which 1 or 3 channels are shown, as a data URI."""
    pixels = np.ascontiguousarray(x.transpose(1, 2, 0)) if len(x) == 3 else x[0]
    image = Image.fromarray(pixels).convert("RGB")
    side = LARGE_THUMBNAIL if is_large(x) else _THUMBNAIL
    image.thumbnail((side, side))
    kind = "jpeg" if min(image.size) > _JPEG_FROM else "png"
    buffer = io.BytesIO()
    image.save(buffer, format=kind, **({"quality": 85} if kind == "jpeg" else {"optimize": True}))
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _plot(drawing: Drawing) -> dict[str, Any]:
    """Return a figure as plotly's JSON, without its template: the page has its own, light or dark."""
    content: dict[str, Any] = json.loads(plotly.io.to_json(drawing.figure, validate=False))
    content["layout"].pop("template", None)
    return content


def _answer(record: StudyRecord) -> tuple[str, str, str]:
    """Return the answer in a few words, why, and its kind: ``good``, ``doubt`` or ``open``."""
    choice = record.choice
    if choice is None:
        if not record.ranked:
            return "No answer yet", "No trial is complete that no veto meets.", "open"
        best = record.ranked[0]
        score = f"{record.objective} {number(best.value)}"
        why = f"{score} in the search. The best few are run again with fresh seeds before one is named."
        return f"No answer yet; best so far: trial {best.number}", why, "open"
    if choice.answer == "none":
        return f"No confident choice; {choice.candidate} is handed out", choice.reason, "doubt"
    if choice.answer == "source-only":
        return "Source-only: the model without adaptation", choice.reason, "open"
    return f"Trial {choice.trial}", choice.reason, "good"


def _about_candidates(choice: Choice, sign: int) -> list[str]:
    """Return what the fresh seeds say of the candidate that is handed out, a sentence each."""
    candidates = {candidate.name: candidate for candidate in choice.candidates}
    chosen, baseline = candidates.get(choice.candidate), candidates.get(SOURCE_ONLY_KEY)
    sentences: list[str] = []
    if chosen is None:
        return sentences
    if baseline is not None and baseline is not chosen:
        ahead, error = lead(chosen, baseline, sign)
        spread = ", one seed only" if error is None else f" ± {error:.4f}"
        sentences.append(
            f"It leads source-only by {ahead:.4f}{spread} of `{choice.objective}`, with fresh seeds."
        )
    if chosen.agreement is not None:
        sentences.append(
            f"Its trainings with other seeds agree on the target by κ = {chosen.agreement:z.2f}; "
            f"1 is always, 0 no more than by chance."
        )
    if chosen.veto:
        sentences.append(f"It was vetoed itself: {chosen.veto}")
    return sentences


def _confidence(record: StudyRecord, choice: Choice) -> list[str]:
    """Return what speaks for the choice and against it, a sentence each."""
    sentences = _about_candidates(choice, record.sign)
    for task, labelled in choice.few_shot.items():
        sentences.append(
            f"{arrow(task)}: {labelled['accuracy']:.1%} of the {labelled['samples']:.0f} labelled target "
            f"samples that you gave are right, 95 % interval {labelled['low']:.1%} to {labelled['high']:.1%}."
        )
    if left := len(choice.vetoed):
        trials = "1 complete trial was" if left == 1 else f"{left} complete trials were"
        sentences.append(f"{trials} left out by a veto, whatever the scores.")
    if record.audit is None:
        sentences.append("No target label was read: label-free scores can be wrong together.")
    elif choice.digest not in record.audit.digests:
        sentences.append("The audit below measured an earlier choice, not this one.")
    return sentences


def _configuration(record: StudyRecord) -> list[tuple[str, str]] | None:
    """Return the shown trial's parameters with their values; None of source-only."""
    trial = next((trial for trial in record.trials if trial.name == record.shown), None)
    if trial is None:
        return None
    default = {} if record.default is None or record.default is trial else record.default.params
    return [
        (name, shown_value(value) + (f" (default {shown_value(default[name])})" if name in default else ""))
        for name, value in trial.params.items()
    ]


def trials_and_budget(record: StudyRecord) -> str:
    """Return how many trials there are of each outcome, and the budget, in a sentence."""
    counts = {name: sum(trial.outcome == name for trial in record.trials) for name in OUTCOMES}
    trials = ", ".join(f"{count} {name}" for name, count in counts.items() if count) or "none yet"
    budget = record.space.budget
    limits = [f"{budget.trials} trials"] if budget.trials else []
    limits += [f"{budget.steps} training steps"] if budget.steps else []
    limits += [f"{budget.timeout:g} s a run"] if budget.timeout else []
    steps = sum(max(t.curve, default=t.forked_at) - t.forked_at for t in record.trials) * len(record.tasks)
    return (
        f"Trials: {trials}. Budget: {' or '.join(limits)}; {steps} training steps of trials so far, "
        "all tasks together."
    )


def _candidate_table(choice: Choice) -> Table:
    rows = tuple(
        (
            c.name,
            number(c.mean),
            " ".join(f"{s:.4f}" for s in c.scores),
            number(c.agreement, ".2f"),
            ", ".join(shown_cost(*cost) for cost in c.cost.items()) or "–",
            c.veto,
        )
        for c in choice.candidates
    )
    head = ("candidate", f"{choice.objective}, mean", "each seed", "agreement κ", "a training", "veto")
    return Table(head, rows)


def _score_table(choice: Choice) -> Table:
    scores = list(choice.scores.values())
    names = scores[0] if scores else ()
    rows = tuple((name, *(number(of_task.get(name)) for of_task in scores)) for name in names)
    return Table(("validator", *map(arrow, choice.scores)), rows)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _provenance(records: Sequence[StudyRecord], place: str, written: str) -> list[tuple[str, str]]:
    """Return what made the numbers: data, seeds, versions."""
    first = records[0]
    choices = [record.choice for record in records if record.choice is not None]
    members = {task: jobs for choice in choices for task, jobs in choice.members.items()}
    labels = "not read" if first.audit is None else "read by `iimt-search audit`, after the choice"
    return [
        ("report written", written),
        ("study", f"{first.space.study}, in {place}"),
        ("seed", str(first.space.seed)),
        ("iimt-search", f"{__version__}, which wrote this report"),
        ("Python", platform.python_version()),
        *((name, _version(name)) for name in _PACKAGES),
        *((f"data of {task}", fingerprint[:16]) for task, fingerprint in first.data.items()),
        *((f"models of {task}", ", ".join(jobs)) for task, jobs in members.items()),
        ("target labels", labels),
    ]


def templates() -> Environment:
    """Return the templates, with the filters and functions that they use."""
    environment = Environment(
        loader=PackageLoader("iimt_search.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "ensure_ascii": False}
    environment.filters |= {"text": text, "data_uri": data_uri, "is_large": is_large, "plot": _plot}
    environment.filters |= {"arrow": arrow, "number": number}
    environment.globals |= {"answer": _answer, "configuration": _configuration, "confidence": _confidence}
    environment.globals |= {"candidate_table": _candidate_table, "score_table": _score_table}
    environment.globals["trials_and_budget"] = trials_and_budget
    return environment


def render(parts: Sequence[Part], place: str, state: str, written: datetime | None = None) -> str:
    """Return the report of one part, or of one for each task, as one page that fetches nothing.

    ``place`` and ``state`` tell people where the study lies and whether it runs now; it is ``written`` now by
    default.
    """
    space = parts[0].record.space
    at = (written or datetime.now(UTC)).isoformat(timespec="seconds")
    page = templates().get_template("report.html")
    return page.render(
        title=f"Study {space.study}",
        study=space.study,
        parts=parts,
        tasks=[task for part in parts for task in part.tasks],
        state=state,
        written=at,
        provenance=_provenance([part.record for part in parts], place, at),
        space=yaml.safe_dump(space.canonical(), sort_keys=False, allow_unicode=True),
        plotly=get_plotlyjs(),
    )


def render_audit(content: Mapping[str, Any]) -> str:
    """Return what :func:`iimt_search.auditing.measure.audit_json` does as one page that fetches nothing.

    It shows accuracies, and each validator's gap to the oracle.
    """
    drawings = [draw_accuracies(content["tasks"]), draw_picks(content["tasks"])]
    page = templates().get_template("audit.html")
    return page.render(
        title=f"Study {content['study']}: measured with the target's test labels, after the choice",
        drawings=[drawing for drawing in drawings if drawing is not None],
        plotly=get_plotlyjs(),
    )
