"""What an audit leaves in the study's folder, for the report: nothing of it is read before the choice."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from iimt_search.auditing.measure import TaskAudit
from iimt_search.errors import ModelFileError
from iimt_search.files import write_text
from iimt_search.records import Choice

SCHEMA = 1
_NAME = "audit.json"


@dataclass(frozen=True)
class AuditRecord:
    """A stored audit.

    Attributes:
        digests: of the choices that it measured.
        content: what :func:`iimt_search.auditing.measure.audit_json` returned.
        accuracies: task → job → target test accuracy of its last kept checkpoint, in percent.
        confusion: task → true class → predicted class → test samples, of what is handed out.
    """

    digests: tuple[str, ...]
    content: Mapping[str, Any]
    accuracies: Mapping[str, Mapping[str, float]]
    confusion: Mapping[str, Sequence[Sequence[int]]]


def write_audit(
    folder: Path, content: Mapping[str, Any], audits: Mapping[str, TaskAudit], choices: Sequence[Choice]
) -> None:
    """Store an audit of some choices in a study's folder: task → what was measured, and it as JSON values."""
    stored = {
        "schema": SCHEMA,
        "digests": [choice.digest for choice in choices],
        "content": content,
        "accuracies": {task: audit.accuracies for task, audit in audits.items()},
        "confusion": {task: audit.confusion for task, audit in audits.items() if audit.confusion},
    }
    write_text(folder / _NAME, json.dumps(stored, allow_nan=False) + "\n")


def read_audit(folder: Path) -> AuditRecord | None:
    """Return the audit in a study's folder; None where there is none of this version.

    Raises:
        ModelFileError: the file is damaged.
    """
    path = folder / _NAME
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        if stored["schema"] != SCHEMA:
            return None
        return AuditRecord(
            tuple(stored["digests"]), stored["content"], stored["accuracies"], stored["confusion"]
        )
    except FileNotFoundError:
        return None
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise ModelFileError(f"{path} is damaged: {error!r}; `iimt-search audit` writes it anew") from error
