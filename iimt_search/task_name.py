"""Names of domain tasks: ``source->target``."""

import re
from typing import NamedTuple


class TaskName(NamedTuple):
    """A domain task's two domains."""

    source: str
    target: str

    def __str__(self) -> str:
        return f"{self.source}->{self.target}"


def slug(task: str) -> str:
    """Return a task's name as a folder's: ``a->b`` becomes ``a_to_b``, other signs become ``_``."""
    return re.sub(r"[^A-Za-z0-9._+-]+", "_", task.replace("->", "_to_")).strip("_.") or "task"


def parse_task_name(text: str) -> TaskName:
    """Parse ``source->target`` (or with ``→``; spaces around the arrow are allowed).

    Raises:
        ValueError: there is not one arrow with a name on each side, or both sides are the same.
    """
    parts = [part.strip() for part in text.replace("→", "->").split("->")]
    if len(parts) != 2 or not all(parts):
        raise ValueError(f"a task is named 'source->target', got {text!r}")
    if parts[0] == parts[1]:
        raise ValueError(f"source and target must differ, got {text!r}")
    return TaskName(*parts)
