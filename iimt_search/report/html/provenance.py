"""What made the numbers: space, data, seeds, versions."""

import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version

import yaml

from iimt_search import __version__
from iimt_search.report.html.elements import details, pairs, text
from iimt_search.report.record import StudyRecord

_PACKAGES = ("torch", "optuna", "numpy", "scikit-learn", "plotly")


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def provenance(records: Sequence[StudyRecord], place: str, written: str) -> str:
    """Return the provenance of a report as HTML.

    Args:
        records: its Optuna studies.
        place: where they lie.
        written: when this report was written.
    """
    first = records[0]
    space = yaml.safe_dump(first.space.canonical(), sort_keys=False, allow_unicode=True)
    members = {
        task: ", ".join(jobs)
        for record in records
        if record.choice is not None
        for task, jobs in record.choice.members.items()
    }
    audit = first.audit
    content = [
        ("report written", written),
        ("study", f"{first.space.study}, in {place}"),
        ("seed", str(first.space.seed)),
        ("iimt-search", f"{__version__}, which wrote this report"),
        ("Python", platform.python_version()),
        *((name, _version(name)) for name in _PACKAGES),
        *((f"data of {task}", found[:16]) for task, found in first.data.items()),
        *((f"models of {task}", jobs) for task, jobs in members.items()),
        ("target labels", "not read" if audit is None else "read by `iimt-search audit`, after the choice"),
    ]
    return pairs(content) + details("The whole space file", f"<pre>{text(space)}</pre>")
