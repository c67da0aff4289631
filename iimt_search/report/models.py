"""The page of a choice among models that others trained: tables only, without a script."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from iimt_search.files import shown, write_text
from iimt_search.judging.judge import ModelChoice
from iimt_search.report.figures.drawing import Table, number
from iimt_search.report.page import templates

_KINDS = {"model": "good", "baseline": "open", "none": "doubt"}


def _candidates(choice: ModelChoice) -> Table:
    rows = tuple(
        (
            c.name + (" (baseline)" if c.name in choice.baselines else ""),
            number(c.mean),
            " ".join(number(s) for s in c.scores),
            number(c.agreement, ".2f"),
            c.veto,
        )
        for c in choice.candidates
    )
    return Table(("candidate", f"{choice.objective}, mean", "each file", "agreement κ", "veto"), rows)


def _scores(choice: ModelChoice) -> Table:
    names = list(choice.scores)
    rows = tuple(
        (validator, *(number(choice.scores[name][validator]) for name in names))
        for validator in choice.scores[names[0]]
    )
    return Table(("validator", *names), rows)


def _shares(choice: ModelChoice) -> Table:
    rows = tuple(
        (name, *(number(each[key], ".1%") for key in ("source", "target", "uncertainty")))
        for name, each in choice.shares.items()
    )
    return Table(("class", "share of the source", "estimated of the target", "models differ by"), rows)


def _ensemble(choice: ModelChoice) -> Table:
    rows = tuple((shown(m.path), m.candidate, number(m.weight, ".3f")) for m in choice.models)
    return Table(("file", "candidate", "weight"), rows)


def _accuracies(choice: ModelChoice, audit: Mapping[str, Any]) -> Table:
    rows: Sequence[tuple[str, float | None]] = [
        (f"{choice.candidate}, the choice", audit["tasks"]["target"]["choice"]["target_accuracy"]),
        ("all together", audit["ensemble"]),
        *((name, value) for name, value in audit["candidates"].items() if name != choice.candidate),
    ]
    return Table(("what", "accuracy, percent"), tuple((name, number(v, ".1f")) for name, v in rows))


def write_models_page(choice: ModelChoice, path: Path, audit: Mapping[str, Any] | None = None) -> None:
    """Write a choice as a page that fetches nothing, with what an audit measured as its JSON values.

    The folder is made where absent.
    """
    tables = [
        ("Candidates", _candidates(choice)),
        ("Label-free scores, mean over a candidate's files", _scores(choice)),
        ("How much each model counts in the ensemble", _ensemble(choice)),
    ]
    if choice.shares:
        tables.insert(1, ("Shares of the classes", _shares(choice)))
    measured = (
        [("Measured with the target's labels, after the choice", _accuracies(choice, audit))] if audit else []
    )
    page = templates().get_template("models.html")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(
        path,
        page.render(
            title="Models, judged without target labels",
            choice=choice,
            kind=_KINDS[choice.answer],
            tables=[*measured, *tables],
            plotly="",
        ),
    )
